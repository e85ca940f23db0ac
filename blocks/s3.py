"""The lake in S3, or in what speaks its protocol."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import polars as pl
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
)
from prefect_aws import AwsCredentials
from pydantic import Field

from blocks.lake import File, Lake, LakeError
from blocks.role import BlockError, Resource, causes

RETRIES = Config(  # "standard" waits longer each time, by a random share; polars does the same on its own
    retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60
)
_ERRORS = (OSError, BotoCoreError, ClientError)  # the first one is polars'
RENEWAL = 600  # seconds until a role is assumed anew: its credentials last 900 at least


class S3Lake(Lake):
    """A lake in a bucket, used with `s3:GetObject`, `s3:PutObject` and `s3:ListBucket`.

    What is removed, working files under `transform/` and `trained/`, takes `s3:DeleteObject`.
    """

    _block_type_name = "S3 Lake"
    _block_type_slug = "s3-lake"

    bucket: str = Field(description="Name of the bucket.")
    prefix: str = Field(default="", description="Folder in the bucket; the bucket itself by default.")
    credentials: AwsCredentials = Field(description="Who asks, in which region, at which endpoint.")

    def _path(self, key: str) -> str:
        return "/".join(part for part in f"{self.prefix}/{key}".split("/") if part)

    def uri(self, key: str) -> str:  # noqa: D102
        return f"s3://{self.bucket}/{self._path(key)}"

    def exists(self, key: str) -> bool:  # noqa: D102
        # Not HeadObject: its failures have no body, so nobody learns the cause.
        path = self._path(key)
        with self._explained():
            found = self._s3().list_objects_v2(Bucket=self.bucket, Prefix=path, MaxKeys=1)
        return any(entry["Key"] == path for entry in found.get("Contents", []))

    def read(self, key: str) -> bytes:  # noqa: D102
        try:
            with self._explained():
                content: bytes = self._s3().get_object(Bucket=self.bucket, Key=self._path(key))["Body"].read()
        except ClientError as error:  # the one that is not explained
            raise FileNotFoundError(self.uri(key)) from error
        return content

    def write(self, key: str, data: bytes) -> None:  # noqa: D102
        with self._explained():
            self._s3().put_object(Bucket=self.bucket, Key=self._path(key), Body=data)

    def write_frame(self, key: str, frame: pl.DataFrame) -> None:  # noqa: D102
        with self._explained():
            options = self._storage_options()
            frame.write_parquet(self.uri(key), storage_options=options, credential_provider=None)

    def scan(self, keys: list[str]) -> pl.LazyFrame:  # noqa: D102
        with self._explained():
            options = self._storage_options()
        uris = [self.uri(key) for key in keys]
        return pl.scan_parquet(uris, storage_options=options, credential_provider=None)

    def find(self, place: str) -> list[File]:  # noqa: D102
        path = self._path(place)
        with self._explained():
            pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=path)
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        cut = len(self._path("x")) - 1
        return sorted(
            File(entry["Key"][cut:], entry["ETag"].strip('"'))
            for entry in entries
            if entry["Key"] == path or (entry["Key"].startswith(f"{path}/") and entry["Key"][-1] != "/")
        )

    def fetch(self, key: str, path: Path) -> None:  # noqa: D102
        with path.open("wb") as file:
            try:
                with self._explained(_ERRORS[1:]):  # an OSError is this machine's
                    body = self._s3().get_object(Bucket=self.bucket, Key=self._path(key))["Body"]
                    for chunk in body.iter_chunks(2**20):
                        file.write(chunk)
            except ClientError as error:  # the one that is not explained
                raise FileNotFoundError(self.uri(key)) from error

    def put(self, key: str, path: Path) -> None:  # noqa: D102
        with path.open("rb") as file, self._explained():
            self._s3().upload_fileobj(file, self.bucket, self._path(key))

    def remove(self, folder: str) -> None:  # noqa: D102
        for file in self.find(folder):
            with self._explained():
                self._s3().delete_object(Bucket=self.bucket, Key=self._path(file.key))

    def check(self) -> str:  # noqa: D102
        self.exists("check")  # first, for some servers forbid to write into a bucket that there is not
        self.write("check", b"")
        self.read("check")
        self.write_frame("check.parquet", pl.DataFrame({"check": [True]}))
        self.scan(["check.parquet"]).collect()
        return f"{self.uri('')}, region {self._s3().meta.region_name}"

    def resources(self) -> list[Resource]:  # noqa: D102
        place = self.uri("").rstrip("/") + "/"  # without the slash, names that begin alike go, too
        return [Resource(kind="files of the lake", name=place, by_hand=f"aws s3 rm --recursive {place}")]

    def explain(self, error: BaseException) -> BlockError | None:
        """Return the cause and remedy of what polars raised while it read from the bucket.

        None also if a file is gone or damaged: then the bucket works. The other methods explain what happens
        in them right away, for boto3's errors do not tell which bucket they are about.
        """
        for cause in causes(error):
            if isinstance(cause, OSError) and f"s3://{self.bucket}/" in str(cause):
                return self._explanation(cause)
        return None

    @contextmanager
    def _explained(self, kinds: tuple[type[Exception], ...] = _ERRORS) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            explanation = self._explanation(error)
            if explanation is None:
                raise
            raise explanation from error

    def _explanation(self, error: OSError | BotoCoreError | ClientError) -> LakeError | None:
        trouble = _trouble(error)
        if trouble is None:
            return None
        return LakeError(f"Cannot use {self.uri('')}: {trouble.cause}. {trouble.remedy}", trouble.transient)

    def _s3(self) -> Any:
        return _connection(self.credentials, int(time.monotonic() // RENEWAL)).client

    def _storage_options(self) -> dict[str, str]:
        """Return how polars reaches the bucket: as boto3 does, whoever gives boto3 its credentials."""
        connection = _connection(self.credentials, int(time.monotonic() // RENEWAL))
        found = connection.session.get_credentials()
        if found is None:
            raise NoCredentialsError
        keys = found.get_frozen_credentials()
        s3 = connection.client.meta
        options = {
            "aws_access_key_id": keys.access_key,
            "aws_secret_access_key": keys.secret_key,
            "aws_session_token": keys.token,
            "aws_region": s3.region_name,
            "aws_endpoint_url": s3.endpoint_url,
            "aws_allow_http": str(s3.endpoint_url.startswith("http://")).lower(),
        }
        return {name: value for name, value in options.items() if value}


class _Connection(NamedTuple):
    session: boto3.Session
    client: Any


@lru_cache(maxsize=8)
def _connection(credentials: AwsCredentials, period: int) -> _Connection:
    """Return a session and its client, new ones in each period."""
    parameters = credentials.aws_client_parameters.get_params_override()
    config = RETRIES.merge(parameters.pop("config", None) or Config())
    session = credentials.get_boto3_session()
    return _Connection(session, session.client("s3", config=config, **parameters))


class _Trouble(NamedTuple):
    cause: str
    remedy: str
    transient: bool = False


_SAVE = "in the credentials of the block 'sentiment-lake' (`python -m blocks.register aws` saves them anew)."
_WAIT = "Wait and run again: finished steps are not repeated."
_BUSY = _Trouble("it asks for fewer requests, or is out of order", _WAIT, transient=True)
_DENIED = _Trouble(
    "the credentials do not permit it",
    "Permit s3:ListBucket on the bucket, s3:GetObject and s3:PutObject in it, and s3:DeleteObject under "
    "the lake's transform/ and trained/.",
)
_EXPIRED = _Trouble("the session token is no longer valid", f"Put a role, or a key that lasts, {_SAVE}")
_KEY = _Trouble("the access key is unknown", f"Correct the access key {_SAVE}")
_REGION = _Trouble("the bucket is in another region", f"Put the bucket's region {_SAVE}")
_ROLE = _Trouble(
    "the role cannot be assumed", "Let its trust policy name who asks, and permit that one sts:AssumeRole."
)

_TROUBLES = {
    "NoSuchBucket": _Trouble(
        "there is no such bucket", "Make it, or name another one in the block 'sentiment-lake'."
    ),
    "InvalidAccessKeyId": _KEY,
    "InvalidClientTokenId": _KEY,
    "SignatureDoesNotMatch": _Trouble(
        "the secret does not belong to the access key", f"Correct the secret {_SAVE}"
    ),
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": _Trouble("the clock of this machine is wrong", "Set it."),
    "RequestTimeout": _BUSY,
    "SlowDown": _BUSY,
    "Throttling": _BUSY,
    "403": _DENIED,
    "429": _BUSY,
}
"""What S3's answers mean, by code or, where the code is not listed, by status."""


