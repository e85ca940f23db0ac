"""Fixtures: SeaweedFS as S3 behind a gateway, and a fresh bucket for each test that wants one."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.cloud import free_ports
from tests.cloud.gateway import HOST, Gateway

if TYPE_CHECKING:
    from prefect_aws import AwsCredentials

REGION = "eu-central-1"
START = 60  # seconds that the server may take to start


@dataclass(frozen=True)
class User:
    """A user of the server."""

    key: str
    secret: str


@dataclass(frozen=True)
class S3:
    """An S3 server, reached through a gateway."""

    gateway: Gateway
    admin: User
    user: User
    """May read, write and list, and make no bucket."""
    guest: User
    """May read and list."""

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def key(self) -> str:
        return self.user.key

    @property
    def secret(self) -> str:
        return self.user.secret

    def client(self, attempts: int = 3) -> Any:
        """Return a boto3 client of the admin.

        Args:
            attempts: How often it tries a request.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.admin.key,
            aws_secret_access_key=self.admin.secret,
            config=Config(retries={"total_max_attempts": attempts}),
        )

    def make_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"test-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def credentials(self, user: User | None = None, **changes: Any) -> "AwsCredentials":
        """Return the credentials block of a user.

        Args:
            user: Instead of `user`.
            changes: Fields of the block to be different.
        """
        from prefect_aws import AwsCredentials
        from prefect_aws.client_parameters import AwsClientParameters

        user = user or self.user
        values: dict[str, Any] = {
            "aws_access_key_id": user.key,
            "aws_secret_access_key": user.secret,
            "region_name": REGION,
            "aws_client_parameters": AwsClientParameters(endpoint_url=self.url),
        }
        return AwsCredentials(**values | changes)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    admin, user, guest = (User(f"AKIA{uuid4().hex[:16].upper()}", f"secret-{uuid4().hex}") for _ in range(3))
    folder = tmp_path_factory.mktemp("s3")
    config = folder / "s3.json"
    config.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": one.key,
                        "credentials": [{"accessKey": one.key, "secretKey": one.secret}],
                        "actions": actions,
                    }
                    for one, actions in (
                        (admin, ["Admin"]),
                        (user, ["Read", "Write", "List"]),
                        (guest, ["Read", "List"]),
                    )
                ]
            }
        )
    )
    # Each bucket has volumes of its own: one at a time, or a few dozen buckets use up all there may be.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    port, process = _start(folder, config)
    try:
        with Gateway(port) as gateway:
            s3 = S3(gateway, admin, user, guest)
            _wait(s3, process, folder / "log")
            yield s3
    finally:
        process.kill()  # it would take long to leave its volumes in order
        process.wait()


def _start(folder: Path, config: Path) -> tuple[int, "subprocess.Popen[bytes]"]:
    services = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(services))
    flags = [
        flag
        for service, port, grpc in zip(services, ports[::2], ports[1::2], strict=True)
        for flag in (f"-{service}.port={port}", f"-{service}.port.grpc={grpc}")
    ]
    command = [
        *(str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}"),
        *(f"-ip={HOST}", f"-ip.bind={HOST}", *flags, "-filer", "-s3", f"-s3.config={config}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={folder}/filer.sock"),
        *(
            "-master.volumeSizeLimitMB=64",
            "-volume.max=100",
            "-master.electionTimeout=1s",
            "-master.telemetry=false",
        ),
    ]
    with (folder / "log").open("wb") as log:
        return ports[-2], subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)


def _wait(s3: S3, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server writes and reads: it lists buckets before it has room for objects."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, bucket = s3.client(attempts=1), f"probe-{uuid4().hex[:8]}"
    deadline = time.monotonic() + START
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="probe", Body=b"1")
            client.get_object(Bucket=bucket, Key="probe")
            client.delete_object(Bucket=bucket, Key="probe")
            client.delete_bucket(Bucket=bucket)
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS does not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo after a test what it did to the gateway."""
    yield
    if "s3" in request.fixturenames:
        gateway = request.getfixturevalue("s3").gateway
        gateway.mend()
        gateway.up()
        gateway.requests.clear()


@pytest.fixture
def bucket(s3: S3) -> str:
    """Make a bucket of the test's own."""
    return s3.make_bucket()
