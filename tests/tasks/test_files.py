"""Files: the three formats, their defects and their errors."""

import json
import re
import shlex
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli import parse
from tasks import files
from tasks.sources import BATCH_ROWS, RAW, SourceError, SourceParameters, read

FORMATS = ["parquet", "csv", "jsonl"]


def write(frame: pl.DataFrame, folder: Path, suffix: str) -> Path:
    path = folder / f"tweets.{suffix}"
    writers: dict[str, Any] = {
        "parquet": frame.write_parquet,
        "csv": frame.write_csv,
        "jsonl": frame.write_ndjson,
    }
    writers[suffix](path)
    return path


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def collect(path: Path, **parameters: Any) -> pl.DataFrame:
    return pl.concat(read(SourceParameters(source="file", path=str(path), **parameters)))


def refusal(path: Path, **parameters: Any) -> str:
    with pytest.raises(SourceError) as caught:
        collect(path, **parameters)
    assert str(path) in str(caught.value)
    return str(caught.value)


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        " ",
        '"',
        '""',
        ",",
        "a\r\nb",
        "\n",
        "\r",
        "\0",
        "\ufeffBOM",
        "😀👩‍👩‍👧",
        'it\'s "quoted", yes',
        "NULL",
        "x" * 10_000,
    ]
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), alone=st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, texts: list[str], alone: bool
) -> None:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    if not alone:
        frame = frame.with_columns(pl.int_range(pl.len()).alias("id"))
    back = collect(write(frame, tmp_path_factory.mktemp("trip"), suffix))
    assert back["text"].to_list() == texts
    assert back["defect"].null_count() == len(texts)


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_columns(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "other": [1.5, 2.5],
            "username": ["ann", None],
            "text": ["Good 😀", 'bad, "very"\nbad'],
            "label": ["POSITIVE", "Negative"],
            "lang": ["en", None],
            "created_at": ["2024-01-02T03:04:05+02:00", None],
            "id": [17, 18],
        }
    )
    back = collect(write(frame, tmp_path, suffix))
    assert back.schema == RAW
    created = datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert back.rows() == [
        ("file:17", created, "en", "ann", "Good 😀", "file", "positive", None),
        ("file:18", None, None, None, 'bad, "very"\nbad', "file", "negative", None),
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_ids_of_rows_without_one_depend_on_the_text(tmp_path: Path, suffix: str) -> None:
    back = collect(write(pl.DataFrame({"text": ["a", "b", "a"]}), tmp_path, suffix))
    assert back["id"].to_list() == ["file:ca978112ca1bbdca", "file:3e23e8160039594a", "file:ca978112ca1bbdca"]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_null_text_stays_null(tmp_path: Path, suffix: str) -> None:
    back = collect(write(pl.DataFrame({"text": ["a", None]}), tmp_path, suffix))
    assert back.select("text", "defect").rows() == [("a", None), (None, None)]


def test_null_in_the_only_csv_column_is_no_row_less(tmp_path: Path) -> None:
    back = collect(write(pl.DataFrame({"text": ["a", None, "b"]}), tmp_path, "csv"))
    assert back["text"].to_list() == ["a", "", "b"]


def test_dates(tmp_path: Path) -> None:
    moments = [datetime(2024, 5, 1, 12, 30, 0, 123456), None]
    expected = [datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=UTC), None]
    for dtype in (pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC")):
        frame = pl.DataFrame({"text": ["a", "b"], "created_at": pl.Series(moments, dtype=dtype)})
        assert collect(write(frame, tmp_path, "parquet"))["created_at"].to_list() == expected, dtype
    frame = pl.DataFrame({"text": ["a"], "created_at": [datetime(2024, 5, 1, 12)]})
    berlin = frame.with_columns(pl.col("created_at").dt.replace_time_zone("Europe/Berlin"))
    assert collect(write(berlin, tmp_path, "parquet"))["created_at"][0] == datetime(
        2024, 5, 1, 10, tzinfo=UTC
    )
    finer = pa.table({"text": ["a"], "created_at": pa.array([1_999], pa.timestamp("ns"))})
    pq.write_table(finer, tmp_path / "finer.parquet")
    assert collect(tmp_path / "finer.parquet")["created_at"][0] == datetime(1970, 1, 1, 0, 0, 0, 1, UTC)
    days = pl.DataFrame({"text": ["a"], "created_at": [date(2024, 5, 1)]})
    assert collect(write(days, tmp_path, "parquet"))["created_at"][0] == datetime(2024, 5, 1, tzinfo=UTC)


def test_what_is_no_date_is_a_defect(tmp_path: Path) -> None:
    path = put(tmp_path, "t.jsonl", b'{"text": "a", "created_at": "soon"}\n{"text": "b", "created_at": 17}\n')
    back = collect(path)
    assert back["defect"].to_list() == ["created_at is not a date"] * 2
    assert back["text"].to_list() == ["a", "b"]
    never = pa.table({"text": ["a", "b"], "created_at": pa.array([2**62, 0], pa.timestamp("us"))})
    pq.write_table(never, tmp_path / "never.parquet")
    back = collect(tmp_path / "never.parquet")
    assert back["defect"].to_list() == ["created_at is not a date", None]
    assert back["created_at"].to_list() == [None, datetime(1970, 1, 1, tzinfo=UTC)]


class TestLabels:
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_integers_need_a_mapping(self, tmp_path: Path, suffix: str) -> None:
        frame = pl.DataFrame({"text": list("abcd"), "label": [2, 0, 1, None]})
        path = write(frame, tmp_path, suffix)
        message = refusal(path)
        assert "none of the labels is negative, neutral, positive; seen: 0, 1, 2." in message
        assert message.endswith("--label-mapping=0=negative,1=neutral,2=positive")
        mapping = {"0": "neutral", "1": "negative", "2": "positive"}
        back = collect(path, label_mapping=mapping)
        assert back["human_label"].to_list() == ["positive", "neutral", "negative", None]

    @pytest.mark.parametrize(
        ("values", "mapping"),
        [
            ([-1, 1, 0], {"-1": "negative", "0": "neutral", "1": "positive"}),
            ([0, 4], {"0": "negative", "4": "positive"}),
            ([1, 10, 9], {"1": "negative", "9": "neutral", "10": "positive"}),
            (["it's bad"], {"it's bad": "negative"}),
        ],
    )
    def test_the_flag_in_the_message_works(
        self, tmp_path: Path, values: list[Any], mapping: dict[str, str]
    ) -> None:
        path = write(pl.DataFrame({"text": ["t"] * len(values), "label": values}), tmp_path, "csv")
        flag = refusal(path)[refusal(path).index("--label-mapping") :]
        parsed = parse(
            SourceParameters, "test", ["--source", "file", "--path", str(path), *shlex.split(flag)]
        )
        assert parsed.label_mapping == mapping
        assert pl.concat(read(parsed))["defect"].null_count() == len(values)

    def test_other_names_need_a_mapping_too(self, tmp_path: Path) -> None:
        path = write(pl.DataFrame({"text": ["a", "b"], "label": ["bad", "Good"]}), tmp_path, "csv")
        assert "seen: Good, bad." in refusal(path)
        back = collect(path, label_mapping={"BAD": "negative", "good": "positive"})
        assert back["human_label"].to_list() == ["negative", "positive"]

    def test_many_values_are_not_all_shown(self, tmp_path: Path) -> None:
        message = refusal(write(pl.DataFrame({"text": ["a"] * 500, "label": range(500)}), tmp_path, "csv"))
        assert "seen: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …. " in message
        assert len(message) < 1000

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_value_outside_the_mapping_is_a_defect(self, tmp_path: Path, suffix: str) -> None:
        path = write(pl.DataFrame({"text": ["a", "b"], "label": [0, 7]}), tmp_path, suffix)
        back = collect(path, label_mapping={"0": "neutral"})
        assert back.select("text", "human_label", "defect").rows() == [
            ("a", "neutral", None),
            ("b", "!7", "label outside the mapping: 7"),
        ]

    def test_names_and_a_mapping_go_together(self, tmp_path: Path) -> None:
        path = write(pl.DataFrame({"text": ["a", "b"], "label": ["neutral", "1"]}), tmp_path, "csv")
        assert collect(path, label_mapping={"1": "positive"})["human_label"].to_list() == [
            "neutral",
            "positive",
        ]

    def test_floats_of_a_table_with_gaps(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"text": ["a", "b", "c", "d"], "label": [0.0, None, 1.0, float("nan")]})
        for suffix in ("parquet", "csv"):
            back = collect(
                write(frame[:3], tmp_path, suffix), label_mapping={"0": "negative", "1": "positive"}
            )
            assert back["human_label"].to_list() == ["negative", None, "positive"]
        back = collect(write(frame, tmp_path, "parquet"), label_mapping={"0": "negative", "1": "positive"})
        assert back["human_label"][3] is None

    def test_categories_of_a_data_frame(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"text": ["a", "b"], "label": ["negative", "positive"]})
        path = write(frame.cast(pl.Categorical), tmp_path, "parquet")
        assert collect(path).select("text", "human_label").rows() == [("a", "negative"), ("b", "positive")]


