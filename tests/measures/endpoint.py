"""Serving over HTTP: the app on one core, its clients on another."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import uvloop

from tests.measures.client import ROOT, Connection, closed, free_port, paced, request, wait_for
from tests.measures.figures import Figure, Rounds, Size
from tests.measures.made_up import texts

PART = "serving over HTTP, one core"
CONNECTIONS = 4
WAITING = 32  # connections of the paced client: as many requests can wait in the server
BATCHES = (64, 256)


def measure(size: Size, folder: Path) -> list[Figure]:
    """Return what the app answers a second, how late, how soon after its start, and its memory.

    Args:
        size: How much is measured.
        folder: See `tests.measures.serving.write_bundles`.
    """
    tweets = texts(16 * max(BATCHES), 3)
    single = cycle([request([text]) for text in tweets])
    batches = {
        count: cycle([request(tweets[start : start + count]) for start in range(0, len(tweets), count)])
        for count in BATCHES
    }
    seconds = 2 * size.seconds
    found = Rounds()
    with cores() as places:
        for _ in range(size.rounds):
            with serving(folder / "int8", places) as (port, first, process):
                found.add("first", first)
                found.add("memory at first", memory(process) / 1e6)
                uvloop.run(closed(port, single, seconds / 4, CONNECTIONS))  # warm-up
                found.add("requests", uvloop.run(closed(port, single, seconds, CONNECTIONS)))
                for count, contents in batches.items():
                    rate = uvloop.run(closed(port, contents, seconds, CONNECTIONS))
                    found.add(f"batches of {count}", count * rate)
                rate = found["requests"][-1] / 2
                late = uvloop.run(paced(port, single, rate, seconds, WAITING))
                found.add("p50", 1e3 * float(np.percentile(late, 50)))
                found.add("p99", 1e3 * float(np.percentile(late, 99)))
                found.add("memory at last", memory(process) / 1e6)
    return list(_figures(found))


def _figures(found: Rounds) -> Iterator[Figure]:
    yield Figure(PART, "one text a request, 4 connections", "requests/s", found["requests"], least=2000)
    for count in BATCHES:
        name = f"batches of {count}"
        yield Figure(PART, name, "tweets/s", found[name], least=8000)
    yield Figure(PART, "p50 at half of those requests", "ms", found["p50"])
    yield Figure(PART, "p99 at half of those requests", "ms", found["p99"], most=15)
    yield Figure(PART, "first answer after the start", "s", found["first"], most=0.3)
    yield Figure(PART, "memory after the first answer", "MB", found["memory at first"])
    yield Figure(PART, "memory after all requests", "MB", found["memory at last"], most=150)


def memory(process: psutil.Process) -> int:
    """Return the bytes that are a process' share (PSS), or all that it holds if the system does not say."""
    told = process.memory_full_info()
    return int(getattr(told, "pss", 0) or told.rss)


@contextmanager
def cores() -> Iterator[tuple[list[int], list[int]]]:
    """Give the cores of the server and of its clients, and put this thread back where it was.

    On one core, or where a process cannot be kept to one, both are empty: nobody is moved.
    """
    before: list[int] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    try:
        yield (before[:1], before[1:]) if len(before) > 1 else ([], [])
    finally:
        _move(before)


def _move(places: list[int]) -> None:
    if places:
        os.sched_setaffinity(0, places)


@contextmanager
def serving(bundle: Path, places: tuple[list[int], list[int]]) -> Iterator[tuple[int, float, Any]]:
    """Give the port of a server that has answered, the seconds from its start until then, and its process.

    Args:
        bundle: What it serves.
        places: See `cores`.
    """
    port = free_port()
    command = [sys.executable, "-m", "containers.serve.app", "--bundle", str(bundle), "--port", str(port)]
    question = request(["a text"])

    async def ask() -> None:
        connection = await Connection.open(port)
        await connection.ask(question)
        connection.close()

    with TemporaryFile() as log:
        _move(places[0])  # what is started inherits it
        start = perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        _move(places[1])
        try:
            wait_for(lambda: uvloop.run(ask()), process, log, 0.002)
            yield port, perf_counter() - start, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)
