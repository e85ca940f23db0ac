"""The warehouse: all rows of a merge or none, and none twice."""

import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from pydantic import ValidationError

from blocks.warehouse import COLUMNS, DuckDBWarehouse, Merged, Warehouse, WarehouseError

SCHEMA = pl.Schema(
    {
        **dict.fromkeys(COLUMNS, pl.String),
        "created_at": pl.Datetime("us", "UTC"),
        "polarity": pl.Float64,
        "label": pl.Int8,
        "human_label": pl.Int8,
    }
)


def rows(*numbers: int, **columns: Any) -> pl.DataFrame:
    """Return one row a number, with the same values of `columns` in all."""
    values: dict[str, Any] = {
        "created_at": datetime(2024, 1, 1, 12, tzinfo=UTC),
        "lang": "en",
        "username": None,
        "source": "test",
        "tokens": "",
        "polarity": 0.5,
        "label": 2,
        "human_label": None,
        "split": "train",
    }
    texts = [{"id": f"t:{number}", "text": f"Text {number}", "cleaned_text": "t"} for number in numbers]
    return pl.DataFrame([text | values | columns for text in texts], schema=SCHEMA)


def table(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    names = ", ".join(COLUMNS)
    frames = list(warehouse.query(f"SELECT {names} FROM {{table}} ORDER BY id"))
    return pl.concat(frames).rows() if frames else []


def merged(inserted: int = 0, updated: int = 0, unchanged: int = 0, conflicting: int = 0) -> Merged:
    return Merged(inserted=inserted, updated=updated, unchanged=unchanged, conflicting=conflicting)


def test_columns_are_stored_as_they_come(warehouse: Warehouse) -> None:
    frame = rows(1, 2, human_label=1, username="ann")
    done, left_out = warehouse.merge([frame])
    assert done == merged(inserted=2)
    assert (len(left_out), left_out.schema) == (0, SCHEMA)
    assert next(warehouse.query("SELECT * FROM {table} ORDER BY id")).equals(frame)


def test_texts_too_long_for_little_memory_are_read_with_more(
    warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.concat([rows(1, text="short")] * 60_000 + [rows(1, text="long " * 10_000)] * 3_000)
    numbered = frame.with_columns(pl.Series("id", [f"t:{number}" for number in range(len(frame))]))
    warehouse.merge([numbered])
    sql = "SELECT id, text FROM {table}"
    batches = list(warehouse.query(sql))
    assert pl.concat(batches).sort("id").equals(numbered.select("id", "text").sort("id"))
    monkeypatch.setattr("blocks.warehouse.MEMORY", (32,))
    with pytest.raises((duckdb.OutOfMemoryException, OSError), match="Out of Memory"):
        list(warehouse.query(sql))


def test_each_row_is_counted_once(warehouse: Warehouse) -> None:
    warehouse.merge([rows(1, 2, 3, 4)])
    changed, other = rows(2, label=0, polarity=0.1), rows(3, text="another text", label=1)
    done, left_out = warehouse.merge([rows(1), changed, other, rows(5, 6)])
    assert done == merged(inserted=2, updated=1, unchanged=1, conflicting=1)
    assert left_out.equals(other)
    assert table(warehouse) == pl.concat([rows(1), changed, rows(3, 4, 5, 6)]).rows()


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("id", "text")])
def test_a_change_of_any_derived_column_is_an_update(warehouse: DuckDBWarehouse, name: str) -> None:
    values = {"created_at": datetime(2025, 1, 1, tzinfo=UTC), "polarity": -1.0, "label": 1, "human_label": 0}
    warehouse.merge([rows(1, 2)])
    changed = rows(1, **{name: values.get(name, "other")})
    assert warehouse.merge([changed])[0] == merged(updated=1)
    assert table(warehouse) == pl.concat([changed, rows(2)]).rows()
    assert warehouse.merge([changed])[0] == merged(unchanged=1)


def test_a_second_merge_changes_nothing(warehouse: Warehouse) -> None:
    frames = [rows(1, 2), rows(3, human_label=1, created_at=None), rows(4, lang=None)]
    assert warehouse.merge(frames)[0] == merged(inserted=4)
    before = table(warehouse)
    assert warehouse.merge(frames)[0] == merged(unchanged=4)
    assert table(warehouse) == before


