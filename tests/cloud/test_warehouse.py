"""The warehouse in Snowflake: what holds for every warehouse, and what can go wrong on the way there."""

import logging
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from prefect.client.orchestration import get_client
from prefect_snowflake import SnowflakeCredentials

from blocks.snowflake import SnowflakeWarehouse
from blocks.warehouse import Warehouse, WarehouseError
from tests.blocks.test_warehouse import (  # what holds for every warehouse
    merged,
    rows,
    table,
    test_a_merge_that_breaks_off_leaves_the_table_as_it_was,  # noqa: F401
    test_a_second_merge_changes_nothing,  # noqa: F401
    test_columns_are_stored_as_they_come,  # noqa: F401
    test_each_row_is_counted_once,  # noqa: F401
    test_many_batches_in_and_out,  # noqa: F401
    test_no_frames_make_an_empty_table,  # noqa: F401
    test_nulls_come_and_go,  # noqa: F401
    test_texts_are_data,  # noqa: F401
)
from tests.cloud import free_ports
from tests.cloud.gateway import HOST, Request
from tests.cloud.snowflake_server import LOGIN, STATEMENT, UPLOAD, Snowflake, pem, refusal, sql


@pytest.fixture
def warehouse(snowflake: Snowflake) -> SnowflakeWarehouse:
    return snowflake.warehouse(timeout=5)


MOMENTS = [datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), None]


@pytest.mark.parametrize("here", ["Asia/Tokyo", "America/St_Johns"])
def test_moments_are_the_same_wherever_the_machine_is(
    warehouse: SnowflakeWarehouse, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.concat(rows(n, created_at=moment) for n, moment in enumerate(MOMENTS))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", here)
        time.tzset()
        warehouse.merge([frame])
        found = next(warehouse.query("SELECT created_at FROM {table} ORDER BY id"))
        there = next(
            warehouse.query(
                "SELECT created_at = '2024-03-31 01:30:00.123456 +0000'::TIMESTAMP_TZ AS same, "
                "created_at IS NULL AS nothing FROM {table} ORDER BY id"
            )
        )
    time.tzset()
    assert found.equals(frame.select("created_at"))
    assert there.rows() == [(True, False), (False, False), (None, True)]
    assert warehouse.merge([frame])[0] == merged(unchanged=3)


def test_a_conflict_comes_back_as_it_was(warehouse: SnowflakeWarehouse) -> None:
    warehouse.merge([rows(1, 2, created_at=None)])
    other = rows(2, text="another text", created_at=None, human_label=1)
    done, left_out = warehouse.merge([rows(1, created_at=None), other])
    assert done == merged(unchanged=1, conflicting=1)
    assert left_out.equals(other)


def test_an_id_twice_in_one_merge_is_refused_as_a_whole(warehouse: SnowflakeWarehouse) -> None:
    warehouse.merge([rows(1)])
    with pytest.raises(WarehouseError, match="ids come more than once, such as t:2"):
        warehouse.merge([rows(1, label=0), rows(2), rows(2)])
    assert table(warehouse) == rows(1).rows()


def test_reading_what_was_never_loaded_names_the_remedy(warehouse: SnowflakeWarehouse) -> None:
    with pytest.raises(WarehouseError) as caught:
        list(warehouse.query("SELECT * FROM {table}"))
    assert "There is no table " in str(caught.value)
    assert "PUBLIC.PROCESSED_TWEETS" in str(caught.value)
    assert "load it first with `python -m flows.etl`" in str(caught.value)
    assert not caught.value.transient


def test_names_of_places_are_no_part_of_statements(snowflake: Snowflake) -> None:
    warehouse = snowflake.warehouse()
    warehouse.merge([rows(1)])
    text = "\n".join(snowflake.statements())
    assert "MERGE INTO PROCESSED_TWEETS" in text
    assert warehouse.connector.database not in text and warehouse.connector.warehouse not in text


def test_a_password_and_a_key_both_open_it(snowflake: Snowflake) -> None:
    database = snowflake.connector().database
    for credentials, rows_there in ((snowflake.credentials(), 0), (snowflake.key_pair(), 1)):
        connector = snowflake.connector(credentials=credentials, database=database)
        warehouse = snowflake.warehouse(connector=connector)
        said = warehouse.check()
        assert said == (
            f"Snowflake account {snowflake.account} at {HOST}, user LOADER, role LOADERS: "
            f"{database}.PUBLIC.PROCESSED_TWEETS, "
            + (f"{rows_there} rows" if rows_there else "not loaded yet")
        )
        assert warehouse.merge([rows(1)])[0] == merged(inserted=1 - rows_there, unchanged=rows_there)


def someone_elses_key() -> bytes:
    return pem(rsa.generate_private_key(public_exponent=65537, key_size=2048), "planted-passphrase")


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [
        (
            False,
            {"password": "planted-password"},
            ["does not let the user LOADER in: Incorrect username or password", "Save the credentials again"],
        ),
        (False, {"user": "NOBODY"}, ["does not let the user NOBODY in: Incorrect username"]),
        (False, {"role": "OWNERS"}, ["Role", "is not granted", "GRANT ROLE OWNERS TO USER LOADER"]),
        (
            True,
            {"private_key": someone_elses_key, "private_key_passphrase": "planted-passphrase"},
            ["JWT token is invalid", "ALTER USER LOADER SET RSA_PUBLIC_KEY"],
        ),
        (True, {"private_key_passphrase": "planted-passphrase"}, ["private key", "another passphrase"]),
        (True, {"private_key": b"planted-key"}, ["private key", "not a PEM file"]),
    ],
)
def test_who_is_not_let_in_is_told_why(
    snowflake: Snowflake, key: bool, changes: dict[str, Any], said: list[str]
) -> None:
    changes = {name: value() if callable(value) else value for name, value in changes.items()}
    credentials = (snowflake.key_pair if key else snowflake.credentials)(**changes)
    warehouse = snowflake.warehouse(connector=snowflake.connector(credentials=credentials))
    for use in (warehouse.check, lambda: warehouse.merge([rows(1)]), lambda: table(warehouse)):
        with pytest.raises(WarehouseError) as caught:
            use()
        assert not caught.value.transient
        for part in said:
            assert part in str(caught.value)
        assert "planted" not in str(caught.value) and snowflake.password not in str(caught.value)
    assert snowflake.sessions == []


