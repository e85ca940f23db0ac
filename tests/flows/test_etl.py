"""The flow `etl`: what goes in comes out once, or lies in `rejected/` with the reason."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.artifacts import Artifact

from blocks.lake import LakeError, LocalLake
from blocks.warehouse import DuckDBWarehouse, WarehouseError
from flows.etl import EtlResult, etl
from tasks.contracts import Processed, check
from tasks.etl import EtlParameters, NoRowsError
from tests.etl import BAD, GOOD, MANY, files, merged, rejected, table, write

pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture
def places(prefect_api: None, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    lake.appoint()
    warehouse.appoint()


def run(path: str | None = None, **options: Any) -> EtlResult:
    """Run the flow on a file, or on the sample, and check that its numbers add up."""
    where: dict[str, Any] = {} if path is None else {"source": "file", "path": path}
    result = etl(EtlParameters(**where, **options))
    assert isinstance(result, EtlResult)
    loaded = result.loaded
    accepted = loaded.inserted + loaded.updated + loaded.unchanged
    assert result.rows_in == sum(result.rejected.values()) + accepted
    return result


def test_the_sample_is_loaded_once(lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    first = run()
    assert (first.source, first.rows_in) == ("sample", 4200)
    assert first.rejected == {"no words after cleaning": 3}
    assert first.loaded == merged(inserted=4197)
    rows = table(warehouse)
    assert len(rows) == rows["id"].n_unique() == 4197
    check(Processed, rows.select(list(Processed.to_schema().columns)))
    assert rows["human_label"].null_count() == 0
    shares = rows["split"].value_counts(normalize=True).rows()
    assert dict(shares) == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)
    assert set(rows["label"]) == {0, 1, 2}
    assert len(rejected(lake)) == 3
    for step, address in (("raw", first.raw), ("labelled", first.labelled), ("processed", first.processed)):
        manifest = json.loads((Path(address) / "manifest.json").read_text())
        assert (manifest["step"], manifest["rows"]) == (step, 4197)
        assert len(pl.read_parquet(f"{address}/*.parquet")) == 4197
    written = files(lake)

    again = run()
    assert again == first.model_copy(update={"loaded": merged(unchanged=4197)})
    assert files(lake) == written
    assert table(warehouse).equals(rows)
    artifact = Artifact.get("etl-rows")
    assert artifact is not None
    data = json.loads(artifact.data) if isinstance(artifact.data, str) else artifact.data
    shown = {row["step"]: row["rows"] for row in data}
    assert (shown["rows in"], shown["rejected: no words after cleaning"], shown["unchanged"]) == (
        4200,
        3,
        4197,
    )


def test_bad_rows_among_good_ones(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    result = run(write(tmp_path, GOOD[0], *(row for row, _ in BAD), *GOOD[1:]))
    assert result.rows_in == len(GOOD) + len(BAD)
    assert result.loaded == merged(inserted=len(GOOD))
    reasons = [reason for _, reason in BAD]
    assert result.rejected == {reason: reasons.count(reason) for reason in reasons}
    assert sorted(rejected(lake).values()) == sorted(reasons)
    assert table(warehouse)["text"].to_list() == [row["text"] for row in GOOD]


def test_no_row_that_can_be_used(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(NoRowsError, match="2 × language is de, not en"):
        run(write(tmp_path, *({"text": text, "lang": "de"} for text in ("eins", "zwei"))))
    assert not Path(warehouse.path).exists()
    assert len(rejected(lake)) == 2


def test_the_same_rows_are_not_loaded_again(
    tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse
) -> None:
    run(write(tmp_path, *GOOD))
    before, written = table(warehouse), files(lake)
    assert run(write(tmp_path, *GOOD, name="copy.jsonl")).loaded == merged(unchanged=3)
    assert files(lake) == written
    more = {"id": 4, "text": "One more good day"}
    assert run(write(tmp_path, more, *GOOD)).loaded == merged(inserted=1, unchanged=3)
    assert table(warehouse).filter(pl.col("id") != "file:4").equals(before)


def test_other_thresholds_change_rows_and_add_none(tmp_path: Path, warehouse: DuckDBWarehouse) -> None:
    path = write(tmp_path, *GOOD)
    run(path)
    assert table(warehouse)["label"].to_list() == [2, 1, 0]
    assert run(path, positive_above=1.0, negative_below=0.0).loaded == merged(updated=1, unchanged=2)
    assert table(warehouse)["label"].to_list() == [0, 1, 0]
    assert run(path).loaded == merged(updated=1, unchanged=2)
    assert len(table(warehouse)) == 3


def test_the_first_text_of_an_id_stays(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    run(write(tmp_path, *GOOD))
    before = table(warehouse)
    other = write(tmp_path, {"id": 2, "text": "Another text"}, {"id": 4, "text": "A new tweet"})
    for loaded in (merged(inserted=1, conflicting=1), merged(unchanged=1, conflicting=1)):
        result = run(other)
        assert result.loaded == loaded
        assert result.rejected == {"id in the warehouse with another text": 1}
        assert rejected(lake, "load") == {("file:2", "Another text"): "id in the warehouse with another text"}
    assert table(warehouse).filter(pl.col("id") != "file:4").equals(before)


def test_an_unwritable_lake(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    Path(lake.folder).write_text("a file where the folder should be")
    with pytest.raises(LakeError) as caught:
        run(write(tmp_path, *GOOD))
    assert f"Cannot write {lake.folder}/raw/" in str(caught.value)
    assert "Free some space or make the folder writable" in str(caught.value)
    assert not Path(warehouse.path).exists()
    Path(lake.folder).unlink()
    assert run(write(tmp_path, *GOOD)).loaded == merged(inserted=3)


def test_a_warehouse_in_use(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    script = f"import duckdb; c = duckdb.connect({warehouse.path!r}); print('open', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(WarehouseError, match="Close what else has it open"):
            run(write(tmp_path, *MANY))
        process.communicate("\n")
    written = files(lake)
    assert run(write(tmp_path, *MANY)).loaded == merged(inserted=1000)
    assert files(lake) == written