def _trouble(error: OSError | BotoCoreError | ClientError) -> _Trouble | None:
    """Return what is wrong with the bucket, or None if it is only that an object is not as expected."""
    code, status, message = _answer(error)
    busy = "Throttl" in code or status.startswith("5")
    trouble = _TROUBLES.get(code) or (_BUSY if busy else _TROUBLES.get(status))
    if trouble is _DENIED and getattr(error, "operation_name", "") == "AssumeRole":
        trouble = _ROLE
    if trouble is not None:
        return trouble._replace(cause=f"{trouble.cause} ({code or status}{message and ': '}{message})")
    if status in ("404", "416"):
        return None
    text = f"{error} {getattr(error, 'kwargs', {}).get('error', '')}"
    if "redirect without LOCATION" in text:
        return _REGION
    if isinstance(error, NoCredentialsError):
        return _Trouble("nobody has given this machine credentials", f"Put a key {_SAVE}")
    if "certificate" not in text and (isinstance(error, _BROKEN) or "HTTP error" in text):
        cause = next(
            (cause for sign, cause in _SIGNS.items() if re.search(sign, text)), "the connection broke"
        )
        return _Trouble(cause, _WAIT, transient=True)
    return _Trouble(text.strip(), "Correct the block 'sentiment-lake'.")


_BROKEN = (HTTPClientError, ConnectionError, IncompleteReadError)
_SIGNS = {
    "refused": "the connection is refused",
    "dns error|resolve|Name or service not known": "its host is not found",
    "timed out|[Tt]imeout": "it does not answer in time",
}
"""How boto3 and polars put what became of a connection."""


def _answer(error: OSError | BotoCoreError | ClientError) -> tuple[str, str, str]:
    """Return the code, status and message that S3 answered with; each is empty if there was none."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return said.get("Code", ""), str(status), said.get("Message", "")
    patterns = r"<Code>(.*?)</Code>", r"status code: (\d{3})", r"<Message>(.*?)</Message>"
    code, status, message = ("".join(re.findall(pattern, str(error))[:1]) for pattern in patterns)
    return code, status, message
