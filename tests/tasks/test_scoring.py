"""Scoring keeps the rows of a file as they are and adds to them, or says why it cannot."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from containers.serve.predictor import Predictor
from tasks import scoring
from tasks.scoring import ScoringError, count_rows, scan, score_file
from tests.bundles import build_bundle

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("parquet", "csv", "jsonl", "ndjson")
ADDED = ["label", "p_negative", "p_neutral", "p_positive"]
EMOJI = "😀 👩‍👩‍👧 great"
ROWS = pl.DataFrame(
    {
        "id": ["007", "1e5", "", "-0", "true", "NaN"],
        "text": ["I love it", "terrible", "", None, EMOJI, 'quoted "hate",\nnext line'],
        "zip": ["007", "0.50", "1e3", "00", "9", "-0"],
        "note": ["", None, " ", "2024-01-01", "é", "null"],
    }
)
LABELS = ["positive", "negative", "neutral", None, "positive", "negative"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("bundle")
    build_bundle(folder)
    return Predictor(folder)


def write(frame: pl.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".parquet":
            frame.write_parquet(path)
        case ".csv":
            frame.write_csv(path)
        case _:
            frame.write_ndjson(path)
    return path


def read(path: Path) -> pl.DataFrame:
    match path.suffix:
        case ".parquet":
            return pl.read_parquet(path)
        case ".csv":
            return pl.read_csv(path, infer_schema=False)
        case _:
            return pl.read_ndjson(path, infer_schema_length=None)


def refused(predictor: Predictor, source: Path, target: Path, *said: str) -> None:
    """Check that scoring fails in words, and that it leaves nothing in the output's folder."""
    before = {path: path.stat().st_mtime_ns for path in source.parent.iterdir()}
    calls: list[int] = []
    with pytest.raises(ScoringError) as caught:
        score_file(predictor, source, target, on_rows=calls.append)
    for part in said:
        assert part in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in source.parent.iterdir()} == before
    assert calls == []


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_stay_as_they_are(predictor: Predictor, tmp_path: Path, kind: str, output: str) -> None:
    source = write(ROWS, tmp_path / f"in.{kind}")
    calls: list[int] = []
    target = tmp_path / f"out.{output}"
    assert score_file(predictor, source, target, on_rows=calls.append) == len(ROWS) == sum(calls)
    found = read(target)
    assert found.columns == ROWS.columns + ADDED
    assert found.select(ROWS.columns).equals(ROWS)
    assert found["label"].to_list() == LABELS
    known = ROWS["text"].is_not_null()
    expected = predictor.predict(ROWS["text"].drop_nulls().to_list())
    for name in ADDED[1:]:
        numbers = found[name].cast(pl.Float64)
        assert numbers.is_not_null().equals(known, check_names=False)
        assert numbers.drop_nulls().to_list() == pytest.approx([row[name] for row in expected], abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((source.name, target.name))


@pytest.mark.parametrize("output", ["parquet", "jsonl"])
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_nested_values_stay(predictor: Predictor, tmp_path: Path, kind: str, output: str) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "love", "user": {"id": 7, "tags": ["a", "b"]}, "seen": [{"at": 1.5}]},
        {"text": "hate", "user": None, "seen": []},
    ]
    source = write(pl.DataFrame(rows), tmp_path / f"in.{kind}")
    target = tmp_path / f"out.{output}"
    assert score_file(predictor, source, target) == 2
    assert read(target).drop(ADDED).to_dicts() == rows
    refused(predictor, source, tmp_path / "out.csv", ".csv", "'user'", "Struct", ".parquet")


