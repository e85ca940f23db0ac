"""The commands of the README, typed as they stand in a fresh clone."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PORTS = (4200, 5000, 8080)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                message = f"port {port} is in use, and the README's commands need it"
                pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    folder = tmp_path_factory.mktemp("clone") / "sentiment-flows"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    yield folder
    sh(folder, "make clean")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def printed(clone: Path) -> str:
    """What `make run` prints there; each test needs what it leaves, in whatever order they are run."""
    return sh(clone, BLOCKS[0])


def sh(folder: Path, script: str) -> str:
    """Run a script as a user's shell in the clone would, and return what it prints."""
    before = [line for line in "".join(BLOCKS).splitlines() if line.startswith((". ", "export "))]
    activated = (folder / ".venv/bin/activate").exists()
    prelude = [line for line in before if activated and "PREFECT_API_URL" not in line]
    dropped = ("PREFECT_", "VIRTUAL_ENV", "PYTHONPATH", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([*prelude, script])],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@contextmanager
def running(folder: Path, command: str) -> Iterator[None]:
    """Run a command in the background, and all that it starts, as long as the block lasts."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MAKE"))
    }
    with (folder / ".local" / "background.log").open("a") as log:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(1)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_every_block_is_run_here() -> None:
    first_lines = [block.splitlines()[0].split()[0] for block in BLOCKS]
    assert first_lines == ["make", "make", "curl", ".", "printf", "export"]
    assert BLOCKS[1] == "make test\n", "run by .ci/run; a test that runs the tests would never end"


def test_make_run_does_the_whole_job_and_then_reuses_it(clone: Path, printed: str) -> None:
    run = json.loads((clone / ".local/run.json").read_text())
    assert run["status"] == "completed"
    assert run["etl"]["loaded"]["inserted"] == 4197
    assert run["benchmark"]["verdict"]["decision"] == "promote"
    assert "<h1>Version 1 goes to production</h1>" in (clone / ".local/benchmark.html").read_text()
    for said in (
        "4,200",
        "goes to production",
        "http://127.0.0.1:8080",
        "http://127.0.0.1:4200",
        "positive (",
    ):
        assert said in printed
    sh(clone, BLOCKS[0])
    again = json.loads((clone / ".local/run.json").read_text())
    assert again["etl"]["loaded"] == {"inserted": 0, "updated": 0, "unchanged": 4197, "conflicting": 0}
    assert again["train"]["reused"]
    assert again["deploy"]["deployment"] == run["deploy"]["deployment"]


@pytest.mark.usefixtures("printed")
def test_curl_gets_predictions(clone: Path) -> None:
    labels = [prediction["label"] for prediction in json.loads(sh(clone, BLOCKS[2]))["predictions"]]
    assert labels[0] == "positive"
    assert len(labels) == 2


@pytest.mark.usefixtures("printed")
def test_each_flow_runs_alone(clone: Path) -> None:
    sh(clone, BLOCKS[3])


@pytest.mark.usefixtures("printed")
def test_a_file_is_scored(clone: Path) -> None:
    sh(clone, BLOCKS[4])
    lines = (clone / ".local/scored.csv").read_text().splitlines()
    assert lines[0] == "text,label,p_negative,p_neutral,p_positive"
    assert [line.split(",")[0] for line in lines[1:]] == ["what a great day", "I hate delays"]


@pytest.mark.usefixtures("printed")
def test_the_uis_show_it_and_deployments_run(clone: Path) -> None:
    with running(clone, "make ui"):
        wait_for(
            lambda: answers("http://127.0.0.1:4200/api/health") and answers("http://127.0.0.1:5000/health")
        )
        worker = (
            ". .venv/bin/activate; export PREFECT_HOME=$PWD/.local/prefect PREFECT_WORKER_QUERY_SECONDS=1; "
        )
        worker += "export PREFECT_API_URL=http://127.0.0.1:4200/api; "
        worker += "until prefect work-pool inspect sentiment; do sleep 1; done; "
        worker += "prefect worker start --pool sentiment"
        with running(clone, worker):
            assert "finished successfully" in sh(clone, BLOCKS[5])


def test_a_host_with_a_gpu_has_tests_of_its_own(clone: Path) -> None:
    assert "tests/gpu/test_gpu.py::test_cudnn_runs_every_lstm" in sh(clone, "make test-gpu ARGS='--co -q'")


@pytest.mark.usefixtures("printed")
def test_make_clean_leaves_nothing(clone: Path) -> None:
    sh(clone, "make clean")
    assert not (clone / ".local").exists()
    assert not answers("http://127.0.0.1:8080/ping")
    assert sh(clone, "git status --porcelain --ignored").split() == ["!!", ".venv/"]