def test_nulls_come_and_go(warehouse: Warehouse) -> None:
    without, given = rows(1, lang=None), rows(1, human_label=2, username="ann")
    for frame, done in [
        (without, merged(inserted=1)),
        (given, merged(updated=1)),
        (without, merged(updated=1)),
    ]:
        assert warehouse.merge([frame])[0] == done
        assert table(warehouse) == frame.rows()


@pytest.mark.parametrize("here", ["UTC", "Asia/Tokyo", "America/St_Johns"])
def test_moments_are_the_same_wherever_the_machine_is(
    warehouse: DuckDBWarehouse, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), None]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", here)
        time.tzset()
        warehouse.merge([rows(n, created_at=moment) for n, moment in enumerate(moments)])
        frame = next(warehouse.query("SELECT id, created_at FROM {table} ORDER BY id"))
        days = next(
            warehouse.query("SELECT strftime(created_at, '%x %H:%M') AS day FROM {table} ORDER BY id")
        )
    time.tzset()
    assert frame.schema["created_at"] == pl.Datetime("us", "UTC")
    assert frame["created_at"].to_list() == moments
    assert days["day"].to_list() == ["2024-03-31 01:30", "1969-12-31 00:00", None]


def test_texts_are_data(warehouse: Warehouse) -> None:
    texts = [
        "'); DROP TABLE PROCESSED_TWEETS; --",
        '"; DELETE FROM staging; /*',
        "{table} {0} %s $1 ? :id \\",
        "line\nbreak\ttab \0 null",
        "😀 \u202eright to left\u202c e\u0301 é",
        "x" * 100_000,
        "NULL",
    ]
    frame = pl.concat([rows(n, text=text, cleaned_text=text, username=text) for n, text in enumerate(texts)])
    assert warehouse.merge([frame])[0] == merged(inserted=len(texts))
    assert table(warehouse) == frame.rows()
    assert warehouse.merge([frame])[0] == merged(unchanged=len(texts))


def test_many_batches_in_and_out(warehouse: Warehouse) -> None:
    template, size = rows(0), 1500

    def frames() -> Iterator[pl.DataFrame]:
        for start in range(0, 40 * size, size):
            number = pl.int_range(start, start + size).cast(pl.String)
            names = pl.select(id=pl.format("t:{}", number), text=pl.format("Text {}", number))
            yield pl.concat([names, pl.concat([template.drop("id", "text")] * size)], how="horizontal")

    assert warehouse.merge(frames())[0] == merged(inserted=60_000)
    assert warehouse.merge(frames())[0] == merged(unchanged=60_000)
    batches = list(warehouse.query("SELECT id, text FROM {table}"))
    assert max(map(len, batches)) <= 50_000
    assert len(batches) > 1
    found = pl.concat(batches)
    assert found["id"].n_unique() == len(found) == 60_000


@pytest.mark.parametrize("table", ["T; DROP TABLE USERS", 'T"', "A.B.C", "", "1T", "T\n", "Tä"])
def test_a_table_must_have_a_plain_name(table: str) -> None:
    with pytest.raises(ValidationError, match="table"):
        DuckDBWarehouse(table=table)


def test_no_frames_make_an_empty_table(warehouse: Warehouse) -> None:
    assert warehouse.merge([])[0] == merged()
    assert warehouse.merge([rows()])[0] == merged()
    assert table(warehouse) == []


def test_a_merge_that_breaks_off_leaves_the_table_as_it_was(warehouse: Warehouse) -> None:
    def breaking() -> Iterator[pl.DataFrame]:
        yield rows(1, label=0)
        yield rows(7, 8)
        raise LookupError("the source broke off")

    with pytest.raises(LookupError, match="the source broke off"):
        warehouse.merge(breaking())
    with pytest.raises(WarehouseError, match="There is no table"):
        table(warehouse)
    warehouse.merge([rows(1, 2)])
    with pytest.raises(LookupError):
        warehouse.merge(breaking())
    assert table(warehouse) == rows(1, 2).rows()
    assert warehouse.merge([rows(1, 2)])[0] == merged(unchanged=2)


