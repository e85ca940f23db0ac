"""Evaluation: scores against numbers worked out by hand, calibration and intervals against libraries."""

import math

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tasks.evaluation import evaluate, macro_recall, score_kinds
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE

Labels = NDArray[np.int8]


def labels(*values: int) -> Labels:
    return np.array(values, np.int8)


def probabilities(predicted: list[int], sure: float = 0.8) -> NDArray[np.float32]:
    """Give `sure` to the predicted label and share the rest between the others."""
    made = np.full((len(predicted), 3), (1 - sure) / 2, np.float32)
    made[np.arange(len(predicted)), predicted] = sure
    return made


def test_scores_worked_out_by_hand() -> None:
    # neutral: 3 of 4 right and predicted 4 times; negative: 1 of 2, predicted twice; positive: 1 of 2, twice
    truth = labels(0, 0, 0, 0, 1, 1, 2, 2)
    scores = evaluate("human", truth, probabilities([0, 0, 0, 1, 1, 2, 0, 2]))
    assert (scores.labels, scores.rows) == ("human", 8)
    assert scores.macro_recall == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert scores.macro_f1 == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert scores.accuracy == pytest.approx(5 / 8)
    assert scores.log_loss == pytest.approx(-(5 * math.log(0.8) + 3 * math.log(0.1)) / 8, rel=1e-6)
    assert scores.confusion == ((3, 1, 0), (0, 1, 1), (1, 0, 1))
    assert [(c.label, c.rows, c.precision, c.recall, c.f1) for c in scores.classes] == [
        ("neutral", 4, pytest.approx(3 / 4), pytest.approx(3 / 4), pytest.approx(3 / 4)),
        ("negative", 2, pytest.approx(1 / 2), pytest.approx(1 / 2), pytest.approx(1 / 2)),
        ("positive", 2, pytest.approx(1 / 2), pytest.approx(1 / 2), pytest.approx(1 / 2)),
    ]


def test_precision_and_recall_are_not_mixed_up() -> None:
    # negative: 1 of 3 found, and 1 of 1 said right; neutral: 1 of 1 found, 1 of 3 said right
    scores = evaluate("textblob", labels(1, 1, 1, 0), probabilities([1, 0, 0, 0]))
    neutral, negative = scores.classes
    assert (negative.precision, negative.recall, negative.f1) == pytest.approx((1, 1 / 3, 1 / 2))
    assert (neutral.precision, neutral.recall, neutral.f1) == pytest.approx((1 / 3, 1, 1 / 2))
    assert scores.confusion[NEGATIVE] == (2, 1, 0)
    assert scores.macro_recall == pytest.approx(2 / 3)
    assert scores.accuracy == pytest.approx(1 / 2)


def test_a_class_that_does_not_occur_counts_for_nothing() -> None:
    # no row is negative: its recall is not a 0 that drags the mean down, but calling rows so is still wrong
    scores = evaluate("human", labels(0, 0, 2, 2), probabilities([0, 1, 2, 2]))
    assert [c.label for c in scores.classes] == ["neutral", "positive"]
    assert scores.macro_recall == pytest.approx((1 / 2 + 1) / 2)
    assert macro_recall(labels(0, 0, 2, 2), probabilities([0, 1, 2, 2])) == scores.macro_recall
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert scores.accuracy == pytest.approx(3 / 4)
    assert scores.confusion == ((1, 1, 0), (0, 0, 0), (0, 0, 2))


def test_a_class_that_is_never_predicted_scores_0() -> None:
    scores = evaluate("human", labels(0, 1, 2), probabilities([0, 0, 0]))
    assert [(c.precision, c.recall, c.f1) for c in scores.classes[1:]] == [(0, 0, 0)] * 2
    assert scores.macro_recall == pytest.approx(1 / 3)
    assert scores.macro_f1 == pytest.approx(1 / 6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_probabilities_that_are_no_numbers(value: float) -> None:
    made = probabilities([0, 1, 2])
    made[1, 2] = value
    with pytest.raises(ValueError, match="not finite: train it again"):
        evaluate("human", labels(0, 1, 2), made)


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows with human labels"):
        evaluate("human", labels(), np.empty((0, 3), np.float32))


def test_one_row() -> None:
    scores = evaluate("human", labels(POSITIVE), probabilities([POSITIVE]))
    assert (scores.macro_recall, scores.macro_f1, scores.accuracy) == (1, 1, 1)


def test_the_log_loss_of_a_sure_mistake_is_finite() -> None:
    sure = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
    assert math.isfinite(evaluate("human", labels(NEUTRAL, POSITIVE), sure).log_loss)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 4), (2,), (3, 3, 1)])
