"""The local endpoint with real processes: what answers is always one whole, checked version, or nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.endpoint import Check, Deployment, EndpointError, Predict, Release, invoke
from blocks.process import LocalEndpoint
from blocks.role import ROOT
from tasks.endpoint import SmokeTestError, smoke_test
from tests.bundles import build_bundle


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def servers(folder: Path) -> list[int]:
    """Return the ids of all living processes that name `folder`."""
    found = psutil.process_iter(["cmdline"])
    return [
        p.pid
        for p in found
        if "serve.app" in (line := " ".join(p.info["cmdline"] or [])) and str(folder) in line
    ]


def release(folder: Path, version: str, digest: str) -> Release:
    def image() -> str:
        raise AssertionError("a process needs no image")

    return Release(folder, version, digest, image)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    yield LocalEndpoint(port=free_port(), folder=str(tmp_path / "endpoint"), timeout=20)
    for pid in servers(tmp_path):
        psutil.Process(pid).kill()


@pytest.fixture
def deploy(endpoint: LocalEndpoint, tmp_path: Path) -> Callable[..., Deployment]:
    """Deploy a good bundle, that is gone afterwards."""

    def call(version: str, check: Check = smoke_test) -> Deployment:
        folder = tmp_path / "source" / version
        digest = build_bundle(folder, version=version)
        return endpoint.deploy(release(folder, version, digest), check)

    return call


def state(endpoint: LocalEndpoint) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((Path(endpoint.folder) / "endpoint.json").read_bytes())
    return record


def bundles(endpoint: LocalEndpoint) -> list[str]:
    return sorted(path.name.split("-")[0] for path in (Path(endpoint.folder) / "bundles").iterdir())


Deploy = Callable[..., Deployment]


def test_life_of_an_endpoint(
    endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert endpoint.serving() is None
    assert endpoint.stop() is False

    first = deploy("1")
    assert first.url == f"http://127.0.0.1:{endpoint.port}"
    assert first.page == f"{first.url}/ping"
    assert endpoint.serving() == first
    assert endpoint.predict(["I love it", "\ud800", "I hate it"])[2]["label"] == "negative"
    assert endpoint.predict([]) == []
    pid = state(endpoint)["pid"]
    assert servers(tmp_path) == [pid], "the candidate must be gone"
    assert os.getsid(pid) != os.getsid(0), "it must survive the session of the flow"
    assert "AWS_SECRET_ACCESS_KEY" not in psutil.Process(pid).environ()

    def never(_: Predict) -> None:
        raise AssertionError("nothing is to be checked")

    assert deploy("1", never) == first, "nothing to do"

    for version in ("2", "3"):
        assert deploy(version).version == version
    assert endpoint.serving() != first
    assert len(servers(tmp_path)) == 1
    assert bundles(endpoint) == ["2", "3"]

    assert endpoint.stop() is True
    assert endpoint.stop() is False
    assert endpoint.serving() is None
    assert servers(tmp_path) == []


def test_a_container_is_no_place_for_it(
    endpoint: LocalEndpoint, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIMENT_DEFAULTS", "off")
    with pytest.raises(EndpointError, match="would end with this container"):
        deploy("1")
    assert endpoint.serving() is None


def test_bad_candidates_leave_the_old_one(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    before = deploy("1")

    def refuse(ask: Predict) -> None:
        assert ask(["I love it"])[0]["label"] == "positive"
        assert endpoint.serving() == before
        assert len(servers(tmp_path)) == 2, "the candidate must run beside the old one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy("2", refuse)
    assert servers(tmp_path) == [state(endpoint)["pid"]], "the candidate must be gone"

    wrong = tmp_path / "wrong"
    with pytest.raises(SmokeTestError):
        endpoint.deploy(release(wrong, "3", build_bundle(wrong, flipped=True)), smoke_test)

    broken = tmp_path / "broken"
    digest = build_bundle(broken)
    (broken / "model.onnx").write_bytes(b"")
    with pytest.raises(EndpointError, match=r"version 4 at .* ended.*endpoint\.log.*model\.onnx was altered"):
        endpoint.deploy(release(broken, "4", digest), smoke_test)
    with pytest.raises(EndpointError, match="is to be deployed"):
        endpoint.deploy(release(broken, "5", "0" * 64), smoke_test)
    with pytest.raises(EndpointError, match="Cannot copy the bundle .*nowhere"):
        endpoint.deploy(release(tmp_path / "nowhere", "6", digest), smoke_test)
    with pytest.raises(EndpointError, match="letters, digits"):
        endpoint.deploy(release(broken, "../7", digest), smoke_test)

    assert endpoint.serving() == before
    assert servers(tmp_path) == [state(endpoint)["pid"]]
    assert bundles(endpoint) == ["1"]


def test_final_start_fails(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    def spoil(_: Predict) -> None:
        [copy] = (Path(endpoint.folder) / "bundles").glob("2-*")
        (copy / "model.onnx").write_bytes(b"")

    with pytest.raises(EndpointError, match="altered"):
        deploy("2", spoil)
    assert endpoint.serving() is None and servers(tmp_path) == []

    old = deploy("1")
    with pytest.raises(EndpointError, match="altered"):
        deploy("2", spoil)
    restored = endpoint.serving()
    assert restored and (restored.version, restored.digest) == (old.version, old.digest)
    assert endpoint.predict(["I hate it"])[0]["label"] == "negative"
    assert len(servers(tmp_path)) == 1


def test_killed_server_is_started_again(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    deploy("1")
    pid = state(endpoint)["pid"]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)])
    assert endpoint.serving() is None
    with pytest.raises(EndpointError, match=r"did not answer.*flows\.deploy"):
        endpoint.predict(["a"])
    assert deploy("1") == endpoint.serving()
    assert servers(tmp_path) == [state(endpoint)["pid"]] != [pid]


STEPS = {
    "while the candidate is checked": "check = lambda ask: die()",
    "after the old one ended": "LocalEndpoint._serve = lambda *_: die()",
    "before the new one is written down": "_Record.model_dump_json = lambda *_, **__: die()",
    "before the new one answers": "await_, n = LocalEndpoint._await, []\n"
    "LocalEndpoint._await = lambda *a: (n.append(1), await_(*a) if len(n) < 2 else die())",
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_deploy_is_healed_by_the_next(
    endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path, step: str
) -> None:
    before = deploy("1")
    source = tmp_path / "source" / "2"
    digest = build_bundle(source, version="2")
    code = (
        "import os, pathlib\n"
        "from blocks.process import LocalEndpoint, _Record\n"
        "from tasks.endpoint import smoke_test as check\n"
        "from tests.blocks.test_process import release\n"
        "die = lambda: os.kill(os.getpid(), 9)\n"
        f"{STEPS[step]}\n"
        f"endpoint = LocalEndpoint(port={endpoint.port}, folder={endpoint.folder!r})\n"
        f"endpoint.deploy(release(pathlib.Path({str(source)!r}), '2', {digest!r}), check)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if "candidate" in step:
        assert endpoint.serving() == before
        assert len(servers(tmp_path)) == 2, "the kill must leave something to heal"
    assert deploy("2") == endpoint.serving()
    assert servers(tmp_path) == [state(endpoint)["pid"]]
    assert endpoint.predict(["great"])[0]["label"] == "positive"


def test_three_deploys_at_once(endpoint: LocalEndpoint, tmp_path: Path) -> None:
    checking = threading.Lock()
    checked: list[Predict] = []

    def check(ask: Predict) -> None:
        assert checking.acquire(blocking=False), "two deploys act at once"
        checked.append(ask)
        smoke_test(ask)
        checking.release()

    done: list[Deployment] = []
    source = tmp_path / "source"
    digest = build_bundle(source)

    def deploy() -> None:
        done.append(endpoint.deploy(release(source, "1", digest), check))

    threads = [threading.Thread(target=deploy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(checked) == 1
    assert done == [endpoint.serving()] * 3
    assert len(servers(tmp_path)) == 1


def test_port_in_use(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", endpoint.port)):
        with pytest.raises(EndpointError) as caught:
            deploy("1")
        message = str(caught.value)
        assert f"port {endpoint.port} of 127.0.0.1: Address already in use" in message
        assert f"process {os.getpid()}" in message
        assert "--port" in message and "sentiment-endpoint" in message
    assert servers(tmp_path) == []
    assert deploy("1") == endpoint.serving()


def test_another_port(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    deploy("1")
    endpoint.port = free_port()
    moved = deploy("1")
    assert moved.url.endswith(f":{endpoint.port}")
    assert endpoint.predict(["great"])[0]["label"] == "positive"
    assert servers(tmp_path) == [state(endpoint)["pid"]]


def test_process_that_is_not_ours(endpoint: LocalEndpoint, deploy: Deploy, tmp_path: Path) -> None:
    deploy("1")
    file = Path(endpoint.folder) / "endpoint.json"
    record = state(endpoint)
    for foreign in ({"pid": os.getpid()}, {"created": record["created"] - 100}):
        file.write_text(json.dumps(record | foreign))
        assert endpoint.serving() is None
    file.write_text("{")
    assert endpoint.serving() is None
    assert deploy("1") == endpoint.serving(), "a broken state file is healed"
    assert servers(tmp_path) == [state(endpoint)["pid"]]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    endpoint = LocalEndpoint(folder=str(tmp_path / "file" / "endpoint"))
    with pytest.raises(EndpointError, match=r"Cannot write to .*local-endpoint.*sentiment-endpoint"):
        endpoint.deploy(release(tmp_path, "1", "0" * 64), smoke_test)


def test_refusals_come_through(endpoint: LocalEndpoint, deploy: Deploy) -> None:
    url = deploy("1").url
    with pytest.raises(EndpointError, match="answered 413: .*send fewer texts"):
        invoke(url, ["a" * 7_000_000])
    with pytest.raises(EndpointError, match="answered 400: .*Element 0 is a number"):
        invoke(url, [1])  # type: ignore[list-item]


def test_relative_folder_starts_at_the_checkout() -> None:
    assert LocalEndpoint()._folder == (ROOT / ".local/endpoint").resolve()
