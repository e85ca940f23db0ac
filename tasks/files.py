"""Files of tweets: Parquet, CSV and JSON Lines, read in bounded memory."""

import csv
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from tasks.raw import BATCH_ROWS, LABEL_NAMES, Row, SourceError, mended, moment

COLUMNS = ("text", "label", "id", "created_at", "lang", "username")
"""The columns that are read; others are ignored. Only `text` is required."""

LINE_BYTES = 16 * 2**20
"""The longest line of a text file, so that a file without line ends cannot fill the memory."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 10  # values named in a message

Record = Mapping[str, object]
"""A row that could be parsed: column name to value. Strings carry undecodable bytes as lone surrogates."""


class Broken(NamedTuple):
    """A row that could not be parsed."""

    reason: str
    raw: str


def rows(path: str, labels: Mapping[str, str], required: Iterable[str] = ("text",)) -> Iterator[Row]:
    """Yield the rows of a file in order, those that cannot be used with their defect.

    A row without an id gets the first 16 hex digits of the SHA-256 of its text.

    Args:
        path: A .parquet, .csv, .jsonl or .ndjson file.
        labels: What values of the column `label` stand for: value, in any case, to label name.
        required: Columns that must be there.

    Raises:
        SourceError: The file is missing, empty, of unknown kind or unreadable, lacks a required column, or
            none of the labels in its first batch is understood.
    """
    file = Path(path)
    reader = _reader(file)
    names = {name: name for name in LABEL_NAMES} | {value.casefold(): name for value, name in labels.items()}
    try:
        records = reader(file, required)
        head = list(islice(records, BATCH_ROWS))
        _check_labels(file, head, names)
        for record in chain(head, records):
            yield _row(record, names)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error}. Check the disk and the permissions.") from error


def _reader(file: Path) -> Callable[[Path, Iterable[str]], Iterator[Record | Broken]]:
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
    kinds = ", ".join(readers)
    if not file.exists():
        raise SourceError(f"{file} does not exist. Give the path of a file ({kinds}).")
    if not file.is_file():
        raise SourceError(f"{file} is not a file. Give the path of one file ({kinds}).")
    if file.suffix.lower() not in readers:
        raise SourceError(f"{file} is of unknown kind {file.suffix!r}. Make it one of {kinds}.")
    if file.stat().st_size == 0:
        raise SourceError(f"{file} is empty. Give a file with a column 'text'.")
    return readers[file.suffix.lower()]


def _check_columns(file: Path, found: Iterable[str], required: Iterable[str]) -> None:
    columns = list(found)
    shown = ", ".join(repr(column) for column in columns[:50]) or "none"
    for name in COLUMNS:
        if columns.count(name) > 1:
            raise SourceError(f"{file} has more than one column {name!r}: {shown}. Rename all but one.")
    for name in required:
        if name not in columns:
            raise SourceError(
                f"{file} has no column {name!r}; its columns are {shown}. Rename the right one to {name!r} "
                "(a CSV file is comma-separated and names its columns in the first line)."
            )


def _parquet(file: Path, required: Iterable[str]) -> Iterator[Record | Broken]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            _check_columns(file, schema.names, required)
            _check_text(file, schema.field("text").type)
            present = [name for name in COLUMNS if name in schema.names]
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=present):
                values = [_values(batch.column(name)) for name in present]
                for row in zip(*values, strict=True):
                    yield dict(zip(present, row, strict=True))
    except PermissionError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{file} is not a whole Parquet file ({str(error).splitlines()[0]}). "
            "Write it again, or restore a copy."
        ) from error


def _check_text(file: Path, kind: Any) -> None:
    import pyarrow.types as t

    plain = kind.value_type if t.is_dictionary(kind) else kind
    if not (_is_text(plain) or t.is_null(plain)):
        raise SourceError(f"{file}: the column 'text' has the type {kind}. Write it as strings.")


def _is_text(kind: Any) -> bool:
    import pyarrow.types as t

    return any(
        check(kind)
        for check in (
            t.is_string,
            t.is_large_string,
            t.is_string_view,
            t.is_binary,
            t.is_large_binary,
            t.is_binary_view,
        )
    )


def _values(column: Any) -> list[object]:
    """Return an Arrow column as Python values, without failing on what only one row has wrong."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):  # Arrow does not validate strings; its own conversion fails for all at once
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
    if pa.types.is_timestamp(column.type):
        micros = pc.CastOptions(pa.timestamp("us", column.type.tz), allow_time_truncate=True)
        return [_since_epoch(value) for value in column.cast(options=micros).cast(pa.int64()).to_pylist()]
    return list(column.to_pylist())


