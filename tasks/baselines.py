"""Baselines: what can be had without a network, on the same held-out rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.evaluation import Scores, score_kinds
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.rows import COLUMN, LabelKind
from tasks.sources import SourceError, vader_lexicon

NAMES = ("majority", "TextBlob", "VADER", "TF-IDF + linear SVM")

VADER_CUT = 0.05
"""A compound score from 0.05 on is positive, and up to -0.05 negative: what VADER's authors advise."""

MOST_ROWS = 20_000
"""Rows that a baseline learns from, at most: the n-grams of more take minutes."""


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


def measure(held_out: pl.DataFrame, training: pl.DataFrame, kind: LabelKind) -> tuple[Baseline, ...]:
    """Return the scores of all baselines, in the order of the report.

    Args:
        held_out: Rows that judge, with text, label and human_label.
        training: Rows to learn from, with the same columns.
        kind: Labels to learn from: those that decide over the models.
    """
    if all(held_out[column].is_null().all() for column in COLUMN.values()):
        reason = "not available: no held-out row has a label"
        return tuple(Baseline(name=n, learned_from=None, rows=0, scores=(), reason=reason) for n in NAMES)
    majority, textblob, vader, svm = NAMES
    known = training.drop_nulls(COLUMN[kind])
    if len(known) > MOST_ROWS:
        known = known.sample(MOST_ROWS, seed=0)
    return (
        _learned(majority, _majority, held_out, known, kind),
        _textblob(textblob, held_out),
        _vader(vader, held_out),
        _learned(svm, _svm, held_out, known, kind),
    )


Method = Callable[[list[str], NDArray[np.int8], list[str]], NDArray[Any]]
"""From texts and labels to learn from, and texts to answer, to the answers: see `evaluate`."""


def _learned(
    name: str, method: Method, held_out: pl.DataFrame, known: pl.DataFrame, kind: LabelKind
) -> Baseline:
    basis: dict[str, Any] = {"name": name, "learned_from": kind, "rows": len(known)}
    targets = known[COLUMN[kind]].to_numpy()
    if len(np.unique(targets)) < 2:
        reason = f"not available: it takes training rows of two {kind} labels at least"
        return Baseline(**basis, scores=(), reason=reason)
    answers = method(known["text"].to_list(), targets, held_out["text"].to_list())
    return Baseline(**basis, scores=score_kinds(answers, held_out), reason="")


def _majority(texts: list[str], targets: NDArray[np.int8], asked: list[str]) -> NDArray[Any]:
    """Answer the shares of the labels, whatever the text."""
    return np.tile(np.bincount(targets, minlength=len(LABELS)) / len(targets), (len(asked), 1))


def _svm(texts: list[str], targets: NDArray[np.int8], asked: list[str]) -> NDArray[Any]:
    """Answer the label that a linear SVM over TF-IDF of words and of pieces of words gives."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    # Each class weighs the same, as in macro recall.
    model = make_pipeline(make_union(words, pieces), LinearSVC(class_weight="balanced", random_state=0))
    answers: NDArray[Any] = model.fit(texts, targets).predict(asked)
    return answers


def _textblob(name: str, held_out: pl.DataFrame) -> Baseline:
    """Score TextBlob, whose answers are the weak labels themselves."""
    rows = held_out.drop_nulls("label")
    scores = score_kinds(rows["label"].to_numpy(), rows)
    reason = "the weak labels are its own: on them it is right by definition"
    return Baseline(name=name, learned_from=None, rows=0, scores=scores, reason=reason)


def _vader(name: str, held_out: pl.DataFrame) -> Baseline:
    basis: dict[str, Any] = {"name": name, "learned_from": None, "rows": 0}
    try:
        predicted = vader_labels(held_out["text"].to_list())
    except SourceError as error:
        return Baseline(**basis, scores=(), reason=f"not available: {error}")
    return Baseline(**basis, scores=score_kinds(predicted, held_out), reason="")


def vader_labels(texts: list[str]) -> NDArray[np.int8]:
    """Return the label that VADER gives to each text, int8 (n,).

    Source: Hutto and Gilbert, ICWSM 2014, as NLTK has it, with the authors' lexicon.

    Raises:
        SourceError: The lexicon is not there.
    """
    from nltk.sentiment.vader import SentimentIntensityAnalyzer, VaderConstants

    class Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]
        """NLTK's, with a lexicon that need not be among NLTK's own files."""

        def __init__(self) -> None:
            self.lexicon_file = vader_lexicon().strip()
            self.lexicon = self.make_lex_dict()
            self.constants = VaderConstants()

    vader = Analyzer()
    compound = np.array([vader.polarity_scores(text)["compound"] for text in texts])
    cut = np.where(compound <= -VADER_CUT, NEGATIVE, NEUTRAL)
    labels: NDArray[np.int8] = np.where(compound >= VADER_CUT, POSITIVE, cut).astype(np.int8)
    return labels
