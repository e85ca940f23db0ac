"""Clients over HTTP: one light enough to keep a server busy from one core, and one of MLflow's server."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 120  # to wait for a server


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def request(texts: list[str]) -> bytes:
    """Return a whole request to answer texts."""
    body = json.dumps(texts).encode()
    return (
        b"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


class Connection(asyncio.Protocol):
    """A connection that is kept: asks one request at a time, and reads no more of an answer than it must."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[None] | None = None
        self._received = b""

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Return one to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, content: bytes) -> None:
        """Send a request and wait for the whole answer.

        Raises:
            ConnectionError: It is not 200, or the server closed the connection.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        await self._answer

    def close(self) -> None:
        """Close the connection."""
        self._answer = None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = b""
        if lower.startswith(b"http/1.1 200"):
            self._end(None)
        else:
            self._end(ConnectionError(f"The server answered {head[:20]!r}: {body[:200]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ConnectionError("The server closed the connection."))

    def _end(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and error is None:
            answer.set_result(None)
        elif answer is not None:
            answer.set_exception(cast(Exception, error))


async def closed(port: int, contents: Iterator[bytes], seconds: float, connections: int) -> float:
    """Return answers/s to so many clients, each of which asks again as soon as it has its answer."""
    clients = [await Connection.open(port) for _ in range(connections)]
    count, start = 0, time.perf_counter()

    async def client(connection: Connection) -> None:
        nonlocal count
        while time.perf_counter() - start < seconds:
            await connection.ask(next(contents))
            count += 1

    await asyncio.gather(*map(client, clients))
    rate = count / (time.perf_counter() - start)
    for connection in clients:
        connection.close()
    return rate


async def paced(
    port: int, contents: Iterator[bytes], rate: float, seconds: float, connections: int
) -> list[float]:
    """Return the seconds until each answer to requests that come at a rate, whether or not others wait.

    They count from when a request is due, so one that has to wait for others has waited.
    """
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    every = [await Connection.open(port) for _ in range(connections)]
    for connection in every:
        idle.put_nowait(connection)
    found: list[float] = []

    async def ask(content: bytes, due: float) -> None:
        connection = await idle.get()
        await connection.ask(content)
        found.append(time.perf_counter() - due)
        idle.put_nowait(connection)

    tasks = []
    start = time.perf_counter()
    for number in range(max(3, round(rate * seconds))):
        due = start + number / rate
        while time.perf_counter() < due:
            await asyncio.sleep(0)  # a timer is a millisecond late; the core is the client's own
        tasks.append(asyncio.create_task(ask(next(contents), due)))
    await asyncio.gather(*tasks)
    for connection in every:
        connection.close()
    return found


def wait_for(
    name: str, ready: Callable[[], object], runs: Callable[[], bool], log: Callable[[], bytes], pause: float
) -> None:
    """Try until a server answers.

    Args:
        name: Of it.
        ready: Asks it.
        runs: Tells whether it still runs.
        log: Returns what it has said.
        pause: Seconds between two tries.

    Raises:
        RuntimeError: It does not run any more, or takes too long; says what is in its log.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            ready()
            return
        except (OSError, http.client.HTTPException) as error:
            if not runs() or time.monotonic() > deadline:
                said = log().decode(errors="replace")[-2000:]
                raise RuntimeError(f"{name} does not answer ({error}):\n{said}") from error
        time.sleep(pause)


class MlflowClient:
    """MLflow's own server of a bundle's model, as a context, and a connection to it that is kept.

    Args:
        bundle: Folder of the bundle.
        folder: Where the model goes; must not exist.
    """

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._bundle, self._folder, port = bundle, folder, free_port()
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def __enter__(self) -> "MlflowClient":
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        mlflow.pyfunc.save_model(
            str(self._folder),
            python_model=str(ROOT / "containers" / "serve" / "model.py"),
            artifacts={"bundle": str(self._bundle)},
            signature=ModelSignature(Schema([ColSpec(DataType.string, "text")])),
            pip_requirements=["mlflow"],
        )
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(self._folder)]
        command += ["--env-manager", "local", "--workers", "1", "--port", str(self._port)]
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls uvicorn
        self._log = TemporaryFile()
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": scripts},
            cwd=self._folder,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            wait_for(
                *("MLflow's server", lambda: self.ask(["a text"]), lambda: self._process.poll() is None),
                *(self._said, 0.2),
            )
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)
        self._log.close()

    def _said(self) -> bytes:
        self._log.seek(0)
        return self._log.read()

    def ask(self, texts: list[str]) -> Any:
        """Return its answer to texts.

        Raises:
            ConnectionError: It is not 200.
        """
        body = json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}})
        try:
            status, content = self._post(body)
        except ConnectionError:  # the server has closed it, as nothing was asked for some seconds
            status, content = self._post(body)
        if status != 200:
            raise ConnectionError(f"MLflow's server answered {status}: {content[:200]!r}")
        return json.loads(content)

    def _post(self, body: str) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens it anew
            raise
