"""Evaluation: how well predictions match labels, and whether one model beats another on the same rows."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.labelling import LABELS
from tasks.rows import LabelKind

RESAMPLES = 10_000


class ClassScores(BaseModel):
    """Scores of one class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


class Scores(BaseModel):
    """Scores of a model on labelled rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelKind = Field(description="Whose labels judge: TextBlob's (weak) or people's.")
    rows: int = Field(description="Number of rows.")
    macro_recall: float = Field(description="Mean recall of the classes; chance is 1/3 for three classes.")
    macro_f1: float = Field(description="Mean F1 of the classes.")
    accuracy: float = Field(description="Share of right predictions.")
    log_loss: float = Field(description="Mean negative log probability of the label, in nats.")
    classes: tuple[ClassScores, ...] = Field(description="Scores of each class that occurs.")
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="Rows of the label (row) predicted as (column)."
    )


class Gain(BaseModel):
    """Difference of two models' macro recall on the same rows, with its uncertainty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float = Field(description="Challenger minus production.")
    low: float = Field(description="5th percentile of the difference over resamples of the rows.")
    high: float = Field(description="95th percentile.")


def evaluate(labels: LabelKind, targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> Scores:
    """Score probabilities against labels.

    Args:
        labels: Kind of the labels.
        targets: int8 (n,), n > 0.
        probabilities: float32 (n, 3) in the order of `LABELS`.

    Raises:
        ValueError: There are no rows, or a probability is not finite.
    """
    from sklearn import metrics

    if not len(targets):
        raise ValueError(f"There are no rows with {labels} labels to evaluate on.")
    if not np.isfinite(probabilities).all():
        raise ValueError("The model gives probabilities that are not finite: train it again.")
    predicted = probabilities.argmax(axis=1)
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    present = sorted({int(target) for target in targets})
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        targets, predicted, labels=present, zero_division=0.0
    )
    confusion = metrics.confusion_matrix(targets, predicted, labels=range(len(LABELS)))
    return Scores(
        labels=labels,
        rows=len(targets),
        macro_recall=float(recall.mean()),
        macro_f1=float(f1.mean()),
        accuracy=float(metrics.accuracy_score(targets, predicted)),
        log_loss=float(metrics.log_loss(targets, exact, labels=range(len(LABELS)))),
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


def compare(
    targets: NDArray[np.int8], challenger: NDArray[np.int_], production: NDArray[np.int_], seed: int = 0
) -> Gain:
    """Return how much macro recall the challenger gains, by a paired bootstrap within the classes.

    The bootstrap resamples rows, so it tests the very metric that decides, and it keeps the pairing: rows
    that both models get right or wrong say nothing about which is better. Within a class the resampled
    counts of the four outcomes (both right, one, the other, none) are multinomial, so they are drawn so.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 8.

    Args:
        targets: int8 (n,).
        challenger: Predicted labels (n,).
        production: Predicted labels (n,) on the same rows.
        seed: Of the resampling.
    """
    random = np.random.default_rng(seed)
    differences, resampled = [], []
    for label in np.unique(targets):
        rows = targets == label
        won = np.sum((challenger == label)[rows] & (production != label)[rows])
        lost = np.sum((challenger != label)[rows] & (production == label)[rows])
        total = rows.sum()
        differences.append((won - lost) / total)
        draws = random.multinomial(total, np.array([won, lost, total - won - lost]) / total, RESAMPLES)
        resampled.append((draws[:, 0] - draws[:, 1]) / total)
    low, high = np.quantile(np.mean(resampled, axis=0), [0.05, 0.95])
    return Gain(difference=float(np.mean(differences)), low=float(low), high=float(high))
