"""Baselines: what can be had without a network, on the same held-out rows."""

from pydantic import BaseModel, ConfigDict, Field

from tasks.evaluation import Scores
from tasks.rows import LabelKind


class Baseline(BaseModel):
    """How a simple method does on the held-out rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Method: majority, TextBlob, VADER, TF-IDF + linear SVM.")
    learned_from: LabelKind | None = Field(
        description="Kind of labels it learned from; null if it learns nothing."
    )
    rows: int = Field(description="Rows it learned from; 0 if it learns nothing.")
    scores: tuple[Scores, ...] = Field(
        description="Scores by kind of labels; log loss and calibration are null where the method gives no "
        "probabilities. None if it is not available."
    )
    reason: str = Field(description="'not available: ...' if there are no scores; else a remark, or empty.")
