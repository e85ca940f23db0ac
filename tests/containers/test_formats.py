"""Every form of request is read, or refused with a message that says where and what to send instead."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from containers.serve.formats import READERS, WRITERS, choose, read_texts

JSON, LINES, NDJSON, CSV, PLAIN = READERS
SECRET = "do not repeat this"


@pytest.mark.parametrize(
    ("kind", "body", "texts"),
    [
        (JSON, '"a"', ["a"]),
        (JSON, '["a", "b"]', ["a", "b"]),
        (JSON, '{"text": "a"}', ["a"]),
        (JSON, '{"text": "a", "id": 1}', ["a"]),
        (JSON, '[{"text": "a"}, "b"]', ["a", "b"]),
        (JSON, '{"instances": ["a", {"text": "b"}]}', ["a", "b"]),
        (JSON, '{"inputs": [{"text": "a"}]}', ["a"]),
        (JSON, '{"texts": ["a"]}', ["a"]),
        (JSON, '["", "\\ud800", "\\u0000"]', ["", "\ud800", "\0"]),
        (JSON, '\ufeff["a"]', ["a"]),
        (f"{JSON}; charset=utf-8", '["ä"]', ["ä"]),
        (f'{JSON} ; Charset="UTF-8"', '["ä"]', ["ä"]),
        ("Application/JSON", '["a"]', ["a"]),
        (LINES, '"a"\n{"text": "b"}\n', ["a", "b"]),
        (NDJSON, '"a"\r\n"b\u2028c"\r\n\r\n', ["a", "b\u2028c"]),
        (CSV, "text\na\nb\n", ["a", "b"]),
        (CSV, 'id,text\r\n1,"a, ""b""\r\nc"\r\n2,\r\n', ['a, "b"\r\nc', ""]),
        (CSV, f"\ufefftext\n{'x' * 200_000}", ["x" * 200_000]),
        (f"{CSV}; header=present", 'text\n""\n', [""]),
        (PLAIN, "two\nlines", ["two\nlines"]),
        (PLAIN, "", [""]),
    ],
)
def test_reads(kind: str, body: str, texts: list[str]) -> None:
    assert read_texts(kind, body.encode()) == texts


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        (JSON, f'["{SECRET}"', 400, "The body is not JSON: .* line 1"),
        (JSON, "", 400, "The body is not JSON"),
        (JSON, "[" * 100_000, 400, "The body is not JSON"),
        (JSON, "9" * 10_000, 400, "The body is not JSON"),
        (JSON, "[]", 400, "holds no text"),
        (JSON, '{"instances": []}', 400, "holds no text"),
        (JSON, "null", 400, "The body is null, not a string"),
        (JSON, f'["{SECRET}", 5]', 400, "Element 1 is a number"),
        (JSON, f'["a", ["{SECRET}"]]', 400, "Element 1 is a list"),
        (JSON, f'["a", "b", {{"txt": "{SECRET}"}}]', 400, 'Element 2 is an object without "text"'),
        (JSON, '[{"text": true}]', 400, '"text" of element 0 is a boolean'),
        (JSON, '{"text": {}}', 400, '"text" of the body is an object'),
        (JSON, f'{{"{SECRET}": 1}}', 400, 'none of "text", "instances"'),
        (JSON, '{"inputs": ["a"], "texts": ["b"]}', 400, "more than one of"),
        (LINES, '"a"\n{"text"', 400, "Line 2 is not JSON"),
        (LINES, '"a"\n\n"b"', 400, "Line 2 is not JSON"),
        (LINES, '"a"\n7\n', 400, "Line 2 is a number"),
        (LINES, "\n", 400, "holds no text"),
        (CSV, "", 400, "header with one column `text`"),
        (CSV, f"{SECRET}\na", 400, "header with one column `text`"),
        (CSV, "text,text\na,b", 400, "header with one column `text`"),
        (CSV, "text\n", 400, "holds no text"),
        (CSV, f"id,text\n1,a\n2,{SECRET},b", 400, "Row 2 .* has 3 fields, the header has 2"),
        (CSV, f'text\n"{SECRET}', 400, "Line 2 is not CSV"),
        (f"{JSON}; charset=latin-1", '"a"', 415, "'latin-1' is not read here: send UTF-8"),
        ("application/x-www-form-urlencoded", "text=a", 415, "send one of application/json, "),
        ("nonsense", '"a"', 415, "send one of application/json, "),
        (None, '"a"', 415, "Content-Type is missing: send one of"),
    ],
)
def test_refuses(kind: str | None, body: str, status: int, message: str) -> None:
    with pytest.raises(HTTPException, match=message) as caught:
        read_texts(kind, body.encode())
    assert caught.value.status_code == status
    assert SECRET not in caught.value.detail


@pytest.mark.parametrize("kind", READERS)
def test_refuses_what_is_not_utf_8(kind: str) -> None:
    with pytest.raises(HTTPException, match="not UTF-8 at byte 5") as caught:
        read_texts(kind, b'"abcd\xe4"')
    assert caught.value.status_code == 400


@given(texts=st.lists(st.text(), min_size=1))
def test_reads_what_others_write(texts: list[str]) -> None:
    assert read_texts(JSON, json.dumps(texts).encode()) == texts
    assert read_texts(LINES, "\n".join(map(json.dumps, texts)).encode()) == texts
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    assert read_texts(CSV, out.getvalue().encode()) == texts


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        ("TEXT/CSV;q=0.5", CSV),
        ("application/x-ndjson", NDJSON),
        ("application/json;q=0.1, application/jsonlines;q=0.9", LINES),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("*/*, application/json;q=0", LINES),
        ("text/csv, */*;q=0.1", CSV),
        ("text/csv;q=nan, application/json;q=0.1", JSON),
    ],
)
def test_chooses(accept: str | None, kind: str) -> None:
    assert choose(accept) == kind


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "text/csv;q=x", "image/*, text/plain"]
)
def test_accepts_nothing_that_is_written(accept: str) -> None:
    with pytest.raises(HTTPException, match="accept application/json, ") as caught:
        choose(accept)
    assert caught.value.status_code == 406


def test_writes() -> None:
    prediction = {"label": "negative", "p_negative": 0.75, "p_positive": 0.25}
    parts = [[prediction] * 2, [prediction]]
    assert json.loads("".join(WRITERS[JSON](parts))) == {"predictions": [prediction] * 3}
    for kind in (LINES, NDJSON):
        lines = "".join(WRITERS[kind](parts)).splitlines()
        assert [json.loads(line) for line in lines] == [prediction] * 3
    rows = "negative,0.75,0.25\r\n" * 3
    assert "".join(WRITERS[CSV](parts)) == f"label,p_negative,p_positive\r\n{rows}"
