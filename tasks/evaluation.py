"""Evaluation: how well the answers of a model match labels."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import Interval
from tasks.labelling import LABELS
from tasks.rows import COLUMN, LabelKind

RESAMPLES = 10_000
BINS = 15
"""Of equal width over the probability of the predicted label, as in Guo et al. (2017)."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(_Record):
    """Scores of one class."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


class ReliabilityBin(_Record):
    """Rows whose predicted label has a probability in (low, high]: are they right as often as that says?"""

    low: float = Field(description="Lower edge of the bin, exclusive.")
    high: float = Field(description="Upper edge, inclusive.")
    rows: int = Field(description="Rows in the bin, more than 0.")
    confidence: float = Field(description="Mean probability of the predicted labels.")
    accuracy: float = Field(description="Share of predicted labels that are right.")


class Scores(_Record):
    """Scores of a model on labelled rows."""

    labels: LabelKind = Field(description="Whose labels judge: TextBlob's (weak) or people's.")
    rows: int = Field(description="Number of rows.")
    macro_recall: float = Field(description="Mean recall of the classes; chance is 1/3 for three classes.")
    macro_recall_interval: Interval = Field(description="95% interval of it.")
    macro_f1: float = Field(description="Mean F1 of the classes.")
    accuracy: float = Field(description="Share of right predictions.")
    log_loss: float | None = Field(
        description="Mean negative log probability of the label, in nats; null without probabilities."
    )
    calibration_error: float | None = Field(
        description="Expected calibration error: mean distance of confidence and accuracy over the bins, "
        "weighted by rows; null without probabilities.",
    )
    reliability: tuple[ReliabilityBin, ...] = Field(
        description="The bins that have rows, by rising probability; none without probabilities."
    )
    classes: tuple[ClassScores, ...] = Field(description="Scores of each class that occurs.")
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="Rows of the label (row) predicted as (column)."
    )


def score_kinds(answers: NDArray[Any], rows: pl.DataFrame) -> tuple[Scores, ...]:
    """Return the scores by each kind of labels that the rows have, never mixed.

    Args:
        answers: To the rows, see `evaluate`.
        rows: Columns label and human_label, null where there is none.
    """
    scores = []
    for kind, column in COLUMN.items():
        known = rows[column].is_not_null()
        if known.any():
            scores.append(evaluate(kind, rows[column].filter(known).to_numpy(), answers[known.to_numpy()]))
    return tuple(scores)


def macro_recall(targets: NDArray[np.int8], answers: NDArray[np.float32]) -> float:
    """Return the mean recall of the classes that occur.

    Args:
        targets: int8 (n,), n > 0, positions in `LABELS`.
        answers: float32 (n, 3), probabilities or logits.
    """
    from sklearn.metrics import recall_score

    predicted = answers.argmax(axis=1)
    return float(
        recall_score(targets, predicted, labels=np.unique(targets), average="macro", zero_division=0.0)
    )


def evaluate(
    labels: LabelKind, targets: NDArray[np.int8], answers: NDArray[np.float32] | NDArray[np.int_]
) -> Scores:
    """Score answers against labels.

    Args:
        labels: Kind of the labels.
        targets: int8 (n,), n > 0, positions in `LABELS`.
        answers: Probabilities, float (n, 3) in the order of `LABELS`; or, of a model that has none,
            predicted labels, int (n,).

    Raises:
        ValueError: There are no rows, a target is none of ours, or there is not one finite answer a row.
    """
    from sklearn import metrics

    if not len(targets):
        raise ValueError(f"There are no rows with {labels} labels to evaluate on.")
    if not np.isin(targets, range(len(LABELS))).all():
        raise ValueError(f"Some {labels} labels are none of 0 to {len(LABELS) - 1}: leave these rows out.")
    sure = answers.ndim == 2
    if answers.shape != (len(targets), len(LABELS))[: 2 if sure else 1]:
        raise ValueError(f"The model gives answers of the shape {answers.shape} to {len(targets)} rows.")
    if not np.isfinite(answers).all():
        raise ValueError("The model gives probabilities that are not finite: train it again.")
    predicted: NDArray[Any] = answers.argmax(axis=1) if sure else answers
    present = sorted({int(target) for target in targets})
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        targets, predicted, labels=present, zero_division=0.0
    )
    confusion = metrics.confusion_matrix(targets, predicted, labels=range(len(LABELS)))
    bins, log_loss = _certainty(targets, answers) if sure else ((), None)
    rows = len(targets)
    return Scores(
        labels=labels,
        rows=rows,
        macro_recall=float(recall.mean()),
        macro_recall_interval=_interval(recall, support.astype(np.int64)),
        macro_f1=float(f1.mean()),
        accuracy=float(metrics.accuracy_score(targets, predicted)),
        log_loss=log_loss,
        calibration_error=sum(b.rows * abs(b.accuracy - b.confidence) for b in bins) / rows if sure else None,
        reliability=bins,
        classes=tuple(
            ClassScores(
                label=LABELS[label],
                rows=int(support[i]),
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
            )
            for i, label in enumerate(present)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _certainty(
    targets: NDArray[np.int8], probabilities: NDArray[Any]
) -> tuple[tuple[ReliabilityBin, ...], float]:
    """Return the bins that have rows, and the log loss.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017).
    """
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import log_loss

    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    top = exact.max(axis=1)
    accuracies, confidences = calibration_curve(exact.argmax(axis=1) == targets, top, n_bins=BINS)
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], top), minlength=BINS)
    bins = tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            rows=int(counts[i]),
            confidence=float(confidence),
            accuracy=float(accuracy),
        )
        for i, confidence, accuracy in zip(np.flatnonzero(counts), confidences, accuracies, strict=True)
    )
    return bins, float(log_loss(targets, exact, labels=range(len(LABELS))))


def _interval(recall: NDArray[np.float64], rows: NDArray[np.int_]) -> Interval:
    """Return the 95 % interval of the mean of the classes' recalls, by a bootstrap within the classes.

    What a resample of a class gets right is binomial, so it is drawn so.
    """
    drawn = np.random.default_rng(0).binomial(rows, recall, (RESAMPLES, len(rows))) / rows
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return Interval(low=float(low), high=float(high))
