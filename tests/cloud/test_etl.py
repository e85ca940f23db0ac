"""The flow `etl` from a file to S3 and Snowflake: once, twice, and with a warehouse that goes away."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from blocks.lake import LocalLake
from blocks.s3 import S3Lake
from blocks.snowflake import SnowflakeWarehouse
from blocks.warehouse import DuckDBWarehouse
from flows.etl import EtlResult, etl
from tasks.etl import EtlParameters
from tasks.rows import read_rows
from tests.cloud.gateway import Request
from tests.cloud.s3_server import S3
from tests.cloud.snowflake_server import Snowflake, sql
from tests.etl import BAD, GOOD, MANY, merged, write


@pytest.fixture
def lake(s3: S3, bucket: str) -> S3Lake:
    return S3Lake(bucket=bucket, credentials=s3.credentials())


@pytest.fixture
def warehouse(snowflake: Snowflake) -> SnowflakeWarehouse:
    return snowflake.warehouse(timeout=1)


@pytest.fixture(autouse=True)
def _appointed(prefect_api: None, lake: S3Lake, warehouse: SnowflakeWarehouse) -> None:
    lake.appoint()
    warehouse.appoint()


def run(path: str, **options: Any) -> EtlResult:
    result = etl(EtlParameters(source="file", path=path, **options))
    assert isinstance(result, EtlResult)
    return result


def keys(s3: S3, bucket: str) -> dict[str, object]:
    """Return the objects of a bucket and when each was written."""
    found = s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {entry["Key"]: entry["LastModified"] for entry in found}


def test_a_second_run_adds_nothing_and_training_reads_what_duckdb_would_give(
    s3: S3, bucket: str, snowflake: Snowflake, warehouse: SnowflakeWarehouse, tmp_path: Path
) -> None:
    path = write(tmp_path, *MANY, *(row for row, _ in BAD), *GOOD)
    first = run(path)
    assert first.rows_in == len(MANY) + len(BAD) + len(GOOD)
    assert first.loaded.inserted == first.rows_in - sum(first.rejected.values())
    assert first.processed.startswith(f"s3://{bucket}/processed/")
    before = keys(s3, bucket)
    assert {key.split("/")[0] for key in before} == {"raw", "labelled", "processed", "rejected"}

    again = run(path)
    assert again == first.model_copy(update={"loaded": merged(unchanged=first.loaded.inserted)})
    assert keys(s3, bucket) == before

    rows = read_rows(warehouse, "train", "validation", "test")
    local = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    LocalLake(folder=str(tmp_path / "lake")).appoint()
    local.appoint()
    run(path)
    assert len(rows) == first.loaded.inserted
    assert rows.equals(read_rows(local, "train", "validation", "test"))
    names = "id, created_at, lang, username, source, cleaned_text, tokens, polarity"
    here, there = (
        pl.concat(w.query(f"SELECT {names} FROM {{table}} ORDER BY id")) for w in (local, warehouse)
    )
    assert here.equals(there)


# The connector's watchdog dies in a thread of its own when there is no server to tell.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["COPY", "COMMIT"])
def test_a_run_sits_out_an_outage_of_the_warehouse(
    snowflake: Snowflake, warehouse: SnowflakeWarehouse, tmp_path: Path, moment: str
) -> None:
    def break_off(request: Request) -> None:
        if sql(request).startswith(moment):
            snowflake.before = come_back
            snowflake.refuse(moment, 503, times=None)

    def come_back(request: Request) -> None:
        if sql(request).startswith("ROLLBACK") or "delete=true" in request.path:
            snowflake.mend()

    snowflake.before = break_off
    assert run(write(tmp_path, *GOOD)).loaded == merged(inserted=3)
    sent = [statement.split()[0] for statement in snowflake.statements()]
    assert sent.count("MERGE") == (1 if moment == "COPY" else 2)
    assert len(read_rows(warehouse, "train", "validation", "test")) == 3
    assert run(write(tmp_path, *GOOD)).loaded == merged(unchanged=3)
