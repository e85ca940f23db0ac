"""The lake in S3 when it is busy, slow or away: a little is sat out, more leaves nothing half-done."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.logging.handlers import APILogHandler
from prefect_aws import AwsCredentials

from blocks.lake import LakeError, LocalLake
from blocks.s3 import S3Lake
from blocks.warehouse import DuckDBWarehouse
from flows.etl import etl
from tasks import etl as steps
from tasks.etl import EtlParameters
from tasks.snapshots import find_snapshot, write_snapshot
from tests.cloud.gateway import Gateway, Request
from tests.cloud.lake import ANSWER, FRAME, failure, objects, plain_answers, read_part
from tests.cloud.s3_server import S3
from tests.etl import MANY, merged, table, write
from tests.tasks.test_snapshots import frame, parts

ONCE: dict[str, Any] = {"config": {"retries": {"total_max_attempts": 1}, "read_timeout": 1}}


@pytest.fixture
def lake(s3: S3, bucket: str) -> S3Lake:
    return S3Lake(bucket=bucket, prefix="team/lake", credentials=s3.credentials())


@pytest.mark.parametrize("status", [429, 503])
def test_bursts_of_throttling_are_ridden_out(s3: S3, bucket: str, lake: S3Lake, status: int) -> None:
    def busy(times: int) -> None:
        s3.gateway.fail(status, times, bucket, ANSWER.format("SlowDown", "Reduce your rate.").encode())

    busy(2)
    lake.write("k", b"1")
    busy(2)
    assert lake.exists("k") and lake.read("k") == b"1"
    busy(3)
    lake.write_frame("f", FRAME)
    busy(3)
    assert lake.scan(["f"]).collect().equals(FRAME)
    for key in ("k", "f"):
        s3.gateway.cut(f"lake/{key}", answered=True)
    lake.write("k", b"2")
    lake.write_frame("f", FRAME)
    assert (lake.read("k"), lake.scan(["f"]).collect()["n"].to_list()) == (b"2", [1, 2, 3])
    assert not s3.gateway._faults


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("busy", "it asks for fewer requests, or is out of order (SlowDown: Reduce your rate.)"),
        ("429", "it asks for fewer requests, or is out of order (429: Too Many Requests)"),
        ("500", "it asks for fewer requests, or is out of order (500: Internal Server Error)"),
        ("down", "the connection is refused"),
        ("slow", "it does not answer in time"),
        ("host", "its host is not found"),
        ("cut", "the connection broke"),
        ("half", "the connection broke"),
    ],
)
def test_what_may_pass_is_transient(s3: S3, bucket: str, trouble: str, cause: str) -> None:
    lake = S3Lake(bucket=bucket, credentials=troubled(s3, s3.gateway, trouble, ONCE))
    S3Lake(bucket=bucket, credentials=s3.credentials()).write("k", b"1234")
    start(s3.gateway, trouble)
    error = failure(lambda: lake.read("k"), s3.secret)
    assert f"Cannot use s3://{bucket}/: {cause}" in str(error)
    assert "Wait and run again: finished steps are not repeated." in str(error)
    assert error.transient


def start(gateway: Gateway, trouble: str) -> None:
    if trouble == "busy":
        gateway.fail(503, None, body=ANSWER.format("SlowDown", "Reduce your rate.").encode())
    elif trouble.isdigit():
        gateway.fail(int(trouble), None)
    elif trouble == "down":
        gateway.down()
    elif trouble == "slow":
        gateway.before = lambda request: threading.Event().wait(2) and None
    elif trouble in ("cut", "half"):
        gateway.cut(answered=trouble == "half")


def troubled(s3: S3, gateway: Gateway, trouble: str, parameters: dict[str, Any]) -> AwsCredentials:
    url = "http://s3.invalid:80" if trouble == "host" else gateway.url
    return s3.credentials(aws_client_parameters={"endpoint_url": url, **parameters})


def test_what_may_pass_is_transient_for_polars_too(s3: S3, bucket: str, lake: S3Lake) -> None:
    """All at once, each behind a gateway of its own: polars tries for ten seconds before it gives up."""
    lake = S3Lake(bucket=bucket, credentials=s3.credentials())
    lake.write_frame("raw/k/part-00000.parquet", FRAME)
    causes = {
        "busy": "it asks for fewer requests, or is out of order (SlowDown: Reduce your rate.)",
        "429": "it asks for fewer requests, or is out of order (429)",
        "down": "the connection is refused",
        "host": "its host is not found",
    }

    def outcome(trouble: str) -> LakeError:
        with Gateway(s3.gateway.target) as gateway:
            away = S3Lake(bucket=bucket, credentials=troubled(s3, gateway, trouble, {}))
            start(gateway, trouble)
            reading = trouble in ("busy", "host")
            return failure(lambda: read_part(away) if reading else away.write_frame("f", FRAME), s3.secret)

    with ThreadPoolExecutor(len(causes)) as pool:
        outcomes = dict(zip(causes, pool.map(outcome, causes), strict=True))
    for trouble, error in outcomes.items():
        assert f"Cannot use s3://{bucket}/: {causes[trouble]}" in str(error)
        assert error.transient
    cause = outcomes["busy"].__cause__
    assert cause is not None and lake.explain(cause) is not None
    stranger = S3Lake(bucket="another", credentials=s3.credentials())
    assert stranger.explain(cause) is None


# Outages in the middle


def test_an_outage_while_a_snapshot_is_written(s3: S3, bucket: str, tmp_path: Path) -> None:
    lake = S3Lake(bucket=bucket, credentials=s3.credentials())

    def fall(request: Request) -> None:
        if "raw/k/part-00002" in request.path:
            s3.gateway.down()

    s3.gateway.before = fall
    error = failure(lambda: write_snapshot(lake, "raw", "k", parts()), s3.secret)
    assert error.transient
    s3.gateway.mend()
    s3.gateway.up()
    assert find_snapshot(lake, "raw", "k") is None
    assert [key for key in objects(s3, bucket) if key.startswith("raw/")] == [
        f"raw/k/part-0000{number}.parquet" for number in range(2)
    ]
    snapshot = write_snapshot(lake, "raw", "k", parts())
    assert find_snapshot(lake, "raw", "k") == snapshot
    local = LocalLake(folder=str(tmp_path))
    assert write_snapshot(local, "raw", "k", parts()) == snapshot
    found = objects(s3, bucket)
    assert found == {key: local.read(key) for key in found} and len(found) == 7
    assert pl.concat(snapshot.frames(lake)).equals(frame(0, 20))


def test_the_etl_goes_on_when_the_lake_comes_back(
    prefect_api: None,
    s3: S3,
    bucket: str,
    tmp_path: Path,
    warehouse: DuckDBWarehouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Away at the first part, which polars sits out, and at the manifest, for which the step is retried."""
    for name in ("extract", "label", "normalise", "load"):
        monkeypatch.setattr(steps, name, getattr(steps, name).with_options(retry_delay_seconds=2))
    away: list[str] = []

    def fall(request: Request) -> None:
        for key in ("labelled/", "part-00000"), ("processed/", "manifest.json"):
            name = "".join(key)
            if request.method == "PUT" and all(part in request.path for part in key) and name not in away:
                away.append(name)
                s3.gateway.down()
                threading.Timer(1.5, s3.gateway.up).start()

    credentials = troubled(s3, s3.gateway, "none", ONCE)
    credentials.save("test-aws-etl", overwrite=True)
    S3Lake(bucket=bucket, credentials=credentials).appoint()
    warehouse.appoint()
    parameters = EtlParameters(source="file", path=write(tmp_path, *MANY))
    s3.gateway.before = fall
    state = etl(parameters, return_state=True)
    s3.gateway.before = None
    result = state.result()
    assert away == ["labelled/part-00000", "processed/manifest.json"]
    assert "the connection" in caplog.text and "Retry 1/5" in caplog.text
    assert result.loaded == merged(inserted=1000)
    rows, written = table(warehouse), objects(s3, bucket)
    assert len(rows) == 1000

    APILogHandler().flush()
    kinds = "flow_runs", "task_runs", "logs", "artifacts", "block_documents", "events"
    assert state.name == "Completed"
    deadline = time.monotonic() + 60  # the server may be late with what it was told
    told = bucket, "etl-rows", "1000 inserted", "Retry 1/5"
    answers = ""
    while missing := [text for text in told if text not in answers]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)
        answers = plain_answers(*(f"{kind}/filter" for kind in kinds))
    assert s3.secret not in answers + caplog.text

    LocalLake(folder=str(tmp_path / "lake")).appoint()
    assert etl(parameters).loaded == merged(unchanged=1000)
    local = LocalLake(folder=str(tmp_path / "lake"))
    assert written == {key: local.read(key) for key in written} and len(written) == 6
    assert table(warehouse).equals(rows)