def test_answers_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"answers of the shape .* to 3 rows"):
        evaluate("human", labels(0, 1, 2), np.full(shape, 1 / 3, np.float32))


@pytest.mark.parametrize("label", [3, -1, 7])
def test_a_label_that_is_none_of_ours(label: int) -> None:
    with pytest.raises(ValueError, match="Some human labels are none of 0 to 2"):
        evaluate("human", labels(0, label), probabilities([0, 1]))


def test_a_label_that_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="leave these rows out"):
        evaluate("human", np.array([0, math.nan]), probabilities([0, 1]))  # type: ignore[arg-type]


def test_one_class_is_scored_for_what_it_is() -> None:
    scores = evaluate("human", labels(1, 1, 1), probabilities([1, 1, 0]))
    assert [found.label for found in scores.classes] == ["negative"]
    assert scores.macro_recall == pytest.approx(2 / 3)


def test_a_model_without_probabilities_has_no_calibration() -> None:
    truth, predicted = labels(0, 0, 1, 2), labels(0, 1, 1, 2)
    alone, sure = evaluate("human", truth, predicted), evaluate("human", truth, probabilities([0, 1, 1, 2]))
    assert (alone.log_loss, alone.calibration_error, alone.reliability) == (None, None, ())
    unsure = {"log_loss": None, "calibration_error": None, "reliability": ()}
    assert alone == sure.model_copy(update=unsure)


def test_calibration_worked_out_by_hand() -> None:
    # at 0.8, in the bin (0.8, 0.867] or the one below: 3 of 4 right; at 0.5: 1 of 2 right
    truth = labels(0, 0, 0, 1, 2, 2)
    made = np.concatenate([probabilities([0, 0, 0, 0], 0.83), probabilities([2, 1], 0.5)])
    scores = evaluate("human", truth, made)
    low, high = scores.reliability
    assert (low.rows, low.accuracy, low.confidence) == (2, 0.5, pytest.approx(0.5))
    assert (high.rows, high.accuracy, high.confidence) == (4, 0.75, pytest.approx(0.83))
    assert (high.low, high.high) == pytest.approx((12 / 15, 13 / 15))
    assert scores.calibration_error == pytest.approx((4 * 0.08 + 2 * 0) / 6)


def test_calibration_on_the_edges_of_the_bins() -> None:
    draw = np.random.default_rng(0)
    made = draw.dirichlet([1, 1, 1], 500).astype(np.float32)
    made[:4] = [[1, 0, 0], [0.2, 0.4, 0.4], [0.6, 0.2, 0.2], [0.8, 0.2, 0]]
    scores = evaluate("human", draw.integers(0, 3, 500).astype(np.int8), made)
    assert sum(found.rows for found in scores.reliability) == 500
    for found in scores.reliability:
        assert found.low - 1e-9 <= found.confidence <= found.high + 1e-9
        assert found.rows > 0


def test_the_interval_of_macro_recall_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    draw = np.random.default_rng(3)
    truth = np.repeat(np.arange(3), [300, 60, 120]).astype(np.int8)
    predicted = np.where(draw.random(480) < 0.6, truth, draw.integers(0, 3, 480)).astype(np.int8)
    found = evaluate("human", truth, predicted).macro_recall_interval
    assert found is not None
    ends = []
    for label in range(3):
        right = (predicted == truth)[truth == label].astype(float)
        drawn = bootstrap((right,), np.mean, n_resamples=4000, rng=draw).bootstrap_distribution
        ends.append(drawn)
    low, high = np.quantile(np.mean(ends, axis=0), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)


def test_both_kinds_of_labels_are_scored_and_never_mixed() -> None:
    rows = pl.DataFrame(
        {"label": [0, 1, 2, 0], "human_label": [None, 1, None, 2]},
        schema={"label": pl.Int8, "human_label": pl.Int8},
    )
    weak, human = score_kinds(probabilities([0, 1, 2, 0]), rows)
    assert (weak.labels, weak.rows, weak.accuracy) == ("textblob", 4, 1)
    assert (human.labels, human.rows, human.accuracy) == ("human", 2, 0.5)
    assert score_kinds(probabilities([0]), rows[:1])[0].labels == "textblob"
    assert len(score_kinds(probabilities([0]), rows[:1])) == 1
