"""The forms in which texts come over HTTP and predictions go back."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.message import Message
from typing import Any

from starlette.exceptions import HTTPException

MAX_BYTES = 6_291_456  # Amazon SageMaker Runtime, InvokeEndpoint, Body: "Maximum length of 6291456"
WRAPPERS = ("instances", "inputs", "texts")

Prediction = dict[str, Any]


def read_texts(content_type: str | None, body: bytes) -> list[str]:
    """Return the texts in a request's body.

    Args:
        content_type: The header, with its parameters.
        body: The bytes, UTF-8.

    Raises:
        HTTPException: 415, the type or charset is not read here; 400, the body is not of its type. The
            message names the place, never the content.
    """
    content_type = content_type or ""
    kind = content_type.split(";")[0].strip().lower()
    if kind not in READERS:
        # Not echoed at length: it is the client's, and goes into its logs.
        shown = repr(content_type[:100]) if content_type else "missing"
        raise HTTPException(415, f"Content-Type is {shown}: send one of {', '.join(READERS)}.")
    header = Message()
    header["content-type"] = content_type
    charset = header.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8"):
        raise HTTPException(415, f"The charset {charset[:100]!r} is not read here: send UTF-8.")
    try:
        content = body.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise HTTPException(
            400, f"The body is not UTF-8 at byte {error.start}: {error.reason}. Encode it as UTF-8."
        ) from error
    texts = READERS[kind](content)
    if not texts:
        raise HTTPException(400, "The body holds no text: send at least one.")
    return texts


def _read_json(content: str) -> list[str]:
    value = _parse(content, "The body")
    if isinstance(value, dict) and "text" not in value:
        found = [key for key in WRAPPERS if key in value]
        if len(found) != 1:
            what = "none" if not found else "more than one"
            raise HTTPException(400, f'The object has {what} of "text", {_QUOTED}: {_SEND}')
        value = value[found[0]]
    if isinstance(value, list):
        return [_text(element, f"Element {index}") for index, element in enumerate(value)]
    return [_text(value, "The body")]


def _read_json_lines(content: str) -> list[str]:
    # Only \n ends a line: a JSON string may hold U+2028 and its like, at which str.splitlines would cut.
    lines = content.rstrip("\r\n").split("\n") if content.strip() else []
    return [_text(_parse(line, f"Line {i}"), f"Line {i}") for i, line in enumerate(lines, start=1)]


def _read_csv(content: str) -> list[str]:
    csv.field_size_limit(MAX_BYTES)  # the default refuses fields above 128 KiB
    reader = csv.reader(io.StringIO(content.rstrip("\r\n"), newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise HTTPException(
            400, f"Line {reader.line_num} is not CSV: {error}. Quote values as RFC 4180 says."
        ) from error
    header = rows[0] if rows else []
    if header.count("text") != 1:
        raise HTTPException(400, "The first line must be a header with one column `text`.")
    column = header.index("text")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise HTTPException(
                400,
                f"Row {number} after the header has {len(row)} fields, the header has {len(header)}: quote "
                'values that hold commas, quotes or newlines, and write "" for an empty one.',
            )
    return [row[column] for row in rows[1:]]


def _read_plain(content: str) -> list[str]:
    return [content]


READERS: dict[str, Callable[[str], list[str]]] = {
    "application/json": _read_json,
    "application/jsonlines": _read_json_lines,
    "application/x-ndjson": _read_json_lines,
    "text/csv": _read_csv,
    "text/plain": _read_plain,
}
"""Content types that are read here."""

_QUOTED = ", ".join(f'"{key}"' for key in WRAPPERS)
_SEND = f'send a string, {{"text": "..."}}, a list of either, or such a list under one of {_QUOTED}.'


def _parse(content: str, place: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HTTPException(400, f"{place} is not JSON: {error.msg} at {where}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise HTTPException(400, f"{place} is not JSON that can be read here: {_SEND}") from error


def _text(value: Any, place: str) -> str:
    if isinstance(value, dict):
        if "text" not in value:
            raise HTTPException(400, f'{place} is an object without "text": {_SEND}')
        value, place = value["text"], f'"text" of {place[0].lower()}{place[1:]}'
    if not isinstance(value, str):
        kind = {"NoneType": "null", "dict": "an object", "list": "a list", "bool": "a boolean"}
        name = kind.get(type(value).__name__, "a number")
        raise HTTPException(400, f"{place} is {name}, not a string: {_SEND}")
    return value


def choose(accept: str | None) -> str:
    """Return the content type to answer in.

    Args:
        accept: The Accept header; none means that any type will do.

    Raises:
        HTTPException: 406, none of the types in `WRITERS` is accepted.
    """
    ranges = [_media_range(part) for part in (accept or "*/*").split(",") if part.strip()] or [("*/*", 1.0)]

    def quality(kind: str) -> float:
        # The most specific range that fits decides (RFC 9110, 12.5.1).
        for wanted in (kind, f"{kind.split('/')[0]}/*", "*/*"):
            found = [q for name, q in ranges if name == wanted]
            if found:
                return max(found)
        return 0.0

    best = max(WRITERS, key=quality)  # the first of equals: JSON, unless something else is wanted more
    if quality(best) == 0:
        raise HTTPException(406, f"None of the types in Accept is written here: accept {', '.join(WRITERS)}.")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                q = float(value)
            except ValueError:
                q = 0.0
            return name, q if 0 <= q <= 1 else 0.0
    return name, 1.0


# Writers go part by part: one call for a million predictions would keep /ping waiting for seconds.


def _write_json(parts: Iterable[Sequence[Prediction]]) -> Iterator[str]:
    before = '{"predictions": ['
    for part in parts:
        yield before + json.dumps(part)[1:-1]
        before = ", "
    yield "]}"


def _write_json_lines(parts: Iterable[Sequence[Prediction]]) -> Iterator[str]:
    for part in parts:
        yield "".join(f"{json.dumps(prediction)}\n" for prediction in part)


def _write_csv(parts: Iterable[Sequence[Prediction]]) -> Iterator[str]:
    for number, part in enumerate(parts):
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, part[0].keys())
        if number == 0:
            writer.writeheader()
        writer.writerows(part)
        yield out.getvalue()


WRITERS: dict[str, Callable[[Iterable[Sequence[Prediction]]], Iterator[str]]] = {
    "application/json": _write_json,
    "application/jsonlines": _write_json_lines,
    "application/x-ndjson": _write_json_lines,
    "text/csv": _write_csv,
}
"""Content types that are written here, the preferred one first. Parts are of one prediction or more."""
