"""Slices: which rows fall into which, and that none is dropped."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from tasks.evaluation import evaluate
from tasks.slices import MINIMUM_ROWS, SLICES, score_slices
from tests.tasks.test_evaluation import probabilities


def rows(count: int = 90, text: str = "a plain text", human: int = 0) -> pl.DataFrame:
    """Return held-out rows; the first `human` of them have a human label, too."""
    labels = [number % 3 for number in range(count)]
    return pl.DataFrame(
        {
            "id": [f"{number:03}" for number in range(count)],
            "text": text,
            "label": labels,
            "human_label": [label if number < human else None for number, label in enumerate(labels)],
            "lang": "en",
            "source": "made-up",
            "created_at": datetime(2024, 5, 1, tzinfo=UTC),
        },
        schema_overrides={"label": pl.Int8, "human_label": pl.Int8},
    )


@pytest.mark.parametrize(
    ("by", "value", "text"),
    [
        ("length", "under 60", "x" * 59),
        ("length", "60 to 119", "x" * 60),
        ("length", "60 to 119", "ü" * 119),
        ("length", "120 or more", "x" * 120),
        ("url", "with", "see https://t.co/x"),
        ("url", "with", "WWW.example.org"),
        ("url", "without", "the http protocol"),
        ("emoji", "with", "so good 😀"),
        ("emoji", "with", "I ❤ it"),
        ("emoji", "with", "nice :-) and"),
        ("emoji", "with", "why :("),
        ("emoji", "with", "<3 you"),
        ("emoji", "without", "at 8:30, item #1 (yes)"),
        ("emoji", "without", "see http://x.y"),
        ("negation", "with", "I do NOT like it"),
        ("negation", "with", "isn't it"),
        ("negation", "with", "I can’t"),
        ("negation", "with", "dont"),
        ("negation", "with", "no way"),
        ("negation", "without", "now I know the knot"),
    ],
)
def test_a_text_falls_into_its_slice(by: str, value: str, text: str) -> None:
    assert rows(1, text).select(SLICES[by])[:, 0].to_list() == [value]


def test_rows_are_told_apart_by_where_they_come_from() -> None:
    frame = rows(3).with_columns(
        lang=pl.Series(["en", "de", None]),
        created_at=pl.Series([datetime(2024, 5, 31, 23, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC), None]),
    )
    assert frame.select(SLICES["language"])[:, 0].to_list() == ["en", "de", "unknown"]
    assert frame.select(SLICES["month"])[:, 0].to_list() == ["2024-05", "2024-06", "unknown"]
    assert frame.select(SLICES["source"])[:, 0].to_list() == ["made-up"] * 3


def test_each_slice_is_scored_on_its_own_rows() -> None:
    frame = rows().with_columns(text=pl.Series(["plain", "no, not"] * 45))
    answers = probabilities(frame["label"].to_list())
    answers[1::2] = probabilities([0] * 45)  # with a negation, all are called neutral
    found = {(part.by, part.value): part for part in score_slices(answers, frame)}
    assert found["negation", "without"].macro_recall == 1
    assert found["negation", "with"].macro_recall == pytest.approx(1 / 3)
    assert found["negation", "with"].rows == 45
    whole = evaluate("textblob", frame["label"].to_numpy(), answers)
    assert found["language", "en"].macro_recall == whole.macro_recall
    assert found["language", "en"].interval == whole.macro_recall_interval
    assert {part.by for part in found.values()} == SLICES.keys()


def test_both_kinds_of_labels_and_small_slices_are_there() -> None:
    frame = rows(90, human=MINIMUM_ROWS - 1)
    parts = score_slices(probabilities(frame["label"].to_list()), frame)
    weak = [part for part in parts if part.labels == "textblob"]
    human = [part for part in parts if part.labels == "human"]
    assert len(weak) == len(human) == len(SLICES)
    assert all((part.rows, part.macro_recall, part.remark) == (90, 1, "") for part in weak)
    for part in human:
        assert (part.rows, part.macro_recall, part.interval) == (MINIMUM_ROWS - 1, None, None)
        assert part.remark == f"too few rows: {MINIMUM_ROWS - 1} of {MINIMUM_ROWS}"


def test_a_class_that_a_slice_lacks_is_told() -> None:
    frame = rows().filter(pl.col("label") != 1)
    parts = score_slices(probabilities(frame["label"].to_list()), frame)
    assert {part.remark for part in parts} == {"no negative rows"}


def test_no_rows_make_no_slices() -> None:
    assert score_slices(np.empty((0, 3), np.float32), rows()[:0]) == ()
