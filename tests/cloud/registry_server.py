"""ECR: moto answers its API, docker-registry keeps the images behind the password that it gives out.

What is pushed to the registry is told to moto, so that the API knows of it, as ECR's does.
"""

import hashlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import free_ports, missing
from tests.cloud.gateway import Gateway, Request

ACCOUNT = "123456789012"  # moto's
REGION = "eu-central-1"
CONFIG = """
version: 0.1
storage:
  filesystem:
    rootdirectory: {disk}/images
http:
  addr: 127.0.0.1:{port}
auth:
  htpasswd:
    realm: test
    path: {folder}/htpasswd
"""


@dataclass(frozen=True)
class Ecr:
    """Where ECR's API and its registry answer."""

    api: Gateway
    registry: Gateway

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.registry.port}"

    def client(self) -> Any:
        return _client(self.api.url)

    def repository(self) -> str:
        """Make a fresh repository and return its name."""
        name = f"sentiment-{secrets.token_hex(4)}"
        self.client().create_repository(repositoryName=name)
        return name


def _client(url: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("ecr", region_name=REGION, endpoint_url=url, **keys)


class _Told:
    """Tells moto of each manifest that the registry has taken.

    Args:
        url: Of moto.
    """

    def __init__(self, url: str) -> None:
        self.client = _client(url)

    def __call__(self, request: Request, status: int) -> None:
        found = re.fullmatch(r"/v2/(.+)/manifests/([^/:]+)", request.path)
        if request.method != "PUT" or status != 201 or not found:
            return
        try:
            self.client.put_image(
                repositoryName=found[1],
                imageTag=found[2],
                imageManifest=request.body.decode(),
                imageManifestMediaType=request.headers["Content-Type"],
                imageDigest=f"sha256:{hashlib.sha256(request.body).hexdigest()}",
            )
        except self.client.exceptions.ImageAlreadyExistsException:
            return  # pushed again


@pytest.fixture(scope="session")
def ecr_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ecr]:
    folder, [moto] = tmp_path_factory.mktemp("registry"), free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(moto)]
    with (
        running(command, moto, folder),
        Gateway(moto) as api,
        registry(folder, folder, f"http://127.0.0.1:{moto}") as gateway,
    ):
        yield Ecr(api, gateway)


@pytest.fixture
def small_ecr(ecr: Ecr, mount: Callable[[str], Path], tmp_path: Path) -> Iterator[Ecr]:
    """Give out ECR whose registry has room for 2 MB; `mount("remount,size=…")` gives it more."""
    with registry(tmp_path, mount("size=2m"), ecr.api.url) as gateway:
        yield Ecr(ecr.api, gateway)


@contextmanager
def registry(folder: Path, disk: Path, moto: str) -> Iterator[Gateway]:
    """Run a registry as long as the block lasts.

    Args:
        folder: Where its settings and its log go.
        disk: Where its images go.
        moto: Address of what has to know of them.
    """
    for program, package in (("docker-registry", "docker-registry"), ("htpasswd", "apache2-utils")):
        if shutil.which(program) is None:
            missing(f"{program} is not installed: apt install {package}")
    user, [port] = f"AWS:{ACCOUNT}-auth-token".split(":"), free_ports(1)
    hashed = subprocess.run(["htpasswd", "-Bbn", *user], check=True, capture_output=True, text=True).stdout
    (folder / "htpasswd").write_text(hashed)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, disk=disk, port=port))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with running(command, port, folder), Gateway(port, _Told(moto)) as gateway:
        yield gateway


@pytest.fixture
def ecr(ecr_session: Ecr) -> Iterator[Ecr]:
    """Give out ECR, sound again after each test."""
    yield ecr_session
    for gateway in (ecr_session.api, ecr_session.registry):
        gateway.up()
        gateway.mend()


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a server as long as the block lasts; it listens on `port` when the block begins."""
    log = folder / f"{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
