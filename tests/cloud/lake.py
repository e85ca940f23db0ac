"""What the tests of the lake in S3 share: what lies there, and what is said when it cannot be used."""

import traceback
from collections.abc import Callable

import polars as pl
import pytest
from prefect.client.orchestration import get_client

from blocks.lake import Lake, LakeError
from tasks.snapshots import Snapshot
from tests.cloud.s3_server import S3

ANSWER = "<Error><Code>{}</Code><Message>{}</Message></Error>"
FRAME = pl.DataFrame({"n": [1, 2, 3]})


def objects(s3: S3, bucket: str) -> dict[str, bytes]:
    """Return what lies in a bucket."""
    client = s3.client()
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        entry["Key"]: client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in found
    }


def failure(work: Callable[[], object], *secrets: str) -> LakeError:
    """Return the explanation of what goes wrong; no secret is in it, nor in the traceback."""
    with pytest.raises(LakeError) as caught:
        work()
    shown = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in secrets if secret in shown]
    return caught.value


def read_part(lake: Lake) -> None:
    """Read as the steps of the ETL do, through polars."""
    list(Snapshot(step="raw", key="k", parts=1, rows=1, rejected={}).frames(lake))


def plain_answers(*routes: str) -> str:
    """Return what Prefect's API says to anyone who does not ask for secrets."""
    with get_client(sync_client=True) as client:
        return "\n".join(client._client.post(f"/{route}", json={}).text for route in routes)
