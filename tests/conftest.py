"""Fixtures: a real Prefect API for the session, and blocks that keep all they write under a test's folder."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from blocks.lake import LocalLake
from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from flows.cli import quiet
from tests.cloud import missing, sudo

pytest_plugins = [
    "tests.cloud.snowflake_server",
    "tests.cloud.s3_server",
    "tests.cloud.mlflow_server",
    "tests.cloud.registry_server",
    "tests.cloud.sagemaker_server",
    "tests.cloud.prefect_server",
    "tests.cloud.docker_engine",
    "tests.browser",
]

quiet()

FOLDERS = {Path(__file__).parent / name: name for name in ("cloud", "gpu")}
"""What all tests in a folder are marked with."""
ENGINE = "tests/cloud/docker"
"""Folder of the tests that need Docker: one process takes them all, for the sake of the images they share."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder, mark in FOLDERS.items():
            if folder in item.path.parents:
                item.add_marker(mark)


class _Scheduler(LoadFileScheduling):
    """Gives each process the tests of one file after the other, and those that need Docker all to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return ENGINE if file.startswith(f"{ENGINE}/") else file


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    # Whatever --dist says: groups of tests, as pytest-xdist 3.8 knows them, are torn apart by pytest 9.2.
    return _Scheduler(config, log)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """Serve Prefect's API from a database of its own for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one empty MLflow database: its migrations take seconds, a copy takes none."""
    tracking = LocalTracking(folder=str(tmp_path_factory.mktemp("mlflow")))
    tracking.client().search_experiments()
    return Path(tracking.folder) / "mlflow.db"


@pytest.fixture
def tracking(tmp_path: Path, mlflow_template: Path) -> LocalTracking:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    shutil.copy(mlflow_template, folder)
    return LocalTracking(folder=str(folder))


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    return LocalLake(folder=str(tmp_path / "lake"))


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[LocalEndpoint]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    endpoint = LocalEndpoint(folder=str(tmp_path / "endpoint"), port=port)
    yield endpoint
    endpoint.stop()


@pytest.fixture
def blocks(
    prefect_api: None,
    lake: LocalLake,
    warehouse: DuckDBWarehouse,
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
) -> None:
    """Save the test's blocks under the names that flows ask for."""
    for block in (lake, warehouse, tracking, endpoint):
        block.appoint()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory, or mount it anew with other options."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mounted(options: str) -> Path:
        command = [*sudo(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            missing("mounting is not permitted here")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run([*sudo(), "umount", str(folder)], check=True)
