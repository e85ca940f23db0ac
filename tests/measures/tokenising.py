"""Tokenising: tweets/s on all cores, and the memory that it takes."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Event, Thread

import polars as pl
import psutil

from tasks.tokens import AT_ONCE, encode
from tests.measures.figures import Figure, Size, timed
from tests.measures.made_up import offline_tokenizer, texts

PART = "tokenising, all cores"
A_MINUTE = 1_000_000 / 60  # tweets/s, for a million


def measure(size: Size) -> list[Figure]:
    """Return tweets/s, and the bytes that a tweet takes at most while rows become wordpieces, by two ways."""
    tokenizer = offline_tokenizer()
    tweets = texts(size.tokenised, 1)
    rates = [len(tweets) / timed(lambda: encode(tokenizer, tweets)) for _ in range(size.rounds)]
    held = [[apart(size.held, at_once) / size.held for at_once in (AT_ONCE, size.held)] for _ in range(3)]
    parts, whole = zip(*held, strict=True)
    name = f"memory for each of {size.held:,} tweets"
    return [
        Figure(PART, f"{size.tokenised:,} tweets", "tweets/s", rates, least=A_MINUTE),
        Figure(PART, name, "bytes/tweet", parts),
        Figure(PART, f"{name}, all encoded at once", "bytes/tweet", whole),
    ]


def apart(count: int, at_once: int) -> int:
    """Return the peak of `held` in a process of its own, which has no memory left over to use again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(held, count, at_once).result()


def held(count: int, at_once: int) -> int:
    """Return by how many bytes a process grows at most while texts in columns become wordpieces."""
    tokenizer, column = offline_tokenizer(), pl.Series(texts(count, 1))
    encode(tokenizer, column[:100])
    with most_memory() as memory:
        encode(tokenizer, column, at_once)
    return memory[0]


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
