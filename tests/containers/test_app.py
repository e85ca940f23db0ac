"""The app keeps SageMaker's contract, and answers while it works."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.testclient import TestClient

from containers.serve.app import SHORT, cores, create_app
from containers.serve.formats import MAX_BYTES
from containers.serve.predictor import Predictor
from tests.bundles import LABELS, build_bundle

HEADER = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    build_bundle(folder)
    (folder / "version").write_text("7\n")
    return folder


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor(bundle)


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> TestClient:
    return TestClient(create_app(predictor, "3"), raise_server_exceptions=False)


def test_ping(client: TestClient, predictor: Predictor) -> None:
    response = client.get("/ping")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": "3", "digest": predictor.digest, "labels": LABELS}


def test_invocations(client: TestClient, predictor: Predictor) -> None:
    response = client.post("/invocations", json=["I love it", "I hate it"])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"predictions": predictor.predict(["I love it", "I hate it"])}
    assert response.headers[HEADER] == f"version=3;digest={predictor.digest[:12]}"


def test_answers_in_the_form_that_is_accepted(client: TestClient, predictor: Predictor) -> None:
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    response = client.post("/invocations", content="text\ngreat\n", headers=headers)
    assert response.headers["content-type"].startswith("text/csv")
    prediction = predictor.predict(["great"])[0]
    assert response.text == f"{','.join(prediction)}\r\n{','.join(map(str, prediction.values()))}\r\n"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "message"),
    [
        ("POST", "/invocations", {"Content-Type": "application/json"}, b"{", 400, "not JSON"),
        ("POST", "/invocations", {"Content-Type": "application/json"}, b"[]", 400, "no text"),
        ("POST", "/invocations", {"Content-Type": "text/plain"}, b"\xff", 400, "not UTF-8"),
        ("POST", "/invocations", {"Content-Type": "image/png"}, b"x", 415, "Content-Type"),
        ("POST", "/invocations", {}, b"x", 415, "Content-Type"),
        ("POST", "/invocations", {"Accept": "image/png"}, b"x", 406, "Accept"),
        ("GET", "/invocations", {}, b"", 405, "no GET /invocations: use GET /ping or POST /invocations"),
        ("POST", "/ping", {}, b"", 405, "no POST /ping: use GET /ping"),
        ("GET", "/predict", {}, b"", 404, "no GET /predict: use GET /ping or POST /invocations"),
    ],
)
def test_errors(
    client: TestClient,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    message: str,
) -> None:
    response = client.request(method, path, headers=headers, content=body)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]
    if status == 405:
        assert "Allow" in response.headers


def test_failures_are_not_explained_to_clients(bundle: Path) -> None:
    class Broken(Predictor):
        def predict(self, texts: object) -> Any:
            raise RuntimeError("inside")

    client = TestClient(create_app(Broken(bundle), "3"), raise_server_exceptions=False)
    response = client.post("/invocations", json="a")
    assert response.status_code == 500
    assert response.json() == {"error": "The server failed: its log says why."}


def test_largest_body(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    assert client.post("/invocations", content=b" " * MAX_BYTES, headers=headers).status_code == 200
    response = client.post("/invocations", content=b" " * (MAX_BYTES + 1), headers=headers)
    assert response.status_code == 413
    assert "6,291,456 bytes" in response.json()["error"]


@pytest.mark.parametrize("declared", [[], [(b"content-length", b"9")]])
def test_endless_body(predictor: Predictor, declared: list[tuple[bytes, bytes]]) -> None:
    read = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 2**16
        assert read < 3 * MAX_BYTES, "the app reads on and on"
        return {"type": "http.request", "body": b"a" * 2**16, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"text/plain"), *declared]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "headers": headers,
        "query_string": b"",
    }
    asyncio.run(create_app(predictor, "3")(scope, receive, send))
    assert sent[0]["status"] == 413
    assert MAX_BYTES < read <= 2 * MAX_BYTES + 2**16


def test_ping_answers_during_a_long_batch(bundle: Path) -> None:
    began, finish = threading.Event(), threading.Event()

    class Slow(Predictor):
        def predict(self, texts: object) -> Any:
            began.set()
            assert finish.wait(10)
            return super().predict(["a"])

    async def scenario() -> None:
        transport = httpx.ASGITransport(create_app(Slow(bundle), "3"))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            batch = asyncio.create_task(client.post("/invocations", json=["a" * SHORT]))
            while not began.is_set():
                await asyncio.sleep(0.01)
            assert (await client.get("/ping")).status_code == 200
            assert not batch.done()
            finish.set()
            assert (await batch).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("version", ["", "a b", "3\r\nX: y", "ü", "1" * 65])
def test_version_must_fit_into_a_header(predictor: Predictor, version: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        create_app(predictor, version)


# The process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(*arguments: str, port: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "containers.serve.app", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None)
        yield process
    finally:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()
        process.communicate()


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_serve_as_sagemaker_calls_it(bundle: Path) -> None:
    port = free_port()
    with running("serve", "--bundle", str(bundle), port=port, SAGEMAKER_BIND_TO_PORT=str(port)) as process:
        reply = httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).json()
        assert reply["version"] == "7", "without --version, the file beside the bundle tells it"

        result: list[httpx.Response] = []

        def invoke() -> None:
            url, body = f"http://127.0.0.1:{port}/invocations", json.dumps(["a"] * 150_000)
            headers = {"Content-Type": "application/json"}
            result.append(httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False))

        batch = threading.Thread(target=invoke)
        batch.start()
        time.sleep(0.5)
        assert batch.is_alive(), "the batch is too short for this test"
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not answers(port))
        batch.join(30)
        assert result and len(result[0].json()["predictions"]) == 150_000, (
            "SIGTERM must not cut a request off"
        )
        process.wait(10)


def test_a_process_a_core(bundle: Path) -> None:
    port = free_port()
    command = ("serve", "--bundle", str(bundle), "--port", str(port), "--workers", "2")
    with running(*command, port=port) as process:

        def workers() -> list[psutil.Process]:
            found = []
            for child in psutil.Process(process.pid).children():
                with suppress(psutil.NoSuchProcess):  # a zombie, too
                    if "multiprocessing.spawn" in " ".join(child.cmdline()):
                        found.append(child)
            return found

        wait_until(lambda: len(workers()) == 2)
        killed = workers()[0]
        killed.kill()
        wait_until(lambda: len(workers()) == 2 and killed not in workers())
        wait_until(lambda: answers(port))
        children = workers()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_cores_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cores(tmp_path) == expected


def test_port_in_use(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "containers.serve.app", "--bundle", str(bundle), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} of 127.0.0.1 is in use" in done.stderr and "--port" in done.stderr


def test_no_bundle(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "containers.serve.app", "--bundle", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "bundle.json is missing" in done.stderr
