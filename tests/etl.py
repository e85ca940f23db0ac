"""Rows for the ETL, good and bad, and what can be seen of a run in the lake and in the warehouse."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from blocks.lake import LocalLake
from blocks.warehouse import COLUMNS, DuckDBWarehouse, Merged

GOOD: list[dict[str, Any]] = [
    {"id": 1, "text": "I love this sunny day, it is great", "label": "positive", "lang": "en"},
    {"id": 2, "text": "I don't like the rain, it is terrible", "label": "negative"},
    {"id": 3, "text": "The bus leaves at nine\n@ann https://t.co/x", "username": "bob"},
]

BAD: list[tuple[Any, str]] = [
    ({"id": 10, "text": ""}, "text empty"),
    ({"id": 11, "text": " \t\n\u3000"}, "text empty"),
    ({"id": 12, "text": None}, "text missing"),
    ({"id": 13, "text": "😀 👍🏽 ❤️"}, "no words after cleaning"),
    ({"id": 14, "text": "@ann https://t.co/x"}, "no words after cleaning"),
    ({"id": 15, "text": "word " * 2000}, "text longer than 4096 characters"),
    (b'{"id": 16, "text": "caf\xe9 is closed"}', "invalid UTF-8"),
    (b'{"id": 17, "text": "half a', "not JSON"),
    ({"id": 18, "text": "Guten Tag", "lang": "de"}, "language is de, not en"),
    ({"id": 1, "text": "The id of another"}, "id taken by another text"),
    (GOOD[0], "repeated row"),
    ({"id": 19, "text": "I am happy", "label": "happy"}, "label outside the mapping: happy"),
    ({"id": 20, "text": 7}, "text is not a string but int"),
    ({"id": 21, "text": "When?", "created_at": "yesterday"}, "created_at is not a date"),
]
"""Rows and the reasons for which they are turned away when the good ones came before them."""

MANY = [{"id": f"m{n}", "text": f"Tweet number {n * 7919 % 10007} of {n} is good"} for n in range(1000)]


def write(folder: Path, *rows: Any, name: str = "tweets.jsonl") -> str:
    """Write rows to a file and return its path; bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    return str(folder / name)


def merged(inserted: int = 0, updated: int = 0, unchanged: int = 0, conflicting: int = 0) -> Merged:
    return Merged(inserted=inserted, updated=updated, unchanged=unchanged, conflicting=conflicting)


def table(warehouse: DuckDBWarehouse) -> pl.DataFrame:
    return pl.concat(warehouse.query(f"SELECT {', '.join(COLUMNS)} FROM {{table}} ORDER BY id"))


def files(lake: LocalLake) -> dict[str, int]:
    """Return the lake's files and when each was written."""
    folder = Path(lake.folder)
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


def rejected(lake: LocalLake, step: str = "raw") -> dict[tuple[str | None, str | None], str]:
    """Return the reasons of the rejected rows by id and text."""
    parts = [key for key in sorted(files(lake)) if key.startswith(f"rejected/{step}/")]
    rows = pl.concat(lake.scan([part]).select("id", "text", "reason").collect() for part in parts).rows()
    return {(identifier, text): reason for identifier, text, reason in rows}
