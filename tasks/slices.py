"""Slices: scores on parts of the held-out rows, to see where a model is weak."""

from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import Interval
from tasks.rows import LabelKind

MINIMUM_ROWS = 30
"""Rows without which a slice has no score: its interval would be as wide as the scale."""


class Slice(BaseModel):
    """Macro recall of one model on the held-out rows that have something in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(description="What rows are told apart by: length, url, emoji, negation, language, ...")
    value: str = Field(description="What the rows of this slice have in common: 'with', 'en', '2024-01', ...")
    labels: LabelKind = Field(description="Kind of the labels.")
    rows: int = Field(description="Labelled rows in the slice.")
    macro_recall: float | None = Field(
        description="Mean recall of the classes; null if there are too few rows."
    )
    interval: Interval | None = Field(description="95% interval of it; null if there are too few rows.")
    remark: str = Field(description="What to keep in mind, such as too few rows; empty if nothing.")
