"""Snapshots: whole or not there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from blocks.lake import LakeError, LocalLake
from tasks.snapshots import Snapshot, find_snapshot, part_key, write_snapshot

Part = tuple[pl.DataFrame, pl.DataFrame | None]


def frame(start: int, stop: int) -> pl.DataFrame:
    return pl.select(n=pl.int_range(start, stop))


def turned_away(*reasons: str) -> pl.DataFrame:
    return pl.DataFrame(
        {"n": list(range(len(reasons))), "reason": list(reasons)}, schema_overrides={"n": pl.Int64}
    )


def parts() -> Iterator[Part]:
    yield frame(0, 10), turned_away("text empty", "id missing", "text empty")
    yield frame(10, 10), turned_away()
    yield frame(10, 15), None
    yield frame(15, 20), turned_away("text empty")


def files(lake: LocalLake) -> dict[str, bytes]:
    folder = Path(lake.folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_written_is_found(lake: LocalLake) -> None:
    assert find_snapshot(lake, "raw", "k") is None
    written = write_snapshot(lake, "raw", "k", parts())
    assert written == Snapshot(
        step="raw", key="k", parts=4, rows=20, rejected={"id missing": 1, "text empty": 3}
    )
    assert find_snapshot(lake, "raw", "k") == written
    assert find_snapshot(lake, "raw", "other") is None
    assert find_snapshot(lake, "labelled", "k") is None


def test_parts_are_read_in_order_one_at_a_time(lake: LocalLake) -> None:
    snapshot = write_snapshot(lake, "raw", "k", parts())
    frames = list(snapshot.frames(lake))
    assert [len(one) for one in frames] == [10, 0, 5, 5]
    assert pl.concat(frames)["n"].to_list() == list(range(20))
    assert lake.scan(snapshot.part_keys()).collect()["n"].to_list() == list(range(20))


def test_files_lie_where_a_person_would_look(lake: LocalLake) -> None:
    snapshot = write_snapshot(lake, "raw", "k", parts())
    assert snapshot.prefix == "raw/k"
    assert sorted(files(lake)) == [
        "raw/k/manifest.json",
        *(f"raw/k/part-0000{number}.parquet" for number in range(4)),
        "rejected/raw/k/part-00000.parquet",
        "rejected/raw/k/part-00003.parquet",
    ]
    rejected = lake.scan([part_key("rejected/raw", "k", 0)]).collect()
    assert rejected["reason"].to_list() == ["text empty", "id missing", "text empty"]
    assert json.loads(lake.read("raw/k/manifest.json"))["rows"] == 20


def test_a_step_cut_short_does_not_count(lake: LocalLake) -> None:
    def breaking() -> Iterator[Part]:
        yield from list(parts())[:2]
        raise LookupError("broke off")

    with pytest.raises(LookupError, match="broke off"):
        write_snapshot(lake, "raw", "k", breaking())
    assert "raw/k/part-00001.parquet" in files(lake)
    assert find_snapshot(lake, "raw", "k") is None
    snapshot = write_snapshot(lake, "raw", "k", parts())
    assert find_snapshot(lake, "raw", "k") == snapshot
    assert pl.concat(snapshot.frames(lake))["n"].to_list() == list(range(20))


def test_the_manifest_is_written_last(lake: LocalLake) -> None:
    def watching() -> Iterator[Part]:
        for part in parts():
            assert not lake.exists("raw/k/manifest.json")
            yield part

    write_snapshot(lake, "raw", "k", watching())
    assert lake.exists("raw/k/manifest.json")


def test_written_again_it_is_the_same_bytes(lake: LocalLake) -> None:
    write_snapshot(lake, "raw", "k", parts())
    before = files(lake)
    write_snapshot(lake, "raw", "k", parts())
    assert files(lake) == before


def test_nothing_is_a_snapshot_too(lake: LocalLake) -> None:
    snapshot = write_snapshot(lake, "raw", "k", [])
    assert (snapshot.parts, snapshot.rows, snapshot.rejected) == (0, 0, {})
    assert find_snapshot(lake, "raw", "k") == snapshot
    assert list(snapshot.frames(lake)) == []


def test_a_lake_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lake = LocalLake(folder=str(tmp_path / "file"))
    assert find_snapshot(lake, "raw", "k") is None
    with pytest.raises(LakeError, match=r"raw/k/part-00000\.parquet: Not a directory"):
        write_snapshot(lake, "raw", "k", parts())


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:200])]
)
def test_a_damaged_part_is_named_with_the_remedy(lake: LocalLake, damage: Callable[[Path], None]) -> None:
    snapshot = write_snapshot(lake, "raw", "k", parts())
    damage(Path(lake.uri("raw/k/part-00002.parquet")))
    frames = snapshot.frames(lake)
    assert len(next(frames)) == 10
    with pytest.raises(LakeError) as caught:
        list(frames)
    assert f"The snapshot {lake.uri('raw/k')} cannot be read: " in str(caught.value)
    assert "Delete it and run again: it is made anew." in str(caught.value)


@pytest.mark.parametrize("manifest", [b"", b"{", b"{}", b"\xff"])
def test_half_a_manifest_does_not_count(lake: LocalLake, manifest: bytes) -> None:
    snapshot = write_snapshot(lake, "raw", "k", parts())
    lake.write("raw/k/manifest.json", manifest)
    assert find_snapshot(lake, "raw", "k") is None
    assert write_snapshot(lake, "raw", "k", parts()) == find_snapshot(lake, "raw", "k") == snapshot
