"""Slices: scores on parts of the held-out rows, to see where a model is weak; another slice is one entry."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import Interval
from tasks.evaluation import evaluate
from tasks.labelling import LABELS
from tasks.rows import COLUMN, LabelKind

MINIMUM_ROWS = 30
"""Rows without which a slice has no score: its interval would be as wide as the scale."""

URL = r"(?i)\b(?:https?://|www\.)\S"
EMOJI = r"\p{Emoji_Presentation}|\p{Extended_Pictographic}|[:;=8][-o']?[()\[\]DPp/\\|*](?:\s|$)|<3"
"""Emoji, and the emoticons that stood for them before."""
NEGATION = (
    r"(?i)\b(?:not?|never|none|nobody|nothing|nowhere|neither|nor|cannot|without|hardly|\p{L}+n['’]t|"
    r"(?:do|does|did|is|are|was|were|ca|wo|have|has|had|would|should|could|ai)nt)\b"
)


def _contains(pattern: str) -> pl.Expr:
    return pl.when(pl.col("text").str.contains(pattern)).then(pl.lit("with")).otherwise(pl.lit("without"))


def _length() -> pl.Expr:
    """Return fixed bounds, so that slices of two benchmarks are the same."""
    characters = pl.col("text").str.len_chars()
    longer = pl.when(characters < 120).then(pl.lit("60 to 119")).otherwise(pl.lit("120 or more"))
    return pl.when(characters < 60).then(pl.lit("under 60")).otherwise(longer)


SLICES: dict[str, pl.Expr] = {
    "length": _length(),
    "url": _contains(URL),
    "emoji": _contains(EMOJI),
    "negation": _contains(NEGATION),
    "language": pl.col("lang").fill_null("unknown"),
    "source": pl.col("source").fill_null("unknown"),
    "month": pl.col("created_at").dt.strftime("%Y-%m").fill_null("unknown"),
}
"""What rows are told apart by, and the expression of the value, over `tasks.rows.HeldOut`'s columns."""


class Slice(BaseModel):
    """Macro recall of one model on the held-out rows that have something in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(description="What rows are told apart by: length (characters), url, emoji, ...")
    value: str = Field(description="What the rows of this slice have in common: 'with', 'en', '2024-01', ...")
    labels: LabelKind = Field(description="Kind of the labels.")
    rows: int = Field(description="Labelled rows in the slice.")
    macro_recall: float | None = Field(
        description="Mean recall of the classes; null if there are too few rows."
    )
    interval: Interval | None = Field(description="95% interval of it; null if there are too few rows.")
    remark: str = Field(description="What to keep in mind, such as too few rows; empty if nothing.")


def score_slices(probabilities: NDArray[np.float32], rows: pl.DataFrame) -> tuple[Slice, ...]:
    """Return the scores of each slice that has rows, by each kind of labels.

    Args:
        probabilities: float32 (n, 3).
        rows: See `tasks.rows.HeldOut`.
    """
    return tuple(_scored(probabilities, rows.with_columns(**SLICES)))


def _scored(probabilities: NDArray[np.float32], rows: pl.DataFrame) -> Iterator[Slice]:
    for kind, column in COLUMN.items():
        known = rows.with_row_index("place").drop_nulls(column)
        for by in SLICES:
            for value in known[by].unique().sort():
                part = known.filter(pl.col(by) == value)
                yield _slice(
                    by, value, kind, part[column].to_numpy(), probabilities[part["place"].to_numpy()]
                )


def _slice(
    by: str, value: str, kind: LabelKind, targets: NDArray[np.int8], probabilities: NDArray[np.float32]
) -> Slice:
    basis: dict[str, Any] = {"by": by, "value": value, "labels": kind, "rows": len(targets)}
    if len(targets) < MINIMUM_ROWS:
        remark = f"too few rows: {len(targets)} of {MINIMUM_ROWS}"
        return Slice(**basis, macro_recall=None, interval=None, remark=remark)
    scores = evaluate(kind, targets, probabilities)
    absent = [label for label in LABELS if label not in {found.label for found in scores.classes}]
    remark = f"no {' or '.join(absent)} rows" if absent else ""
    return Slice(
        **basis, macro_recall=scores.macro_recall, interval=scores.macro_recall_interval, remark=remark
    )
