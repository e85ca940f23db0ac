"""Fixtures: a Prefect server, and workers that run its deployments."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.cloud import free_ports

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from tests.cloud.mlflow_server import Postgres

ROOT = Path(__file__).resolve().parents[2]
START = 180  # seconds that the server may take: its first start makes the tables
STOP = 30  # seconds that a process may take to end


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server."""

    url: str
    """Address of its API, for PREFECT_API_URL."""
    environment: dict[str, str]
    """Environment of a subprocess that is to use the server, with a PREFECT_HOME of its own."""

    def client(self) -> "SyncPrefectClient":
        """Return a client, to be used in a with statement."""
        from prefect.client.orchestration import SyncPrefectClient

        return SyncPrefectClient(self.url)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make this process use the server, as PREFECT_API_URL does for another one."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.url}):
            yield

    def prefect(
        self, *arguments: str, timeout: float = 180, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command `prefect` at the root of the repository, and return it with all that it printed.

        Args:
            arguments: Of the command.
            timeout: Seconds after which it counts as hanging.
            variables: Further environment variables.
        """
        return self.command(
            str(Path(sys.executable).with_name("prefect")), *arguments, timeout=timeout, **variables
        )

    def command(
        self, *command: str, timeout: float = 180, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command at the root of the repository, see `prefect`."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    @contextmanager
    def worker(self, pool: str, *flags: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a worker of a pool that exists.

        Args:
            pool: Name of the pool.
            flags: Further flags of `prefect worker start`.
            variables: Further environment variables.
        """
        home = Path(self.environment["PREFECT_HOME"])
        command = [str(Path(sys.executable).with_name("prefect")), "worker", "start", "--pool", pool, *flags]
        environment = self.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"} | variables
        with (home / f"worker-{pool}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            stop(process)


def stop(process: "subprocess.Popen[Any]") -> None:
    """End a process that leads a session, and what it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def isolated(home: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment without its Prefect settings, and with those given.

    Args:
        home: Folder for PREFECT_HOME, made now.
        variables: To be set.
    """
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"PREFECT_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200"} | variables


@pytest.fixture(scope="session")
def prefect_server(postgres: "Postgres", tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    folder = tmp_path_factory.mktemp("prefect")
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    environment = isolated(
        folder / "server",
        PREFECT_API_DATABASE_CONNECTION_URL=postgres.new("postgresql+asyncpg"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_LOGGING_LEVEL="WARNING",
    )
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(url, process, log)
        yield PrefectServer(url, isolated(folder / "client", PREFECT_API_URL=url))
    finally:
        stop(process)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            with urlopen(f"{url}/health", timeout=5) as answer:
                assert json.load(answer) is True
                return
        except (URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The Prefect server does not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.3)


Change = Callable[[dict[str, Any]], None]
Declare = Callable[..., str]


@pytest.fixture
def prefect_client(prefect_server: PrefectServer) -> "Iterator[SyncPrefectClient]":
    """Yield a client of the server, which this process uses and where nothing is deployed."""
    with prefect_server.here(), prefect_server.client() as client:
        _clear(client)
        yield client
        _clear(client)


def _clear(client: "SyncPrefectClient") -> None:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    from deployments.declaration import TAG

    for automation in client.read_automations():
        if TAG in automation.tags:
            client.delete_automation(automation.id)
    mine = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    for deployment in client.read_deployments(deployment_filter=mine):
        client.delete_deployment(deployment.id)


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    """Write prefect.yaml anew, changed and with an image that needs no building, and return its path."""
    import yaml

    def written(change: Change = lambda content: None) -> str:
        content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for entry in content["deployments"]:
            if entry.pop("build", None):
                entry["work_pool"]["job_variables"]["image"] = "sentiment-train:latest"
        change(content)
        path = tmp_path / "prefect.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return written