NO_SCHEMA = "Cannot perform CREATE TABLE. This session does not have a current database."
NOT_ALLOWED = "SQL access control error:\nInsufficient privileges to operate on schema 'PUBLIC'."


@pytest.mark.parametrize(
    ("statement", "answer", "said", "transient"),
    [
        (
            "CREATE OR REPLACE TEMPORARY TABLE",
            (606, "No active warehouse selected in the current session.", "57P03"),
            ["has no warehouse COMPUTE", "GRANT USAGE ON WAREHOUSE COMPUTE"],
            False,
        ),
        (
            "CREATE OR REPLACE TEMPORARY TABLE",
            (90105, NO_SCHEMA, "22000"),
            ["has no schema TEST_", ".PUBLIC that the role LOADERS may use", "GRANT USAGE ON DATABASE"],
            False,
        ),
        (
            "CREATE TABLE",
            (3001, NOT_ALLOWED, "42501"),
            ["Insufficient privileges to operate on schema 'PUBLIC'. Grant this to the role LOADERS"],
            False,
        ),
        (
            "MERGE",
            (625, "Statement 'x' has locked table 'PROCESSED_TWEETS'.", "57014"),
            ["another run holds", "has locked table"],
            True,
        ),
        ("COPY", (604, "SQL execution canceled", "57014"), ["within 2 s: raise `timeout`"], False),
        ("COPY", (390114, "Authentication token has expired.", "08001"), ["token has expired"], True),
        ("COPY", (90073, "Warehouse 'C' cannot be resumed.", "22000"), ["cannot be resumed"], False),
    ],
)
def test_what_snowflake_refuses_is_explained(
    snowflake: Snowflake, statement: str, answer: tuple[int, str, str], said: list[str], transient: bool
) -> None:
    warehouse = snowflake.warehouse(timeout=2)
    snowflake.refuse(statement, refusal(*answer), times=None)
    uses: list[Callable[[], object]] = [lambda: warehouse.merge([rows(1)])]
    if "TEMPORARY" in statement:
        uses.append(warehouse.check)
    for use in uses:
        with pytest.raises(WarehouseError) as caught:
            use()
        for part in [f"Snowflake account {snowflake.account}", *said]:
            assert part in str(caught.value)
        assert caught.value.transient == transient


def test_an_account_that_is_not_there(snowflake: Snowflake) -> None:
    for status in (403, 404):
        snowflake.fail(status, None, LOGIN)
        with pytest.raises(
            WarehouseError, match="There is no Snowflake account ORG.*correct the account"
        ) as caught:
            snowflake.warehouse().check()
        assert not caught.value.transient
        snowflake.mend()


def test_a_host_that_does_not_answer(snowflake: Snowflake) -> None:
    (port,) = free_ports(1)
    with pytest.raises(WarehouseError, match=r"does not answer \(.*Connection refused.*run again") as caught:
        snowflake.warehouse(port=port).check()
    assert caught.value.transient


def test_bursts_of_refusals_are_ridden_out(snowflake: Snowflake) -> None:
    warehouse = snowflake.warehouse(timeout=60)
    snowflake.fail(503, 1, LOGIN)
    snowflake.fail(503, 1, UPLOAD)
    for statement, status in (("CREATE TABLE", 429), ("COPY", 503), ("MERGE", 429), ("MERGE", 503)):
        snowflake.refuse(statement, status)
    assert warehouse.merge([rows(1, 2)])[0] == merged(inserted=2)
    snowflake.refuse("SELECT", 429)
    assert table(warehouse) == rows(1, 2).rows()
    sent = snowflake.statements()
    assert (sum(s.startswith("MERGE") for s in sent), sum(s.startswith("COPY") for s in sent)) == (3, 2)