def test_an_id_twice_in_one_merge_is_refused_as_a_whole(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([rows(1)])
    with pytest.raises(duckdb.ConstraintException, match="t:2"):
        warehouse.merge([rows(1, label=0), rows(2), rows(2)])
    assert table(warehouse) == rows(1).rows()


KILLED = """
    import time
    from blocks.warehouse import DuckDBWarehouse
    from tests.blocks.test_warehouse import rows
    def frames():
        yield rows(*range(100, 20_000))
        print("half", flush=True)
        time.sleep({pause})
        yield rows(1, label=0)
        print("all", flush=True)
    DuckDBWarehouse(path={path!r}).merge(frames())
    print("done", flush=True)
"""


@pytest.mark.parametrize(("pause", "until", "wait"), [(60, "half", 0.0), (0, "all", 0.0), (0, "all", 0.05)])
def test_a_killed_merge_is_done_as_a_whole_or_not_at_all(
    warehouse: DuckDBWarehouse, pause: int, until: str, wait: float
) -> None:
    warehouse.merge([rows(1, 2)])
    script = textwrap.dedent(KILLED.format(pause=pause, path=warehouse.path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"{until}\n" in iter(process.stdout.readline, "")
        time.sleep(wait)
        process.kill()
        told = "done" in process.stdout.read()
    done, _ = warehouse.merge([rows(*range(100, 20_000)), rows(1, label=0)])
    nothing, all_of_it = merged(inserted=19_900, updated=1), merged(unchanged=19_901)
    # A kill between the commit and the word of it leaves the merge done and untold.
    assert done in ([all_of_it] if told else [nothing] if until == "half" else [nothing, all_of_it])
    found = pl.concat(warehouse.query("SELECT id, label FROM {table} WHERE label = 0 OR id = 't:2'")).sort(
        "id"
    )
    assert found.rows() == [("t:1", 0), ("t:2", 2)]
    assert next(warehouse.query("SELECT count(*) FROM {table}")).item() == 19_902


def test_reading_what_was_never_loaded_names_the_remedy(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(WarehouseError) as caught:
        list(warehouse.query("SELECT * FROM {table}"))
    remedy = (
        f"There is no table PROCESSED_TWEETS in {warehouse.path}: load it first with `python -m flows.etl`."
    )
    assert remedy in str(caught.value)
    assert not Path(warehouse.path).exists()
    duckdb.connect(warehouse.path).close()
    with pytest.raises(WarehouseError) as caught:
        list(warehouse.query("SELECT * FROM {table}"))
    assert remedy in str(caught.value)


def refusals(warehouse: DuckDBWarehouse) -> Iterator[str]:
    for deed in (lambda: warehouse.merge([rows(1)]), lambda: table(warehouse)):
        with pytest.raises(WarehouseError) as caught:
            deed()
        assert f"Cannot open the DuckDB file {warehouse.path}: " in str(caught.value)
        yield str(caught.value)


def test_a_file_open_elsewhere(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([rows(1)])
    script = f"import duckdb; c = duckdb.connect({warehouse.path!r}); print('open', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for message in refusals(warehouse):
            assert str(process.pid) in message
            assert "Close what else has it open" in message
        process.communicate("\n")
    assert table(warehouse) == rows(1).rows()


def test_a_merge_while_this_process_reads(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([rows(1)])
    reading = warehouse.query("SELECT * FROM {table}")
    next(reading)
    with pytest.raises(WarehouseError, match="Close what else has it open"):
        warehouse.merge([rows(2)])
    reading.close()
    assert warehouse.merge([rows(2)])[0] == merged(inserted=1)


def test_a_file_of_something_else(warehouse: DuckDBWarehouse) -> None:
    Path(warehouse.path).write_bytes(b"not a database" * 1000)
    for message in refusals(warehouse):
        assert "not a valid DuckDB database file" in message
        assert "move a damaged file away" in message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    warehouse = DuckDBWarehouse(path=str(tmp_path / "file" / "warehouse.duckdb"))
    message = next(refusals(warehouse))
    assert "make the folder writable" in message


@pytest.mark.parametrize("count", [20_000, 150_000])  # fails in the commit, or before
def test_a_full_disk_leaves_the_table_as_it_was(warehouse: DuckDBWarehouse, count: int) -> None:
    warehouse.merge([rows(1)])
    many = rows(*range(count))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(WarehouseError) as caught:
            warehouse.merge([many])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"Cannot read or write the DuckDB file {warehouse.path}: " in str(caught.value)
    assert "File too large" in str(caught.value)
    assert "The table is as it was: make room, then run again." in str(caught.value)
    assert table(warehouse) == rows(1).rows()
    assert warehouse.merge([many])[0] == merged(inserted=count - 1, unchanged=1)