class TestParquet:
    @pytest.mark.parametrize(
        "kind",
        [
            pa.string(),
            pa.large_string(),
            pa.string_view(),
            pa.binary(),
            pa.large_binary(),
            pa.binary_view(),
            pa.dictionary(pa.int32(), pa.string()),
        ],
        ids=str,
    )
    def test_types_of_text_with_invalid_utf8(self, tmp_path: Path, kind: pa.DataType) -> None:
        raw = pa.array([b"caf\xc3\xa9", b"caf\xe9 \xff", None, "😀".encode()], pa.large_binary())
        strings = pa.Array.from_buffers(pa.large_string(), 4, raw.buffers())  # as a careless writer would
        column = (
            strings.dictionary_encode()
            if pa.types.is_dictionary(kind)
            else raw.cast(kind, safe=False)
            if "binary" in str(kind)
            else self._unchecked(raw, kind)
        )
        pq.write_table(pa.table({"text": column}), tmp_path / "t.parquet")
        back = collect(tmp_path / "t.parquet")
        assert back["text"].to_list() == ["café", "caf� �", None, "😀"]
        assert back["defect"].to_list() == [None, "invalid UTF-8", None, None]

    @staticmethod
    def _unchecked(raw: pa.Array, kind: pa.DataType) -> pa.Array:
        twin = {"string": pa.binary(), "large_string": pa.large_binary(), "string_view": pa.binary_view()}[
            str(kind)
        ]
        return pa.Array.from_buffers(kind, len(raw), raw.cast(twin).buffers())

    def test_text_that_is_none(self, tmp_path: Path) -> None:
        path = write(pl.DataFrame({"text": [1, 2]}), tmp_path, "parquet")
        assert "column 'text' has the type int64. Write it as strings." in refusal(path)

    def test_no_rows(self, tmp_path: Path) -> None:
        path = write(pl.DataFrame({"text": []}, schema={"text": pl.String}), tmp_path, "parquet")
        assert list(read(SourceParameters(source="file", path=str(path)))) == []

    @pytest.mark.parametrize("damage", ["no parquet at all", "truncated", "overwritten"])
    def test_corrupt(self, tmp_path: Path, damage: str) -> None:
        path = write(pl.DataFrame({"text": [f"tweet {n}" for n in range(5000)]}), tmp_path, "parquet")
        content = path.read_bytes()
        middle = len(content) // 3
        damaged = {
            "no parquet at all": b"text\nhello\n",
            "truncated": content[: len(content) // 2],
            "overwritten": content[:middle] + b"\xff" * middle + content[2 * middle :],
        }
        path.write_bytes(damaged[damage])
        assert re.search(
            r"is not a whole Parquet file \(.+\)\. Write it again, or restore a copy", refusal(path)
        )

    def test_batches_are_bounded_and_read_on_demand(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        numbers = pl.DataFrame({"text": pl.int_range(200_000, eager=True).cast(pl.String)})
        numbers.write_parquet(path, row_group_size=BATCH_ROWS, compression="uncompressed")
        sizes = [len(batch) for batch in read(SourceParameters(source="file", path=str(path)))]
        assert len(sizes) >= 10
        assert max(sizes) <= BATCH_ROWS
        assert sum(sizes) == 200_000
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(content[:half] + b"\xff" * (half // 2) + content[half + half // 2 :])
        batches = read(SourceParameters(source="file", path=str(path)))
        assert len(next(batches)) == BATCH_ROWS  # whatever is wrong further down
        with pytest.raises(SourceError, match="not a whole Parquet file"):
            list(batches)


class TestCsv:
    def test_bom_crlf_quoted_newlines_and_nul(self, tmp_path: Path) -> None:
        path = put(
            tmp_path, "t.csv", b'\xef\xbb\xbfid, text\r\n1,"a\r\nb ""c"", d"\r\n\r\n2,nul \0\r\n3,last'
        )
        back = collect(path)
        assert back.select("id", "text").rows() == [
            ("file:1", 'a\r\nb "c", d'),
            ("file:2", "nul \0"),
            ("file:3", "last"),
        ]
        assert back["defect"].null_count() == 3

    def test_defects_come_in_their_place_with_the_line(self, tmp_path: Path) -> None:
        lines = [b"id,text", b"1,ok", b"2,too,many", b"3", b"4,caf\xe9", b'5,"a"b', b"6,fine"]
        back = collect(put(tmp_path, "t.csv", b"\n".join(lines) + b"\n"))
        assert back.select("text", "defect").rows() == [
            ("ok", None),
            ("2,too,many", "wrong number of columns"),
            ("3", "wrong number of columns"),
            ("caf�", "invalid UTF-8"),
            ('5,"a"b', "not CSV: ',' expected after '\"'"),
            ("fine", None),
        ]
        assert back["id"][3] == "file:4"

    @pytest.mark.parametrize("following", [3, 30_000])
    def test_a_quote_never_closed_loses_no_line(self, tmp_path: Path, following: int) -> None:
        lines = [f"{number},tweet {number}" for number in range(following)]
        content = "\n".join(["id,text", "a,before", 'b,"open', *lines])
        back = collect(put(tmp_path, "t.csv", content.encode()))
        assert back.row(0)[4] == "before"
        assert "\n".join(
            text if defect else f"{key.removeprefix('file:')},{text}"
            for key, text, defect in back.select("id", "text", "defect").rows()[1:]
        ) == "\n".join(['b,"open', *lines])
        assert back["defect"].drop_nulls().len() == 1

    def test_invalid_utf8_elsewhere(self, tmp_path: Path) -> None:
        back = collect(put(tmp_path, "t.csv", b"text,username\na,Ren\xe9\n"))
        assert back.select("username", "defect").rows() == [("Ren�", "invalid UTF-8 in username")]

    @pytest.mark.parametrize(
        ("header", "complaint"),
        [
            (b"text;label", "has no column 'text'; its columns are 'text;label'. Rename"),
            (b"Text", "has no column 'text'; its columns are 'Text'. Rename"),
            (b"text,id,id", "has more than one column 'id': 'text', 'id', 'id'. Rename all but one."),
            (
                b'"te"xt,label',
                "the first line is no CSV header (',' expected after '\"'). Name the columns there.",
            ),
        ],
    )
    def test_bad_header(self, tmp_path: Path, header: bytes, complaint: str) -> None:
        assert complaint in refusal(put(tmp_path, "t.csv", header + b"\na,b\n"))

    def test_header_alone(self, tmp_path: Path) -> None:
        path = put(tmp_path, "t.csv", b"text\n")
        assert list(read(SourceParameters(source="file", path=str(path)))) == []


class TestJsonLines:
    def test_defects_come_in_their_place_with_the_line(self, tmp_path: Path) -> None:
        lines = [
            b'\xef\xbb\xbf{"text": "ok", "id": 1}\r',
            b"",
            b'{"text": "torn',
            b'["a list"]',
            b'{"text": 5, "id": 2}',
            b'{"text": "caf\xe9", "id": 3}',
            b"\xff\xfe not json",
            b'{"text": "half \\ud83d of a pair", "id": 4}',
            b'{"id": 5}',
            b"[" * 100_000,
            b'{"text": "\\u0000 \\ud83d\\ude00", "id": 6}',
        ]
        back = collect(put(tmp_path, "t.ndjson", b"\n".join(lines)))
        assert back.with_columns(pl.col("text").str.slice(0, 20)).select("text", "defect").rows() == [
            ("ok", None),
            ('{"text": "torn', "not JSON"),
            ('["a list"]', "not a JSON object"),
            ("5", "text is not a string but int"),
            ("caf�", "invalid UTF-8"),
            ("�� not json", "invalid UTF-8"),
            ("half � of a pair", "invalid UTF-8"),
            (None, None),
            ("[" * 20, "not JSON"),
            ("\0 😀", None),
        ]
        assert back["id"].to_list()[-2:] != back["id"].to_list()[:2]
        assert [key for key in back["id"] if len(key) == 6] == [f"file:{n}" for n in range(1, 7)]

    def test_columns_may_come_late(self, tmp_path: Path) -> None:
        back = collect(put(tmp_path, "t.jsonl", b'{"id": 1}\n{"id": 2, "text": "a"}\n'))
        assert back["text"].to_list() == [None, "a"]

    def test_a_line_without_end_does_not_fill_the_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "LINE_BYTES", 2**20)
        path = put(tmp_path, "t.jsonl", b'{"text": "a"}\n' * BATCH_ROWS + b"{" * 2**20 + b"}\n")
        batches = read(SourceParameters(source="file", path=str(path)))
        assert len(next(batches)) == BATCH_ROWS  # read on demand
        with pytest.raises(SourceError, match=rf"line {BATCH_ROWS + 1} is longer than 1 MiB"):
            list(batches)


@pytest.mark.parametrize(
    ("suffix", "rows"), [("parquet", 0), ("csv", 0), ("parquet", 2), ("csv", 2), ("jsonl", 2)]
)
def test_missing_text(tmp_path: Path, suffix: str, rows: int) -> None:
    path = write(pl.DataFrame({"tweet": ["a"] * rows, "label": ["b"] * rows}), tmp_path, suffix)
    message = refusal(path)
    assert "has no column 'text'; its columns are 'tweet', 'label'. Rename the right one to 'text'" in message


@pytest.mark.parametrize("suffix", FORMATS)
def test_since_needs_dates(tmp_path: Path, suffix: str) -> None:
    path = write(pl.DataFrame({"text": ["a"]}), tmp_path, suffix)
    assert "has no column 'created_at'" in refusal(path, since=date(2024, 1, 1))


@pytest.mark.parametrize("suffix", FORMATS)
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    assert "is empty. Give a file with a column 'text'." in refusal(put(tmp_path, f"t.{suffix}", b""))


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is not a file" in refusal(tmp_path / "folder.csv")
    message = refusal(put(tmp_path, "t.xlsx", b"PK"))
    assert "of unknown kind '.xlsx'. Make it one of .parquet, .csv, .jsonl, .ndjson." in message


def test_suffixes_in_any_case(tmp_path: Path) -> None:
    assert collect(put(tmp_path, "T.CSV", b"text\na\n"))["text"].to_list() == ["a"]
    assert collect(put(tmp_path, "T.JSONL", json.dumps({"text": "a"}).encode()))["text"].to_list() == ["a"]


def test_long_texts_come_whole(tmp_path: Path) -> None:
    for suffix in FORMATS:
        assert (
            collect(write(pl.DataFrame({"text": ["😀" * 100_000]}), tmp_path, suffix))["text"][0]
            == "😀" * 100_000
        )


def test_a_reader_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "t.csv", b"text\na\n")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    assert "cannot be read: [Errno 5] Input/output error. Check the disk and the permissions" in refusal(path)