@pytest.mark.parametrize("statement", ["COPY", "MERGE", "COMMIT"])
def test_after_an_answer_that_got_lost_a_rerun_finishes(snowflake: Snowflake, statement: str) -> None:
    warehouse = snowflake.warehouse(timeout=5)
    warehouse.merge([rows(1, 2)])
    snowflake.cut(f"{STATEMENT}{statement}", answered=True)
    with pytest.raises(WarehouseError, match="does not answer.*run again later") as caught:
        warehouse.merge([rows(2, label=0), rows(3)])
    assert caught.value.transient
    committed = statement == "COMMIT"
    assert len(table(warehouse)) == (3 if committed else 2)
    again, _ = warehouse.merge([rows(2, label=0), rows(3)])
    assert again == (merged(unchanged=2) if committed else merged(inserted=1, updated=1))
    assert table(warehouse) == pl.concat([rows(1), rows(2, label=0), rows(3)]).rows()


def go_down(snowflake: Snowflake, sign: str) -> None:
    """Take the gateway down when a request with this sign comes."""

    def before(request: Request) -> None:
        if sign in f"{request.path} {STATEMENT}{sql(request)}":
            snowflake.before = None
            snowflake.down()

    snowflake.before = before


# Its watchdog for statements that take too long dies in a thread of its own when there is no server to tell.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("moment", "fault"), [("PUT", "gone"), ("COPY", "503"), ("MERGE", "503"), ("COMMIT", "gone")]
)
def test_an_outage_leaves_the_table_as_it_was(snowflake: Snowflake, moment: str, fault: str) -> None:
    warehouse = snowflake.warehouse(timeout=1)
    warehouse.merge([rows(1, 2)])
    if fault == "gone":
        go_down(snowflake, f"{STATEMENT}{moment}")
    else:
        snowflake.refuse(moment, 503, times=None)
    with pytest.raises(WarehouseError, match=r"does not answer \(.*run again later") as caught:
        warehouse.merge([rows(2, label=0), rows(3)])
    assert caught.value.transient
    snowflake.mend()
    snowflake.up()
    snowflake.end_sessions()
    assert table(warehouse) == rows(1, 2).rows()
    assert warehouse.merge([rows(2, label=0), rows(3)])[0] == merged(inserted=1, updated=1)
    assert table(warehouse) == pl.concat([rows(1), rows(2, label=0), rows(3)]).rows()


def test_a_storage_that_is_away_is_an_outage_without_its_signed_address(
    snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowflake.connector.storage_client.SnowflakeStorageClient.SLEEP_UNIT", 0.1)
    warehouse = snowflake.warehouse()
    snowflake.fail(503, None, UPLOAD)
    with pytest.raises(WarehouseError, match=r"does not answer \(its storage fails\)") as caught:
        warehouse.merge([rows(1)])
    assert caught.value.transient
    assert UPLOAD not in str(caught.value)


def test_a_full_disk_for_temporary_files(
    warehouse: SnowflakeWarehouse, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mount("size=8k")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(WarehouseError, match=f"cannot be kept in {folder}.*No space left.*set TMPDIR"):
        warehouse.merge([rows(*range(20_000))])


def test_secrets_stay_where_they_belong(
    snowflake: Snowflake,
    prefect_api: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    snowflake.credentials().save("snowflake-password", overwrite=True)
    snowflake.key_pair().save("snowflake-key", overwrite=True)
    secrets = [snowflake.password, snowflake.passphrase, *snowflake.pem.decode().splitlines()[1:-1]]
    shown = []
    for name in ("snowflake-password", "snowflake-key"):
        credentials = SnowflakeCredentials.load(name)
        snowflake.warehouse(connector=snowflake.connector(credentials=credentials)).appoint()
        warehouse = Warehouse.current()
        assert isinstance(warehouse, SnowflakeWarehouse)
        assert warehouse.merge([rows(1)])[0] == merged(inserted=1)
        snowflake.refuse("MERGE", refusal(3001, NOT_ALLOWED, "42501"))
        with pytest.raises(WarehouseError) as caught:
            warehouse.merge([rows(2)])
        with get_client(sync_client=True) as client:
            plain = client.read_block_documents(include_secrets=False)
        shown += [repr(warehouse), str(warehouse), warehouse.check(), *map(str, plain)]
        shown.append("".join(traceback.format_exception(caught.value)))
    shown += [caplog.text, *capfd.readouterr()]
    assert all(snowflake.user in text for text in shown[:1])
    for secret in secrets:
        assert not [text for text in shown if secret in text]


def test_reading_twice_at_once(warehouse: SnowflakeWarehouse) -> None:
    warehouse.merge([rows(1, 2)])
    reading = warehouse.query("SELECT id FROM {table} ORDER BY id")
    first = next(reading)
    assert warehouse.merge([rows(3)])[0] == merged(inserted=1)
    reading.close()
    assert first["id"].to_list() == ["t:1", "t:2"]