def _since_epoch(micros: int | None) -> object:
    try:
        return None if micros is None else _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return micros  # no date for Python: the row's defect will name the number


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines with their ends, undecodable bytes kept as lone surrogates, a leading BOM dropped."""
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                raise SourceError(
                    f"{file}: line {number} is longer than {LINE_BYTES // 2**20} MiB. "
                    f"Check that it is a {file.suffix} file with one row a line."
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield line.decode("utf-8", "surrogateescape")


def _csv(file: Path, required: Iterable[str]) -> Iterator[Record | Broken]:
    """Read a CSV file strictly: whatever its quotes do, each line ends up in a row or in a broken one."""
    taken: list[str] = []  # the lines of the row being parsed

    def taking() -> Iterator[str]:
        for line in _lines(file):
            taken.append(line)
            yield line

    parser = csv.reader(taking(), strict=True)
    try:
        header = [name.strip() for name in next(parser)]
    except csv.Error as error:
        message = f"{file}: the first line is no CSV header ({error}). Name the columns there."
        raise SourceError(message) from error
    _check_columns(file, header, required)
    while True:
        taken.clear()
        try:
            fields = next(parser)
        except StopIteration:
            return
        except csv.Error as error:
            yield Broken(f"not CSV: {error}", "".join(taken))
            continue
        if not fields and len(header) == 1:
            fields = [""]  # a null in the only column is written as a blank line
        if len(fields) == len(header):
            yield dict(zip(header, fields, strict=True))
        elif fields:
            yield Broken("wrong number of columns", "".join(taken))


def _json_lines(file: Path, required: Iterable[str]) -> Iterator[Record | Broken]:
    lines = (line for line in _lines(file) if line.strip())
    records = map(_json_record, lines)
    head = list(islice(records, BATCH_ROWS))
    if found := dict.fromkeys(key for record in head if isinstance(record, dict) for key in record):
        _check_columns(file, found, required)
    yield from chain(head, records)


def _json_record(line: str) -> Record | Broken:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Broken("invalid UTF-8" if not mended(line)[1] else "not JSON", line)
    return value if isinstance(value, dict) else Broken("not a JSON object", line)


def _row(record: Record | Broken, labels: Mapping[str, str]) -> Row:
    if isinstance(record, Broken):
        raw = mended(record.raw.rstrip("\r\n"))[0]
        return Row(_digest(raw), None, None, None, raw, "file", defect=record.reason)
    defects: list[str] = []
    text = _string(record, "text", defects)
    key = _string(record, "id", defects)
    try:
        created = moment(record.get("created_at"))
    except ValueError:
        created = None
        defects.append("created_at is not a date")
    value = _label_value(record.get("label"))
    label = None if value is None else labels.get(value.casefold(), f"!{value}")
    if label is not None and label.startswith("!"):
        defects.append(f"label outside the mapping: {label[1:][:40]}")
    return Row(
        id=f"file:{key}" if key else _digest(text or ""),
        created_at=created,
        lang=_string(record, "lang", defects) or None,
        username=_string(record, "username", defects) or None,
        text=text,
        source="file",
        human_label=label,
        defect="; ".join(defects) or None,
    )


def _digest(text: str) -> str:
    return f"file:{sha256(text.encode()).hexdigest()[:16]}"


def _string(record: Record, name: str, defects: list[str]) -> str | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        if name == "text":
            defects.append(f"text is not a string but {type(value).__name__}")
        value = str(value)
    text, sound = mended(value)
    if not sound:
        defects.append("invalid UTF-8" if name == "text" else f"invalid UTF-8 in {name}")
    return text


def _label_value(value: object) -> str | None:
    """Return a label as the user would write it: 1.0, which is what a table with gaps makes of 1, as 1."""
    if value is None or value != value:  # NaN
        return None
    text = mended(str(value))[0].strip()
    return (re.sub(r"^(-?\d+)\.0+$", r"\1", text) if "." in text else text) or None


def _check_labels(file: Path, head: Iterable[Record | Broken], labels: Mapping[str, str]) -> None:
    records = (record for record in head if not isinstance(record, Broken))
    seen = {value for record in records if (value := _label_value(record.get("label"))) is not None}
    if not seen or any(value.casefold() in labels for value in seen):
        return
    values = sorted(seen, key=_by_number)
    shown = ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
    # From the lowest to the highest value: a guess, so the message asks to check it.
    steps = [round(2 * place / max(1, len(values) - 1)) for place in range(len(values))]
    pairs = [f"{value}={LABEL_NAMES[step]}" for value, step in zip(values, steps, strict=True)]
    raise SourceError(
        f"{file}: none of the labels is {', '.join(sorted(set(labels)))}; seen: {shown}. "
        f"Say what each stands for, for example --label-mapping={shlex.quote(','.join(pairs[:_SHOWN]))}"
    )


def _by_number(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
