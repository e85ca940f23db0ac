"""Tokenising: tweets/s on all cores, and the memory from the warehouse to what a network is fit on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import polars as pl
import psutil

from blocks.warehouse import DuckDBWarehouse
from tasks import material, rows
from tasks.tokens import encode
from tasks.training import TrainParameters
from tests.measures import made_up
from tests.measures.figures import Figure, Size, timed
from tests.tweets import tweets

PART = "tokenising, all cores"
A_MINUTE = 1_000_000 / 60  # tweets/s, for a million
BATCH = 10_000


def measure(size: Size) -> list[Figure]:
    """Return tweets/s, the memory for many rows, and how much more that is for each than for fewer."""
    tokenizer, made = made_up.offline_tokenizer(), made_up.texts(size.tokenised, 1)
    rates = [len(made) / timed(lambda: encode(tokenizer, made)) for _ in range(size.rounds)]
    few, many = size.held
    less, most = (needed(count) for count in size.held)
    return [
        Figure(PART, f"{size.tokenised:,} tweets", "tweets/s", rates, least=A_MINUTE),
        Figure(PART, f"memory, {many:,} rows", "MB", [most / 1e6]),
        Figure(PART, f"growth from {few:,} rows", "bytes/tweet", [(most - less) / (many - few)], most=100),
    ]


def needed(count: int) -> int:
    """Return `held` for a new warehouse with so many rows to train on and a ninth to validate."""
    with TemporaryDirectory() as scratch:
        warehouse = DuckDBWarehouse(path=str(Path(scratch) / "warehouse.duckdb"))
        _apart(fill, warehouse, count)
        return int(_apart(held, warehouse))


def _apart(action: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a process of its own returns, which has no memory left over to use again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(action, *arguments).result()


def fill(warehouse: DuckDBWarehouse, count: int) -> None:
    """Load so many made-up rows, in an order that is not that of their ids."""
    template = tweets(train=9 * BATCH // 10, validation=BATCH // 10, test=0)

    def frames() -> Iterator[pl.DataFrame]:
        for start in range(0, count, BATCH):
            made = template.with_columns(
                pl.format("{}:{}", pl.col("id").str.reverse(), start).alias("id"),
                text=pl.Series(made_up.texts(BATCH, start)),
            )
            yield made[: count - start]

    warehouse.merge(frames())


def held(warehouse: DuckDBWarehouse) -> int:
    """Return by how many bytes a process grows at most while rows become what a network is fit on."""
    encode(made_up.offline_tokenizer(), made_up.texts(100, 1))
    recipe = TrainParameters(network="stacked")  # no embeddings, which take the same for any rows
    with most_memory() as memory:
        numbers = material.prepare(recipe, rows.read_labelled(warehouse, recipe.labels))
    assert len(numbers.train.targets) > 0
    return memory[0]


@contextmanager
def most_memory(every: float = 0.005) -> Iterator[list[int]]:
    """Give a list that holds, after the block, by how many bytes this process grew within it at most.

    What lies in files of the disk does not count: the kernel drops it where memory is short.
    """
    process, done, found = psutil.Process(), Event(), [0]

    def taken() -> int:
        memory = process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))

    before = taken()

    def watch() -> None:
        while not done.wait(every):
            found[0] = max(found[0], taken() - before)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