def test_other_types_stay_in_parquet(predictor: Predictor, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"at": [datetime(2024, 1, 1, tzinfo=UTC)], "n": [7], "f": [0.1], "b": [True], "raw": [b"\xff"]}
    ).with_columns(pl.lit("love").alias("text"), pl.duration(hours=1).alias("took"))
    source = write(frame, tmp_path / "in.parquet")
    score_file(predictor, source, tmp_path / "out.parquet")
    assert read(tmp_path / "out.parquet").drop(ADDED).equals(frame)
    refused(predictor, source, tmp_path / "out.jsonl", "'raw'", "Binary")
    refused(predictor, source, tmp_path / "out.csv", "'raw'", "Binary")
    nested = frame.select("text", pl.struct(pl.concat_list("raw").alias("list")).alias("deep"))
    refused(predictor, write(nested, tmp_path / "nested.parquet"), tmp_path / "out.jsonl", "'deep'")
    took = write(frame.select("text", "took"), tmp_path / "took.parquet")
    refused(predictor, took, tmp_path / "out.csv", "'took'", "Duration")


def test_keys_that_come_late_or_not_at_all(predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "love"}\n' * 2000 + '\n{"text": "hate", "late": [1]}\n{"late": [2]}\n')
    assert score_file(predictor, source, tmp_path / "out.jsonl") == 2002
    found = read(tmp_path / "out.jsonl")
    assert found["late"].to_list() == [None] * 2000 + [[1], [2]]
    assert found["label"].to_list()[-2:] == ["negative", None]


