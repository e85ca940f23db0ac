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
    some = min(size.held, 100_000)  # a million at once take 6 GB
    return [
        Figure(PART, f"{size.tokenised:,} tweets", "tweets/s", rates, least=A_MINUTE),
        Figure(PART, f"memory, {size.held:,} tweets", "bytes/tweet", [apart(size.held, AT_ONCE)], most=500),
        Figure(PART, f"memory, {some:,} tweets at once", "bytes/tweet", [apart(some, some)]),
    ]


def apart(count: int, at_once: int) -> float:
    """Return `held` for each text, in a process of its own, which has no memory left over to use again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(held, count, at_once).result() / count


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
