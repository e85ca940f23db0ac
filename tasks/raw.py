"""Raw rows: what every source yields, before any contract has looked at them."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from itertools import islice
from typing import Any, NamedTuple

import polars as pl

from tasks.labelling import LABELS

BATCH_ROWS = 20_000
"""The most rows in one batch: about 10 MB of tweets."""

LABEL_NAMES = tuple(sorted(LABELS))

RAW = pl.Schema(
    {
        "id": pl.String(),
        "created_at": pl.Datetime("us", "UTC"),
        "lang": pl.String(),
        "username": pl.String(),
        "text": pl.String(),
        "source": pl.String(),
        "human_label": pl.String(),
        "defect": pl.String(),
    }
)
"""The columns of a batch, always all of them and in this order."""

_DATE_OF_TWEETS = "%a %b %d %H:%M:%S %z %Y"  # Twitter's archives and Weibo: Tue Nov 21 10:00:00 +0000 2023
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class SourceError(RuntimeError):
    """Raised when a source cannot deliver; the message says why and what to do."""


class Row(NamedTuple):
    """One tweet as read, not validated; the fields are the columns of `RAW`."""

    id: str
    """Unique within its source by a prefix, such as `sample:17`."""
    created_at: datetime | None
    """In UTC; None when the source does not say."""
    lang: str | None
    username: str | None
    text: str | None
    source: str
    human_label: str | None = None
    """A name in `LABEL_NAMES`, `!<value>` for a value that is none, or None when the text is not rated."""
    defect: str | None = None
    """Why the row is unusable as read; such rows travel on, to be rejected with this as the reason."""


def frames(rows: Iterator[Row], size: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
    """Yield the rows in batches, reading no further ahead than one batch.

    Args:
        rows: Rows in order.
        size: The most rows in a batch.

    Yields:
        Frames with the schema `RAW`, none of them empty.
    """
    while batch := list(islice(rows, size)):
        yield pl.DataFrame(dict(zip(RAW, zip(*batch, strict=True), strict=True)), schema=RAW)


def sound(row: Row) -> Row:
    """Return the row, with a defect in place of what cannot be stored if a string is not Unicode."""
    mends = {name: mended(value) for name, value in row._asdict().items() if isinstance(value, str)}
    if all(good for _, good in mends.values()):
        return row
    texts: dict[str, Any] = {name: text for name, (text, _) in mends.items()}
    return row._replace(**texts | {"defect": "invalid UTF-8"})


def moment(value: object) -> datetime | None:
    """Return a point in time in UTC.

    Args:
        value: A datetime, a date (its first moment), an ISO 8601 string, or one in the form that Twitter's
            archives use; without a time zone it is taken for UTC. None and the empty string mean unknown.

    Raises:
        ValueError: It is none of these, or before year 1 or after 9999 in UTC.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        parsed = value
    elif isinstance(value, date):
        parsed = datetime.combine(value, time())
    elif isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            parsed = datetime.strptime(value.strip(), _DATE_OF_TWEETS)
    else:
        raise ValueError(f"not a date: {value!r}")
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"out of range: {value!r}") from error


def mended(text: str) -> tuple[str, bool]:
    """Return the text with each lone surrogate replaced by U+FFFD, and whether it was sound.

    Python keeps bytes that are not UTF-8 as lone surrogates (`errors="surrogateescape"`), and JSON may spell
    them out; neither can be stored.
    """
    if text.isascii():
        return text, True
    fixed, broken = _LONE_SURROGATE.subn("\N{REPLACEMENT CHARACTER}", text)
    return fixed, not broken
