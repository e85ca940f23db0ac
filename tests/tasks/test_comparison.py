"""Comparison: the paired bootstrap against SciPy's, the exact tests against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tasks.behaviour import BehaviourResult, Outcome
from tasks.comparison import Capability, _resample, compare, compare_behaviour, holm
from tasks.evaluation import evaluate

Labels = NDArray[np.int8]


def labels(*values: int) -> Labels:
    return np.array(values, np.int8)


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
    ours, other = (evaluate("human", truth, p).macro_recall for p in (mine, theirs))
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


@few
@given(contests, st.data())
def test_a_model_that_is_worse_on_one_row_never_gains(
    contest: tuple[Labels, Labels, Labels], data: st.DataObject
) -> None:
    truth, mine, theirs = contest
    row = data.draw(st.integers(0, len(truth) - 1))
    assume(mine[row] == truth[row])
    worse = mine.copy()
    worse[row] = (truth[row] + 1) % 3
    before, after = compare(truth, mine, theirs), compare(truth, worse, theirs)
    assert after.difference < before.difference
    assert after.low <= before.low
    assert after.high <= before.high


@pytest.mark.parametrize(("won", "lost"), [(5, 2), (1, 0), (20, 20), (29, 1)])
def test_in_no_resample_does_the_luck_of_the_draw_help_a_worse_model(won: int, lost: int) -> None:
    before = _resample(won, lost, 50, (1, 0))
    assert before.mean() == pytest.approx(won - lost, abs=0.2)
    for worse in (_resample(won - 1, lost, 50, (1, 0)), _resample(won, lost + 1, 50, (1, 0))):
        assert (worse <= before).all()
        assert (worse < before).any()


def test_a_smaller_significance_gives_a_wider_interval() -> None:
    contest = fixed_contest()
    wide, narrow = compare(*contest, significance=0.005), compare(*contest, significance=0.05)
    assert wide.low < narrow.low < narrow.high < wide.high


# Capabilities


def outcome(failed: NDArray[np.bool_], name: str = "one", capability: str = "any") -> Outcome:
    count, total = int(failed.sum()), len(failed)
    result = BehaviourResult(
        name=name,
        capability=capability,
        kind="MFT",
        description="Any.",
        rows=total,
        perturbed=total,
        unperturbed=0,
        cases=total,
        failed=count,
        failure_rate=count / total if total else None,
        interval=None,
        examples=(),
    )
    return Outcome(result, failed)


def paired(lost: int, won: int, both: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    mine = [True] * lost + [False] * won + [True] * both + [False] * neither
    theirs = [False] * lost + [True] * won + [True] * both + [False] * neither
    return np.array(mine, np.bool_), np.array(theirs, np.bool_)


def compared(lost: int, won: int, both: int = 3, neither: int = 20) -> Capability:
    mine, theirs = paired(lost, won, both, neither)
    [found], [_] = compare_behaviour([outcome(mine)], [outcome(theirs)])
    return found


def test_mcnemars_test_worked_out_by_hand() -> None:
    found = compared(lost=4, won=1, both=5, neither=10)
    assert (found.cases, found.challenger_failed, found.production_failed) == (20, 9, 6)
    assert (found.lost, found.won, found.loss) == (4, 1, 3 / 20)
    assert found.p_value == pytest.approx((5 + 1) / 2**5)  # 4 or 5 of 5 tosses
    assert found.corrected_p_value == 2 * found.p_value  # a capability and its only test
    assert found.interval is not None
    assert found.interval.low < 3 / 20 < found.interval.high <= 5 / 20


def test_equal_models_lose_nothing() -> None:
    found = compared(lost=0, won=0)
    assert (found.loss, found.p_value, found.corrected_p_value) == (0, 1, 1)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0, 0)


def test_what_is_won_is_no_loss() -> None:
    found = compared(lost=1, won=9)
    assert found.loss is not None and found.loss < 0
    assert found.p_value is not None and found.p_value > 0.99


@few
@given(st.tuples(*[st.integers(0, 12)] * 4), st.sampled_from(["pass to fail", "win to fail"]))
def test_one_case_more_that_fails_never_looks_better(counts: tuple[int, ...], how: str) -> None:
    lost, won, both, neither = counts
    assume(neither if how == "pass to fail" else won)
    worse = (
        (lost + 1, won, both, neither - 1) if how == "pass to fail" else (lost, won - 1, both + 1, neither)
    )
    before, after = compared(*counts), compared(*worse)
    assert before.p_value is not None and after.p_value is not None
    assert before.loss is not None and after.loss is not None
    assert after.p_value <= before.p_value
    assert after.loss > before.loss


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_holm_is_monotone_and_between_the_value_and_bonferronis(
    values: list[float], data: st.DataObject
) -> None:
    corrected = holm(values)
    for value, found in zip(values, corrected, strict=True):
        assert value <= found <= min(1, len(values) * value) + 1e-12
    place = data.draw(st.integers(0, len(values) - 1))
    smaller = [*values]
    smaller[place] *= data.draw(st.floats(0, 1))
    assert all(after <= before for before, after in zip(corrected, holm(smaller), strict=True))


def test_holm_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_cases_are_pooled_by_capability_in_the_order_of_the_suite() -> None:
    yes, no = np.array([True, False]), np.array([False, False])
    empty = np.zeros(0, np.bool_)
    mine = [outcome(yes, "a", "x"), outcome(no, "b", "y"), outcome(no, "c", "x"), outcome(empty, "d", "z")]
    theirs = [outcome(no, "a", "x"), outcome(yes, "b", "y"), outcome(yes, "c", "x"), outcome(empty, "d", "z")]
    (x, y, z), (a, b, c, d) = compare_behaviour(mine, theirs)
    assert (x.name, x.tests, x.cases, x.lost, x.won) == ("x", ("a", "c"), 4, 1, 1)
    assert (y.name, y.tests, y.cases, y.lost, y.won) == ("y", ("b",), 2, 0, 1)
    assert (z.name, z.tests, z.cases, z.loss, z.p_value, z.corrected_p_value) == (
        "z",
        (),
        0,
        None,
        None,
        None,
    )
    assert x.corrected_p_value == 1
    assert (a.name, a.tests, a.cases, a.lost, a.won) == ("a", ("a",), 2, 1, 0)
    assert [(test.name, test.lost, test.won) for test in (b, c)] == [("b", 0, 1), ("c", 0, 1)]
    assert (d.name, d.cases, d.p_value) == ("d", 0, None)


def test_alone_nothing_is_compared() -> None:
    [found], [_] = compare_behaviour([outcome(np.array([True, False, False]))], None)
    assert (found.cases, found.challenger_failed) == (3, 1)
    assert {found.production_failed, found.lost, found.won, found.loss, found.p_value} == {None}


def test_other_cases_are_refused() -> None:
    one = outcome(np.array([True, False]))
    for other in (outcome(np.array([True])), outcome(np.array([True, False]), "two")):
        with pytest.raises(ValueError, match="one suite"):
            compare_behaviour([one], [other])
    with pytest.raises(ValueError, match="zip"):
        compare_behaviour([one], [one, one])
