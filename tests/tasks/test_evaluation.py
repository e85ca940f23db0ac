"""Evaluation: scores against numbers worked out by hand, and the paired bootstrap against SciPy's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tasks.evaluation import compare, evaluate
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


contests = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[arrays.arrays(np.int8, n, elements=st.integers(0, 2)) for _ in range(3)])
)
few = settings(max_examples=40, deadline=None)


@few
@given(contests)
def test_identical_predictions_gain_nothing(contest: tuple[Labels, Labels, Labels]) -> None:
    truth, mine, _ = contest
    gain = compare(truth, mine, mine.copy())
    assert (gain.difference, gain.low, gain.high) == (0, 0, 0)


@few
@given(contests)
def test_the_difference_is_that_of_the_scores_and_turns_its_sign(
    contest: tuple[Labels, Labels, Labels],
) -> None:
    truth, mine, theirs = contest
    gain, turned = compare(truth, mine, theirs), compare(truth, theirs, mine)
    ours, other = (evaluate("human", truth, probabilities(p.tolist())).macro_recall for p in (mine, theirs))
    assert gain.difference == pytest.approx(ours - other, abs=1e-9)
    assert turned.difference == pytest.approx(-gain.difference, abs=1e-12)
    assert gain.low <= gain.high


@few
@given(contests, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(
    contest: tuple[Labels, Labels, Labels], random: object
) -> None:
    order = list(range(len(contest[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert compare(*(part[order] for part in contest)) == compare(*contest)


def fixed_contest() -> tuple[Labels, Labels, Labels]:
    """Return 600 rows, half of them neutral, of which one model gets 75 % and the other 65 %."""
    draw = np.random.default_rng(5)
    truth = draw.choice(3, 600, p=[0.5, 0.2, 0.3]).astype(np.int8)
    mine, theirs = (
        np.where(draw.random(600) < share, truth, draw.integers(0, 3, 600)).astype(np.int8)
        for share in (0.62, 0.48)
    )
    return truth, mine, theirs


def test_a_better_model_gains_with_an_interval_above_0() -> None:
    truth, mine, theirs = fixed_contest()
    gain = compare(truth, mine, theirs)
    assert 0 < gain.low < gain.difference < gain.high < 0.25
    lost = compare(truth, theirs, mine)
    assert lost.low < lost.difference < lost.high < 0


def test_equal_seeds_give_equal_intervals() -> None:
    contest = fixed_contest()
    assert compare(*contest, seed=3) == compare(*contest, seed=3)
    assert compare(*contest, seed=3) != compare(*contest, seed=4)


def test_the_interval_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    contest = fixed_contest()
    gain = compare(*contest)

    def difference(truth: Labels, mine: Labels, theirs: Labels) -> float:
        classes = [truth == label for label in range(3)]
        return float(
            np.mean([(mine[c] == truth[c]).mean() - (theirs[c] == truth[c]).mean() for c in classes])
        )

    expected = bootstrap(
        contest,
        difference,
        paired=True,
        vectorized=False,
        n_resamples=3000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert gain.low == pytest.approx(expected.low, abs=0.006)
    assert gain.high == pytest.approx(expected.high, abs=0.006)
    assert gain.high - gain.low == pytest.approx(expected.high - expected.low, rel=0.08)


def test_the_pairing_is_kept() -> None:
    # 100 rows on which both are right narrow the interval as rows that say nothing; unpaired it would be wide
    truth = labels(*[0, 1] * 100)
    mine, theirs = truth.copy(), truth.copy()
    mine[:60] = 2
    theirs[:62] = 2
    gain = compare(truth, mine, theirs)
    assert gain.difference == pytest.approx(0.01)
    assert gain.low >= -1e-12 and gain.high < 0.03
