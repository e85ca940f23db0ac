"""The steps of the ETL, without Prefect: what they turn away, and what stops them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.lake import LakeError, LocalLake
from blocks.warehouse import DuckDBWarehouse, Merged
from tasks import etl
from tasks.etl import EtlParameters, NoRowsError
from tasks.snapshots import Snapshot
from tasks.sources import SourceError
from tests.etl import BAD, GOOD, MANY, files, merged, rejected, table, write


def extract(lake: LocalLake, path: str, **options: Any) -> Snapshot:
    return etl.extract.fn(EtlParameters(source="file", path=path, **options), lake, None)


def processed(lake: LocalLake, path: str, **options: Any) -> Snapshot:
    parameters = EtlParameters(source="file", path=path, **options)
    raw = etl.extract.fn(parameters, lake, None)
    return etl.normalise.fn(etl.label.fn(raw, parameters, lake), parameters, lake)


def load(lake: LocalLake, warehouse: DuckDBWarehouse, path: str, **options: Any) -> Merged:
    return etl.load.fn(processed(lake, path, **options), lake, warehouse)


def test_rows_are_what_the_file_says(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    assert load(lake, warehouse, write(tmp_path, *GOOD), minimum_count=1) == merged(inserted=3)
    columns = ("id", "lang", "username", "text", "cleaned_text", "tokens", "label", "human_label")
    assert table(warehouse).select(columns).rows() == [
        ("file:1", "en", None, GOOD[0]["text"], GOOD[0]["text"], "love sunni day great", 2, 2),
        ("file:2", None, None, GOOD[1]["text"], GOOD[1]["text"], "not like rain terribl", 1, 1),
        ("file:3", None, "bob", GOOD[2]["text"], "The bus leaves at nine", "bu leav", 0, None),
    ]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_row_among_good_ones_is_kept_with_its_reason(
    tmp_path: Path, lake: LocalLake, bad: Any, reason: str
) -> None:
    snapshot = extract(lake, write(tmp_path, GOOD[0], bad, *GOOD[1:]))
    assert (snapshot.rows, snapshot.rejected) == (3, {reason: 1})
    ((identifier, text), kept) = next(iter(rejected(lake).items()))
    assert kept == reason
    if isinstance(bad, dict):
        assert (identifier, text) == (f"file:{bad['id']}", bad["text"] and str(bad["text"]))


def test_batches_do_not_matter(
    tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, *(row for row, _ in BAD[:3]), GOOD[0], *(row for row, _ in BAD[9:11]), *GOOD[1:])
    with monkeypatch.context() as patch:
        patch.setattr("tasks.sources.BATCH_ROWS", 2)  # the first batch is all bad
        snapshot = processed(lake, path, minimum_count=1)
    assert (snapshot.parts, snapshot.rows) == (4, 3)
    assert sorted(rejected(lake).values()) == [
        "id taken by another text",
        "repeated row",
        "text empty",
        "text empty",
        "text missing",
    ]
    assert etl.load.fn(snapshot, lake, warehouse) == merged(inserted=3)
    in_batches = table(warehouse)
    assert load(lake, warehouse, path, minimum_count=1) == merged(unchanged=3)
    assert table(warehouse).equals(in_batches)


def test_every_batch_counts(tmp_path: Path, lake: LocalLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sources.BATCH_ROWS", 2)
    four = [*GOOD, {"id": 4, "text": "Four"}]
    first = extract(lake, write(tmp_path, *four))
    for place in range(4):
        rows = [*four[:place], four[place] | {"text": "Other"}, *four[place + 1 :]]
        assert extract(lake, write(tmp_path, *rows)).key != first.key
    assert extract(lake, write(tmp_path, *four)) == first


def test_a_finished_step_is_not_repeated(
    tmp_path: Path, lake: LocalLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, *GOOD)
    before, written = processed(lake, path), files(lake)
    monkeypatch.setattr("tasks.labelling.polarities", lambda texts: pytest.fail("labelled again"))
    assert processed(lake, path) == before
    assert processed(lake, path, minimum_count=1) != before
    assert written.items() < files(lake).items()


@pytest.mark.parametrize(
    ("option", "again"),
    [
        ({"minimum_count": 2}, {"processed"}),
        ({"positive_above": 0.5}, {"processed", "labelled"}),
        ({"negative_below": -0.5}, {"processed", "labelled"}),
        ({"max_characters": 100}, {"processed", "labelled", "raw"}),
        ({"language": None}, {"processed", "labelled", "raw"}),
        ({"limit": 2}, {"processed", "labelled", "raw"}),
        ({"limit": 3}, set()),
    ],
)
def test_an_option_repeats_the_steps_that_it_touches(
    tmp_path: Path, lake: LocalLake, option: dict[str, Any], again: set[str]
) -> None:
    path = write(tmp_path, *GOOD)
    processed(lake, path)
    written = files(lake)
    processed(lake, path, **option)
    assert {key.split("/")[0] for key in files(lake).keys() - written.keys()} == again


NOTHING = ["The source 'file' gave no rows: widen --query, --since or --limit", "another --source"]
LABELLED = [{"text": "good", "label": 4}, {"text": "bad", "label": 0}]
GERMAN = [{"text": f"Guten Tag {n}", "lang": "de"} for n in range(3)]


@pytest.mark.parametrize(
    ("name", "rows", "options", "error", "said"),
    [
        ("none.jsonl", None, {}, SourceError, ["none.jsonl does not exist", "Give the path of a file"]),
        ("t.jsonl", [], {}, SourceError, ["t.jsonl is empty", "Give a file with a column 'text'"]),
        ("t.csv", [b"id,text"], {}, NoRowsError, NOTHING),
        ("t.jsonl", GOOD, {"query": "nobody says so"}, NoRowsError, NOTHING),
        ("t.jsonl", [{"tweet": "Good"}], {}, SourceError, ["no column 'text'", "Rename the right one"]),
        ("t.jsonl", LABELLED, {}, SourceError, ["seen: 0, 4", "--label-mapping=0=negative"]),
        ("t.parquet", [b"PAR1 no more"], {}, SourceError, ["not a whole Parquet file", "Write it again"]),
        ("t.jsonl", GERMAN, {}, NoRowsError, ["3 × language is de, not en", "/rejected/raw/", "--language"]),
        (
            "t.jsonl",
            [row for row, _ in BAD[:9]],
            {},
            NoRowsError,
            ["can be used: 2 × no words after cleaning, 2 × text empty, 1 × ", "and 2 more reasons"],
        ),
    ],
)
def test_what_cannot_be_read_is_explained(
    tmp_path: Path,
    lake: LocalLake,
    name: str,
    rows: list[Any] | None,
    options: dict[str, Any],
    error: type[Exception],
    said: list[str],
) -> None:
    path = str(tmp_path / name) if rows is None else write(tmp_path, *rows, name=name)
    with pytest.raises(error) as caught:
        extract(lake, path, **options)
    for part in said:
        assert part in str(caught.value)
    assert {key.split("/")[0] for key in files(lake)} <= {"raw", "rejected"}


def test_rows_turned_away_are_kept_where_the_message_says(tmp_path: Path, lake: LocalLake) -> None:
    for _ in range(2):
        with pytest.raises(NoRowsError, match=f"Read them in {lake.folder}/rejected/raw/"):
            extract(lake, write(tmp_path, *GERMAN))
        assert list(rejected(lake).values()) == ["language is de, not en"] * 3


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="--negative-below must not be above --positive-above"):
        EtlParameters(negative_below=0.5, positive_above=0.1)
    assert EtlParameters(negative_below=0.1, positive_above=0.1)


def test_a_full_disk_under_the_lake(
    tmp_path: Path, warehouse: DuckDBWarehouse, mount: Callable[[str], Path]
) -> None:
    lake = LocalLake(folder=str(mount("size=48k") / "lake"))
    path = write(tmp_path, *MANY)
    with pytest.raises(
        LakeError, match=r"Cannot write .*/part-00000.*No space left on device \(0 MiB free\)"
    ):
        processed(lake, path)
    written = files(lake)
    assert "raw" in {key.split("/")[0] for key in written}
    mount("remount,size=2m")
    assert load(lake, warehouse, path) == merged(inserted=1000)
    assert written.items() <= files(lake).items()


def test_a_full_folder_for_temporary_files(
    tmp_path: Path, lake: LocalLake, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, *MANY)
    monkeypatch.setattr(tempfile, "tempdir", str(mount("size=8k")))
    with pytest.raises(SourceError, match=r"No space left on device.* set TMPDIR to another folder"):
        extract(lake, path)
    assert files(lake) == {}


def test_a_damaged_part_of_the_lake(tmp_path: Path, lake: LocalLake, warehouse: DuckDBWarehouse) -> None:
    path = write(tmp_path, *GOOD)
    load(lake, warehouse, path)
    (part,) = Path(lake.folder).glob("labelled/*/*.parquet")
    part.write_bytes(b"PAR1")
    with pytest.raises(LakeError) as caught:
        processed(lake, path, minimum_count=1)
    assert f"The snapshot {part.parent} cannot be read: " in str(caught.value)
    assert "Delete it and run again" in str(caught.value)
    for file in part.parent.iterdir():
        file.unlink()
    assert load(lake, warehouse, path, minimum_count=1) == merged(updated=3)
