"""Baselines: each is there, right by its own rule, or says why it is not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks import baselines, sources
from tasks.baselines import NAMES, Baseline, measure, vader_labels
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE
from tests.tweets import tweets


def measured(frame: pl.DataFrame, kind: baselines.LabelKind = "human") -> dict[str, Baseline]:
    parts = {split: frame.filter(pl.col("split") == split) for split in ("train", "test")}
    return {found.name: found for found in measure(parts["test"], parts["train"], kind)}


def test_all_are_scored_on_both_kinds_of_labels_side_by_side() -> None:
    found = measured(tweets())
    assert tuple(found) == NAMES
    for baseline in found.values():
        assert [(scores.labels, scores.rows) for scores in baseline.scores] == [
            ("textblob", 120),
            ("human", 60),
        ]
    assert [(b.learned_from, b.rows) for b in found.values()] == [
        ("human", 120),
        (None, 0),
        (None, 0),
        ("human", 120),
    ]
    assert [b.learned_from for b in measured(tweets(), "textblob").values()][::3] == ["textblob"] * 2


def test_the_majority_is_chance_and_knows_it() -> None:
    frame = tweets().with_columns(
        label=pl.when(pl.col("id").str.ends_with("1")).then(1).otherwise(2).cast(pl.Int8)
    )
    weak, _ = measured(frame, "textblob")["majority"].scores
    assert weak.macro_recall == 0.5
    assert weak.classes[1].recall == 1
    assert weak.accuracy == pytest.approx(0.9)
    assert weak.calibration_error == pytest.approx(0, abs=0.01)
    assert weak.log_loss == pytest.approx(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)), abs=0.01)


def test_textblob_is_right_on_its_own_labels_and_judged_by_people() -> None:
    frame = tweets().with_columns(
        human_label=pl.when(pl.int_range(pl.len()) % 2 == 0).then(0).otherwise("label").cast(pl.Int8)
    )
    found = measured(frame)["TextBlob"]
    weak, human = found.scores
    assert weak.accuracy == 1 and human.accuracy < 0.8
    assert (weak.log_loss, weak.calibration_error, weak.reliability) == (None, None, ())
    assert "right by definition" in found.reason


def test_vader_is_the_authors() -> None:
    # from the README of vaderSentiment 3.3.2; each compound score is beyond 0.05
    texts = {
        "VADER is smart, handsome, and funny.": POSITIVE,
        "VADER is not smart, handsome, nor funny.": NEGATIVE,
        "The book was only kind of good.": POSITIVE,
        "Today SUX!": NEGATIVE,
        "The plane lands at noon.": NEUTRAL,
        "": NEUTRAL,
    }
    assert vader_labels(list(texts)).tolist() == list(texts.values())
    assert vader_labels([]).tolist() == []


def test_the_svm_learns() -> None:
    weak, human = measured(tweets())["TF-IDF + linear SVM"].scores
    assert weak.macro_recall > 0.95 and human.macro_recall > 0.95
    assert weak.log_loss is None


def test_what_is_missing_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "SAMPLE", tmp_path / "none.tar.gz")
    vader = measured(tweets())["VADER"]
    assert vader.scores == ()
    assert vader.reason == (
        f"not available: {tmp_path}/none.tar.gz is missing: fetch it with `python -m tasks.sources`."
    )
    (tmp_path / "none.tar.gz").write_bytes(b"damaged")
    assert "it is damaged" in measured(tweets())["VADER"].reason


@pytest.mark.parametrize("human", [None, 2])
def test_labels_to_learn_from_are_missing(human: int | None) -> None:
    frame = tweets().with_columns(human_label=pl.lit(human, pl.Int8))
    found = measured(frame)
    for name in ("majority", "TF-IDF + linear SVM"):
        assert found[name].scores == ()
        assert found[name].reason == "not available: it takes training rows of two human labels at least"
    assert found["TextBlob"].scores


def test_no_held_out_rows() -> None:
    found = measured(tweets().filter(pl.col("split") == "train"))
    assert [b.scores for b in found.values()] == [()] * 4
    assert [b.name for b in found.values()] == [*NAMES]
    assert all(b.reason.startswith("not available: ") for b in found.values())


def test_more_rows_than_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ROWS", 50)
    first, again = (measured(tweets(), "textblob")["TF-IDF + linear SVM"] for _ in range(2))
    assert first.rows == 50
    assert first == again