def test_no_text_at_all(predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": null, "id": "1"}\n' * 3)
    assert score_file(predictor, source, tmp_path / "out.parquet") == 3
    assert read(tmp_path / "out.parquet")["label"].to_list() == [None] * 3


def test_suffixes_in_capitals(predictor: Predictor, tmp_path: Path) -> None:
    source = write(ROWS, tmp_path / "in.csv").rename(tmp_path / "IN.CSV")
    score_file(predictor, source, tmp_path / "OUT.JsonL")
    rows = [json.loads(line) for line in (tmp_path / "OUT.JsonL").read_text().splitlines()]
    assert [row["label"] for row in rows] == LABELS


@pytest.mark.parametrize("kind", KINDS)
def test_long_and_strange_texts(predictor: Predictor, tmp_path: Path, kind: str) -> None:
    texts = ["love " * 2000, "x" * 10_000, "💔" * 10_000, "\u202e\u0000\ufeff", " \t\n ", "🏳️‍🌈"]
    source = write(pl.DataFrame({"text": texts}), tmp_path / f"in.{kind}")
    score_file(predictor, source, tmp_path / f"out.{kind}")
    found = read(tmp_path / f"out.{kind}")
    assert found["text"].to_list() == texts
    assert found["label"].to_list() == ["positive"] + ["neutral"] * 5


def test_taken_columns_and_a_prefix(predictor: Predictor, tmp_path: Path) -> None:
    source = write(ROWS.with_columns(label=pl.lit("mine")), tmp_path / "in.csv")
    target = tmp_path / "out.csv"
    refused(predictor, source, target, str(source), "'label'", "--prefix")
    score_file(predictor, source, target, prefix="m_")
    assert read(target).columns == [*ROWS.columns, "label", *(f"m_{name}" for name in ADDED)]
    assert read(target)["label"].unique().to_list() == ["mine"]
    with pytest.raises(ScoringError, match="'m_label'"):
        score_file(predictor, target, tmp_path / "again.csv", prefix="m_")


@pytest.mark.parametrize("kind", KINDS)
def test_no_column_text(predictor: Predictor, tmp_path: Path, kind: str) -> None:
    source = write(pl.DataFrame({"id": ["1"], "tweet": ["love"]}), tmp_path / f"in.{kind}")
    refused(predictor, source, tmp_path / "out.csv", str(source), "`text`", "id, tweet", "rename")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_text_that_is_not_a_string(predictor: Predictor, tmp_path: Path, kind: str) -> None:
    source = write(pl.DataFrame({"text": [1, 2]}), tmp_path / f"in.{kind}")
    refused(predictor, source, tmp_path / "out.csv", str(source), "Int64", "strings")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_empty_files(predictor: Predictor, tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"in.{kind}"
    refused(predictor, source, tmp_path / "out.csv", str(source), "no file")
    source.touch()
    refused(predictor, source, tmp_path / "out.csv", str(source), "empty")
    folder = tmp_path / f"folder.{kind}"
    folder.mkdir()
    refused(predictor, folder, tmp_path / "out.csv", str(folder), "no file")


@pytest.mark.parametrize("output", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_no_rows(predictor: Predictor, tmp_path: Path, kind: str, output: str) -> None:
    source = write(ROWS.clear(), tmp_path / f"in.{kind}")
    target = tmp_path / f"out.{output}"
    assert count_rows(source) == score_file(predictor, source, target) == 0
    assert target.is_file()
    if output != "jsonl":
        assert read(target).columns == ROWS.columns + ADDED


def test_unknown_kinds(predictor: Predictor, tmp_path: Path) -> None:
    source = write(ROWS, tmp_path / "in.csv")
    refused(predictor, source, tmp_path / "out.xlsx", "out.xlsx", ".parquet, .csv, .jsonl")
    refused(predictor, source, tmp_path / "out", "''", ".parquet, .csv, .jsonl")
    text = write(ROWS, tmp_path / "other.csv").rename(tmp_path / "in.txt")
    refused(predictor, text, tmp_path / "out.csv", "in.txt", ".parquet, .csv, .jsonl")


def test_outputs_that_cannot_be(predictor: Predictor, tmp_path: Path) -> None:
    source = write(ROWS, tmp_path / "in.csv")
    refused(predictor, source, source / "out.csv", str(source / "out.csv"), "no folder")
    refused(predictor, source, tmp_path / "none" / "out.csv", "none", "no folder")
    (tmp_path / "folder.csv").mkdir()
    refused(predictor, source, tmp_path / "folder.csv", "folder.csv", "is a folder")
    with pytest.raises(ScoringError, match="Cannot write /proc/out.csv"):
        score_file(predictor, source, Path("/proc/out.csv"))


def test_the_output_is_not_the_input(predictor: Predictor, tmp_path: Path) -> None:
    source = write(ROWS, tmp_path / "in.csv")
    (tmp_path / "link.csv").symlink_to(source)
    for target in (source, tmp_path / "link.csv", source.parent / ".." / tmp_path.name / "in.csv"):
        refused(predictor, source, target, "is the input")


def test_invalid_utf8_in_csv_is_scored(predictor: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b"id,text\n1,caf\xe9 love\n2,\xff\xfe\n")
    assert score_file(predictor, source, tmp_path / "out.csv") == 2
    assert read(tmp_path / "out.csv")["text"].to_list() == ["caf\ufffd love", "\ufffd\ufffd"]
    assert read(tmp_path / "out.csv")["label"].to_list() == ["positive", "neutral"]


def broken_jsonl(path: Path) -> None:
    path.write_bytes(b'{"text": "love"}\n' * 300 + b'{"text": "caf\xe9"}\n')


def broken_line(path: Path) -> None:
    path.write_bytes(b'{"text": "love"}\n' * 300 + b'{"text": "cut o')


def broken_parquet(path: Path) -> None:
    offsets, invalid = pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    texts = pa.Array.from_buffers(pa.string(), 1, [None, offsets, invalid])
    pq.write_table(pa.table({"text": texts}), path)


def corrupt_pages(path: Path) -> None:
    """The footer is whole, the second half of the rows is not."""
    pl.DataFrame({"text": ["love"] * 4000}).write_parquet(path, row_group_size=1000, compression="zstd")
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(3).column(0).dictionary_page_offset or 0
    content[start : start + 60] = b"\xaa" * 60
    path.write_bytes(content)


def half_a_parquet(path: Path) -> None:
    write(ROWS, path)
    path.write_bytes(path.read_bytes()[:-20])


def ragged(path: Path) -> None:
    path.write_text("text,id\n" + "love,1\n" * 300_000 + "love,1,2\n")


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (broken_jsonl, "jsonl"),
        (broken_line, "jsonl"),
        (broken_parquet, "parquet"),
        (corrupt_pages, "parquet"),
        (half_a_parquet, "parquet"),
        (ragged, "csv"),
    ],
)
def test_broken_files(
    predictor: Predictor, tmp_path: Path, break_it: Callable[[Path], None], kind: str
) -> None:
    source = tmp_path / f"in.{kind}"
    break_it(source)
    target = tmp_path / "out.csv"
    target.write_text("of an earlier run")
    with pytest.raises(ScoringError, match=f"Cannot read {source}: (?s:.*) Check that it is whole"):
        score_file(predictor, source, target)
    assert target.read_text() == "of an earlier run"
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_half_way_leaves_nothing(
    predictor: Predictor, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(pl.DataFrame({"text": ["love"] * 40_000}), tmp_path / "in.jsonl")
    (tmp_path / ".out.csv.part").write_text("of a run that was killed")

    def fail(rows: int) -> None:
        calls.append(rows)
        if len(calls) == 2:
            raise error

    calls: list[int] = []
    with pytest.raises(type(error)):
        score_file(predictor, source, tmp_path / "out.csv", on_rows=fail)
    assert len(calls) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert score_file(predictor, source, tmp_path / "out.csv") == 40_000


@pytest.mark.parametrize(("kind", "rows"), [("csv", 200_000), ("jsonl", 40_000)])
def test_order_over_many_batches(predictor: Predictor, tmp_path: Path, kind: str, rows: int) -> None:
    numbers = pl.int_range(rows, eager=True)
    texts = [("love", "hate", "and")[number % 3] for number in numbers]
    frame = pl.DataFrame({"id": numbers.cast(pl.String).str.zfill(7), "text": texts})
    sizes: list[int] = []
    source, target = write(frame, tmp_path / f"in.{kind}"), tmp_path / f"out.{kind}"
    assert score_file(predictor, source, target, on_rows=sizes.append) == count_rows(source) == rows
    assert len(sizes) > 2
    found = read(target)
    assert found["id"].equals(frame["id"])
    assert found["label"].to_list() == [("positive", "negative", "neutral")[n % 3] for n in numbers]


def test_scanning_is_lazy(tmp_path: Path) -> None:
    source = write(ROWS, tmp_path / "in.csv")
    assert isinstance(scan(source), pl.LazyFrame)
    assert count_rows(source) == len(ROWS)
    assert set(scoring.SUFFIXES) == {f".{kind}" for kind in KINDS}


LIMITED = """
import resource, sys
from pathlib import Path
from containers.serve.predictor import Predictor
from tasks.scoring import score_file
{before}
rows = score_file(Predictor(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
# Not ru_maxrss: that begins with the peak of the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, int(peak.split()[1]) // 1024)
"""


def in_fresh_process(*paths: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED.format(before=before), *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    build_bundle(tmp_path / "bundle")
    source = write(pl.DataFrame({"text": ["love"] * 20_000}), tmp_path / "in.csv")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    done = in_fresh_process(tmp_path / "bundle", source, tmp_path / "out.csv", before=limit)
    assert f"ScoringError: Cannot write {tmp_path / 'out.csv'}" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "in.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_is_bounded(tmp_path: Path, kind: str) -> None:
    """A million rows take hardly more than a tenth of them, and less than 400 MiB."""
    build_bundle(tmp_path / "bundle")
    peaks = []
    for rows in (100_000, 1_000_000):
        numbers = pl.int_range(rows, eager=True).cast(pl.String)
        source = tmp_path / f"in.{kind}"
        write(pl.DataFrame({"id": numbers, "text": "I love the number " + numbers}), source)
        done = in_fresh_process(tmp_path / "bundle", source, tmp_path / f"out.{kind}")
        scored, peak = map(int, done.stdout.split())
        assert scored == rows
        peaks.append(peak)
    assert peaks[1] < 400, peaks
    assert peaks[1] < peaks[0] + 150, peaks
