"""Serving over HTTP: the app, by itself or in its container, on one core, and its clients on another."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter

import numpy as np
import psutil
import uvloop

from tests.measures.client import ROOT, Connection, closed, free_port, paced, request, wait_for
from tests.measures.figures import Figure, Rounds, Size
from tests.measures.made_up import texts

PART = "serving over HTTP, one core"
CONNECTIONS = 4
WAITING = 32  # connections of the paced client: as many requests can wait in the server
SMALL = 64
BATCHES = (SMALL, 256)


Memory = Callable[[], float]
"""Returns the bytes that a server holds."""


def measure(size: Size, folder: Path, image: str | None = None) -> list[Figure]:
    """Return what the app answers a second, how late, how soon after its start, and its memory.

    Args:
        size: How much is measured.
        folder: See `tests.measures.serving.write_bundles`.
        image: Has the app, and is run by Docker; None starts the app from this environment.
    """
    gc.disable()  # it would stop the client for a tenth of a second or more, which then counts as lateness
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
            server = contained(image, folder / "int8", places) if image else serving(folder / "int8", places)
            with server as (port, first, memory):
                found.add("first", first)
                found.add("memory at first", memory() / 1e6)
                uvloop.run(closed(port, single, seconds / 4, CONNECTIONS))  # warm-up
                found.add("requests", uvloop.run(closed(port, single, seconds, CONNECTIONS)))
                for count, contents in batches.items():
                    rate = uvloop.run(closed(port, contents, seconds, CONNECTIONS))
                    found.add(f"batches of {count}", count * rate)
                halves = {
                    "one text a request": (single, found["requests"][-1] / 2),
                    f"batches of {SMALL}": (batches[SMALL], found[f"batches of {SMALL}"][-1] / SMALL / 2),
                }
                for name, (contents, rate) in halves.items():
                    late = uvloop.run(paced(port, contents, rate, seconds, WAITING))
                    for share in (50, 99):
                        found.add(f"{name}, p{share}", 1e3 * float(np.percentile(late, share)))
                found.add("memory at last", memory() / 1e6)
    return list(_figures(found, f"{PART}, in a container" if image else PART, list(halves)))


def _figures(found: Rounds, part: str, halved: Sequence[str]) -> Iterator[Figure]:
    yield Figure(part, "one text a request, 4 connections", "requests/s", found["requests"], least=2000)
    for count in BATCHES:
        name = f"batches of {count}"
        yield Figure(part, name, "tweets/s", found[name], least=8000)
    for name in halved:
        yield Figure(part, f"{name}, p50 at half of that", "ms", found[f"{name}, p50"])
        yield Figure(part, f"{name}, p99 at half of that", "ms", found[f"{name}, p99"], most=15)
    yield Figure(part, "first answer after the start", "s", found["first"], most=0.3)
    yield Figure(part, "memory after the first answer", "MB", found["memory at first"])
    yield Figure(part, "memory after all requests", "MB", found["memory at last"], most=150)


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
def serving(bundle: Path, places: tuple[list[int], list[int]]) -> Iterator[tuple[int, float, Memory]]:
    """Give the port of a server that has answered, the seconds from its start until then, and its memory.

    The memory is its share (PSS), or all that it holds if the system does not say.

    Args:
        bundle: What it serves.
        places: See `cores`.
    """
    port = free_port()
    command = [sys.executable, "-m", "containers.serve.app", "--bundle", str(bundle), "--port", str(port)]
    with TemporaryFile() as log:
        _move(places[0])  # what is started inherits it
        start = perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        _move(places[1])

        def memory() -> float:
            told = psutil.Process(process.pid).memory_full_info()
            return float(getattr(told, "pss", 0) or told.rss)

        def said() -> bytes:
            log.seek(0)
            return log.read()

        try:
            wait_for("The app", lambda: _ask(port), lambda: process.poll() is None, said, 0.002)
            yield port, perf_counter() - start, memory
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def contained(
    image: str, bundle: Path, places: tuple[list[int], list[int]]
) -> Iterator[tuple[int, float, Memory]]:
    """Give the port of a container that has answered, the seconds from its start until then, and its memory.

    It has one core, and may write nothing. The memory is that of its control group without files that the
    kernel can drop, as `docker stats` tells it.

    Args:
        image: See `tasks.image.serving_image`.
        bundle: What it serves, instead of the image's own.
        places: See `cores`; where both are empty, it has one core's time.
    """
    import docker

    port = free_port()
    place = {"cpuset_cpus": str(places[0][0])} if places[0] else {"nano_cpus": 10**9}
    _move(places[1])
    with closing(docker.from_env()) as engine:
        container = engine.containers.create(
            image,
            "serve",
            environment={"SAGEMAKER_BIND_TO_PORT": str(port)},
            network_mode="host",
            read_only=True,
            user=f"{os.getuid()}:{os.getgid()}",  # whose bundle it is
            volumes={str(bundle): {"bind": "/opt/ml/model", "mode": "ro"}},
            **place,
        )

        def memory() -> float:
            told = container.stats(stream=False)["memory_stats"]
            files = told["stats"].get("total_inactive_file", told["stats"].get("inactive_file", 0))
            return float(told["usage"] - files)

        try:
            start = perf_counter()
            container.start()
            container.reload()
            process = int(container.attrs["State"]["Pid"])  # 0 if it has ended

            def runs() -> bool:
                return process > 0 and psutil.pid_exists(process)

            wait_for(image, lambda: _ask(port), runs, container.logs, 0.002)
            yield port, perf_counter() - start, memory
        finally:
            container.remove(force=True)


def find(image: str) -> None:
    """Make sure that an engine of this machine has an image.

    Raises:
        DockerException: It has not, or there is none.
    """
    import docker

    with closing(docker.from_env()) as engine:
        engine.images.get(image)


def _ask(port: int) -> None:
    async def ask() -> None:
        connection = await Connection.open(port)
        await connection.ask(request(["a text"]))
        connection.close()

    uvloop.run(ask())
