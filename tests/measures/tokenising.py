"""Tokenising: tweets/s on all cores, and the memory that it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psutil

from tasks.tokens import encode
from tests.measures.figures import Figure, Size, timed
from tests.measures.made_up import offline_tokenizer, texts

PART = "tokenising, all cores"
A_MINUTE = 1_000_000 / 60  # tweets/s, for a million


def measure(size: Size) -> list[Figure]:
    """Return tweets/s, and the most bytes that a tweet took, those of what comes out among them."""
    tokenizer = offline_tokenizer()
    tweets = texts(size.tokenised, 1)
    with most_memory() as memory:
        encode(tokenizer, tweets)  # the first time, when no memory is left over that could be used again
    rates = [len(tweets) / timed(lambda: encode(tokenizer, tweets)) for _ in range(size.rounds)]
    return [
        Figure(PART, f"{size.tokenised:,} tweets", "tweets/s", rates, least=A_MINUTE),
        Figure(PART, "memory at its peak", "kB/tweet", [memory[0] / len(tweets) / 1e3]),
    ]


@contextmanager
def most_memory(every: float = 0.005) -> Iterator[list[int]]:
    """Give a list that holds, after the block, by how many bytes this process grew within it at most."""
    process, done, found = psutil.Process(), Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(every):
            found[0] = max(found[0], process.memory_info().rss - before)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
