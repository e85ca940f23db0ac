"""Labelling: TextBlob's polarity, and where it is cut."""

import polars as pl
import pytest
from textblob import TextBlob

from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE, add_labels, polarities, weak_label

TEXTS = [
    "I love this, it is the best day ever!",
    "This is terrible. I hate it",
    "not good",
    "not very bad, actually rather nice :)",
    "The bus leaves at nine",
    "GREAT!!! :D",
    "so-so... :(",
    "日本語 😀",
    "",
    "it's isn't won't \"quoted\" <3 & more",
    "very " * 200 + "good",
]


def test_labels_are_the_integers_of_the_airflow_project() -> None:
    assert LABELS == ("neutral", "negative", "positive")
    assert (NEUTRAL, NEGATIVE, POSITIVE) == (0, 1, 2)


def test_polarity_is_that_of_textblob() -> None:
    found = polarities(TEXTS)
    assert found == [TextBlob(text).sentiment.polarity for text in TEXTS]
    assert all(type(value) is float and -1 <= value <= 1 for value in found)
    assert len(set(found)) > 5


@pytest.mark.parametrize(
    ("polarity", "label"),
    [
        (-1.0, NEGATIVE),
        (-5e-324, NEGATIVE),
        (-0.0, NEUTRAL),
        (0.0, NEUTRAL),
        (0.1, NEUTRAL),
        (0.25, NEUTRAL),
        (0.2500000000000001, POSITIVE),
        (1.0, POSITIVE),
    ],
)
def test_the_thresholds_themselves_are_neutral(polarity: float, label: int) -> None:
    found = pl.DataFrame({"polarity": [polarity]}).select(weak_label(0.0, 0.25))
    assert found.schema == {"label": pl.Int8}
    assert found.item() == label


def test_other_thresholds() -> None:
    frame = pl.DataFrame({"polarity": [-0.6, -0.5, 0.0, 0.5, 0.6]})
    assert frame.select(weak_label(-0.5, 0.5))["label"].to_list() == [1, 0, 0, 0, 2]
    assert frame.select(weak_label(0.5, 0.5))["label"].to_list() == [1, 1, 1, 0, 2]


def test_labels_are_added_and_the_rest_is_kept() -> None:
    frame = pl.DataFrame({"id": ["a", "b", "c"], "cleaned_text": ["I hate it", "at nine", "great"]})
    labelled = add_labels(frame, 0.0, 0.25)
    assert labelled.schema == {
        "id": pl.String,
        "cleaned_text": pl.String,
        "polarity": pl.Float64,
        "label": pl.Int8,
    }
    assert labelled.drop("polarity", "label").equals(frame)
    assert labelled["label"].to_list() == [NEGATIVE, NEUTRAL, POSITIVE]
    assert labelled["polarity"].to_list() == polarities(frame["cleaned_text"])


def test_no_rows() -> None:
    labelled = add_labels(pl.DataFrame(schema={"cleaned_text": pl.String}), 0.0, 0.25)
    assert labelled.schema == {"cleaned_text": pl.String, "polarity": pl.Float64, "label": pl.Int8}
    assert len(labelled) == 0
