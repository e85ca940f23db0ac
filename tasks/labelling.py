"""Weak labels: the polarity of a text by TextBlob's lexicon, cut into three classes."""

from collections.abc import Iterable

import polars as pl

LABELS = ("neutral", "negative", "positive")
"""Label names; a label's integer is its position here, as in the Airflow project."""

NEUTRAL, NEGATIVE, POSITIVE = range(3)


def polarities(texts: Iterable[str]) -> list[float]:
    """Return TextBlob's polarity of each text.

    Calls the function that `TextBlob(text).sentiment.polarity` ends in: the same number, twice as fast.

    Args:
        texts: Cleaned texts.

    Returns:
        Numbers in [-1, 1]; 0 where no word is in the lexicon.
    """
    from textblob.en import sentiment  # pulls in NLTK and scikit-learn

    return [float(sentiment(text)[0]) for text in texts]


def weak_label(negative_below: float, positive_above: float) -> pl.Expr:
    """Return the label expression over a column `polarity`.

    Args:
        negative_below: A polarity under this is negative.
        positive_above: A polarity over this is positive; what lies between is neutral.
    """
    polarity = pl.col("polarity")
    return (
        pl.when(polarity < negative_below)
        .then(NEGATIVE)
        .when(polarity > positive_above)
        .then(POSITIVE)
        .otherwise(NEUTRAL)
        .cast(pl.Int8)
        .alias("label")
    )


def add_labels(frame: pl.DataFrame, negative_below: float, positive_above: float) -> pl.DataFrame:
    """Return cleaned rows with `polarity` (Float64) and `label` (Int8) added.

    Args:
        frame: Rows with `cleaned_text`.
        negative_below: See `weak_label`.
        positive_above: See `weak_label`.
    """
    polarity = pl.Series("polarity", polarities(frame["cleaned_text"]), dtype=pl.Float64)
    return frame.with_columns(polarity).with_columns(weak_label(negative_below, positive_above))
