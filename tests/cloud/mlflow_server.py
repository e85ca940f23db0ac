"""Fixtures: PostgreSQL, and an MLflow server on it that keeps artifacts in S3, behind a gateway."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen
from uuid import uuid4

import pytest

from tests.cloud import free_ports, missing
from tests.cloud.gateway import HOST, Gateway
from tests.cloud.s3_server import S3

if TYPE_CHECKING:
    from blocks.tracking import ServerTracking

START = 120  # seconds that a server may take to start
ADMIN = "curator"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server."""

    port: int
    password: str
    programs: Path
    """Folder of psql, pg_dump and the like."""

    def address(self, database: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://postgres:{self.password}@{HOST}:{self.port}/{database}"

    def new(self, scheme: str = "postgresql") -> str:
        """Make an empty database and return its address.

        Args:
            scheme: What the address begins with, such as `postgresql+asyncpg`.
        """
        import psycopg2

        name = f"test_{uuid4().hex[:12]}"
        with closing(psycopg2.connect(self.address("postgres"))) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return self.address(name, scheme)


@dataclass(frozen=True)
class MlflowServer:
    """An MLflow server with basic-auth, which only answers to the gateway's own address."""

    gateway: Gateway
    s3: S3
    bucket: str
    database: str
    admin: str
    """Password of the user ADMIN."""
    user: str
    """A user without any rights but those to what it makes itself."""
    password: str
    log: Path

    @property
    def url(self) -> str:
        return self.gateway.url

    def tracking(self, **changes: object) -> "ServerTracking":
        """Return the block of the user, with an experiment and a model of its own."""
        from blocks.tracking import ServerTracking

        name = f"test-{uuid4().hex[:8]}"
        values = {"address": self.url, "user": self.user, "password": self.password}
        values |= {"experiment": name, "model": name}
        return ServerTracking.model_validate(values | changes)

    def artifacts(self) -> list[str]:
        """Return the keys of all artifacts in S3."""
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        missing("PostgreSQL is not installed: `apt-get install postgresql`.")
    programs = Path(initdb).parent
    # As root, PostgreSQL refuses to run, and other users cannot look into root's temporary folders.
    folder = tmp_path_factory.mktemp("postgres")
    prefix = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    password, (port,) = f"secret-{uuid4().hex}", free_ports(1)
    secret, data = folder / "password", folder / "data"
    secret.write_text(password)
    secret.chmod(0o644)
    options = f"-p {port} -c listen_addresses={HOST} -k {folder} -c fsync=off -c max_connections=200"
    control = [*prefix, str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
    initialise = [*prefix, initdb, "-D", str(data), "-U", "postgres", "-A", "scram-sha-256"]
    try:
        for command in ([*initialise, f"--pwfile={secret}"], [*control, "-o", options, "start"]):
            done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, timeout=START)
            assert done.returncode == 0, (folder / "log").read_text() if "start" in command else command
        yield Postgres(port, password, programs)
    finally:
        if (data / "postmaster.pid").exists():
            subprocess.run([*control, "-m", "immediate", "stop"], cwd=folder, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mlflow_server(
    postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    folder, bucket = tmp_path_factory.mktemp("mlflow-server"), f"mlflow-{uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=bucket)
    (port,) = free_ports(1)
    with Gateway(port) as gateway:
        server = MlflowServer(
            gateway=gateway,
            s3=s3,
            bucket=bucket,
            database=postgres.new("postgresql+psycopg2"),
            admin=f"secret-{uuid4().hex}",
            user="trainer",
            password=f"secret-{uuid4().hex}",
            log=folder / "log",
        )
        process = _start(server, port, postgres.new("postgresql+psycopg2"), folder)
        try:
            _wait(server, process)
            add_user(server, server.user, server.password)
            gateway.requests.clear()
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _start(server: MlflowServer, port: int, users: str, folder: Path) -> "subprocess.Popen[bytes]":
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndatabase_uri = {users}\ndefault_permission = NO_PERMISSIONS\nadmin_username = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": server.admin,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": uuid4().hex,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": server.s3.url,
        "AWS_ACCESS_KEY_ID": server.s3.key,
        "AWS_SECRET_ACCESS_KEY": server.s3.secret,
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", server.database, "--app-name", "basic-auth", "--serve-artifacts"),
        *("--artifacts-destination", f"s3://{server.bucket}/artifacts"),
        *("--allowed-hosts", f"{HOST}:{server.gateway.port}"),
    ]
    with server.log.open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment | variables, stdout=log, stderr=subprocess.STDOUT
        )


def _wait(server: MlflowServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            with urlopen(f"{server.url}/health", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MLflow's server does not start:\n{server.log.read_text()[-3000:]}")
            time.sleep(0.2)


def add_user(server: MlflowServer, name: str, password: str) -> None:
    """Make a user of the server as its administrator would."""
    import requests

    requests.post(
        f"{server.url}/api/2.0/mlflow/users/create",
        json={"username": name, "password": password},
        auth=(ADMIN, server.admin),
        timeout=60,
    ).raise_for_status()


@pytest.fixture(autouse=True)
def _mended_mlflow(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo after a test what it did to the gateway."""
    yield
    if "mlflow_server" in request.fixturenames:
        gateway = request.getfixturevalue("mlflow_server").gateway
        gateway.mend()
        gateway.up()
        gateway.requests.clear()
