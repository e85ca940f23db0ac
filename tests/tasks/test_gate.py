"""The gate promotes what is better beyond doubt, and nothing else."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.behaviour import BehaviourResult, Interval, Outcome
from tasks.comparison import Capability, Gain, compare, compare_behaviour
from tasks.evaluation import ClassScores, Scores
from tasks.gate import Evidence, Verdict, decide
from tasks.labelling import LABELS
from tasks.policy import Policy
from tasks.rows import LabelKind
from tests.policies import policy

TESTS = {
    "negation_mft": "negation",
    "sentiment_words_mft": "vocabulary",
    "typos_inv": "robustness",
    "contractions_inv": "robustness",
}
CEILINGS = {"sentiment_words_mft": 0.4, "typos_inv": 0.2, "contractions_inv": 0.2}
POLICY = policy(
    minimum_rows=100,
    minimum_class_rows=20,
    minimum_cases=50,
    capabilities=["vocabulary", "negation", "robustness"],
    minimum_macro_recall=0.5,
    minimum_gain=0.01,
    maximum_loss=0.05,
    maximum_test_loss=0.2,
    significance=0.05,
    ceilings=CEILINGS,
)
CLEAR = Gain(difference=0.05, low=0.02, high=0.08)
CLASSES = tuple(ClassScores(label=label, rows=100, precision=1, recall=1, f1=1) for label in LABELS)


def changed(own: Policy, **changes: Any) -> Policy:
    return Policy.model_validate(own.model_dump() | changes)


def scored(recall: float = 0.7, labels: LabelKind = "human", rows: int = 400, **other: Any) -> Scores:
    numbers = {"macro_f1": recall, "accuracy": recall, "log_loss": 0.8, "calibration_error": 0.1, **other}
    basis = {"labels": labels, "rows": rows, "macro_recall": recall, "classes": CLASSES, "confusion": ()}
    basis |= {"macro_recall_interval": Interval(low=0, high=1), "reliability": ()}
    return Scores(**basis | numbers)


def outcome(name: str, rate: float | None, cases: int = 100) -> BehaviourResult:
    return BehaviourResult(
        name=name,
        capability=TESTS.get(name, "any"),
        kind="MFT",
        description="Any.",
        rows=100,
        perturbed=cases,
        unperturbed=100 - cases,
        cases=2 * cases,
        failed=0 if rate is None or not math.isfinite(rate) else round(cases * rate),
        failure_rate=rate,
        interval=None,
        examples=(),
    )


def evidence(version: str = "2", recall: float = 0.7, rate: float = 0.1, **rates: float | None) -> Evidence:
    results = tuple(outcome(name, rates.get(name, rate)) for name in TESTS)
    return Evidence(version=version, scores=(scored(recall),), slices=(), behaviour=results)


def with_scores(found: Evidence, *scores: Scores) -> Evidence:
    return found.model_copy(update={"scores": scores})


def with_behaviour(found: Evidence, *results: BehaviourResult) -> Evidence:
    return found.model_copy(update={"behaviour": results})


def without(found: Evidence, name: str) -> Evidence:
    return with_behaviour(found, *(result for result in found.behaviour if result.name != name))


def paired(mine: Evidence, theirs: Evidence | None) -> tuple[tuple[Capability, ...], tuple[Capability, ...]]:
    """Return capabilities and tests of two whose failures overlap as far as they can."""

    def outcomes(found: Evidence) -> list[Outcome]:
        return [Outcome(r, np.arange(r.perturbed) < r.failed) for r in found.behaviour]

    return compare_behaviour(outcomes(mine), theirs and outcomes(theirs))


def judged(
    mine: Evidence, theirs: Evidence | None = None, gain: Gain | None = None, own: Policy = POLICY
) -> Verdict:
    """Return the gate's verdict with the capabilities of both, or of the challenger where they differ."""
    cases = [[(r.name, r.perturbed) for r in found.behaviour] for found in (mine, theirs or mine)]
    same = theirs is not None and cases[0] == cases[1]
    return decide(mine, theirs, gain, *paired(mine, theirs if same else None), own)


CHALLENGER, PRODUCTION = evidence("2", recall=0.7), evidence("1", recall=0.65)

RATES = st.floats(0, 1)
GAINS = st.builds(
    lambda difference, below, above: Gain(
        difference=difference, low=difference - below, high=difference + above
    ),
    *(st.floats(-0.5, 0.5), st.floats(0, 0.3), st.floats(0, 0.3)),
)
RESULTS = st.tuples(*[RATES] * len(TESTS)).map(lambda rates: tuple(map(outcome, TESTS, rates)))
EVIDENCE = st.builds(
    lambda human, weak, behaviour, rows: Evidence(
        version="2",
        scores=(scored(human, rows=rows), scored(weak, "textblob", 900)),
        slices=(),
        behaviour=behaviour,
    ),
    *(RATES, RATES, RESULTS, st.sampled_from([50, 400])),
)
POLICIES = st.builds(
    lambda **changes: changed(POLICY, **changes),
    minimum_macro_recall=st.sampled_from([0, 0.5]),
    ceilings=st.sampled_from([{}, CEILINGS]),
    minimum_gain=st.sampled_from([0, 0.01]),
    maximum_loss=st.sampled_from([0, 0.05, 1]),
    maximum_test_loss=st.sampled_from([0, 0.2, 1]),
    minimum_cases=st.sampled_from([1, 100, 101]),
)


# What is right


def test_a_better_model_is_promoted_and_the_reasons_say_by_how_much() -> None:
    verdict = judged(CHALLENGER, PRODUCTION, CLEAR)
    assert (verdict.decision, verdict.challenger, verdict.production) == ("promote", "2", "1")
    floor, ceilings, gain, capabilities = verdict.reasons
    assert floor == "Macro recall 0.700 on 400 rows with human labels clears the floor of 0.500."
    assert "typos_inv 10.0%" in ceilings
    assert "+0.050 (90% interval +0.020 to +0.080) over version 1" in gain
    assert capabilities.startswith(
        "No capability is lost beyond the margin; at worst, negation fails 10 of 100 cases"
    )


def test_a_class_of_a_few_rows_decides_nothing() -> None:
    rare = tuple(one.model_copy(update={"rows": 19 if one.label == "positive" else 190}) for one in CLASSES)
    verdict = judged(evidence().model_copy(update={"scores": (scored(classes=rare),)}))
    assert verdict.decision == "keep"
    assert verdict.reasons == (
        "Too little evidence: version 2 was tested on 19 rows whose human label is positive, and it takes "
        "20.",
    )


def test_the_first_version_needs_no_gain_but_the_floors() -> None:
    verdict = judged(CHALLENGER)
    assert (verdict.decision, verdict.production) == ("promote", None)
    assert verdict.reasons[-1] == "No version is in production yet."
    assert judged(evidence(recall=0.499)).decision == "keep"
    assert judged(evidence(recall=0.5)).decision == "promote"


@pytest.mark.parametrize("name", CEILINGS)
def test_each_ceiling_holds_alone(name: str) -> None:
    at = evidence(**{name: CEILINGS[name]})
    assert judged(at).decision == "promote"
    for production in (None, evidence("1", rate=0.9)):
        over = judged(evidence(**{name: CEILINGS[name] + 0.01}), production, CLEAR)
        assert over.decision == "keep"
        assert over.reasons == (
            f"{name} fails {CEILINGS[name] + 0.01:.1%} of its cases, more than {CEILINGS[name]:.0%}.",
        )


def test_a_test_without_ceiling_may_fail_for_the_first_version() -> None:
    assert "negation_mft" not in CEILINGS
    assert judged(evidence(negation_mft=1.0)).decision == "promote"


@pytest.mark.parametrize(
    ("gain", "decision"),
    [
        (Gain(difference=0.01, low=0.001, high=0.02), "promote"),
        (Gain(difference=0.009, low=0.001, high=0.02), "keep"),
        (Gain(difference=0.05, low=0.0, high=0.1), "keep"),
        (Gain(difference=0.05, low=-0.01, high=0.1), "keep"),
        (Gain(difference=0.0, low=0.0, high=0.0), "keep"),
        (Gain(difference=-0.05, low=-0.08, high=-0.02), "keep"),
    ],
)
def test_a_gain_must_be_large_and_sure(gain: Gain, decision: str) -> None:
    verdict = judged(CHALLENGER, PRODUCTION, gain)
    assert verdict.decision == decision
    if decision == "keep":
        [reason] = verdict.reasons
        assert f"{gain.difference:+.3f} (90% interval {gain.low:+.3f} to {gain.high:+.3f})" in reason
        assert "it takes +0.010" in reason


@pytest.mark.parametrize("name", TESTS)
def test_no_capability_may_be_lost_by_more_than_the_margin(name: str) -> None:
    cases = 200 if TESTS[name] == "robustness" else 100
    own = changed(POLICY, ceilings={}, maximum_loss=0.2, maximum_test_loss=1)
    before = evidence("1", rate=0.25)
    at = 0.25 + 0.2 * cases / 100
    assert judged(evidence(rate=0.25, **{name: at}), before, CLEAR, own).decision == "promote"
    verdict = judged(evidence(rate=0.25, **{name: at + 0.01}), before, CLEAR, own)
    assert verdict.decision == "keep"
    [reason] = verdict.reasons
    assert reason.startswith(f"{TESTS[name]} fails ")
    assert f" of {cases} cases against {cases // 4} of version 1, +20.5% (p < 0.001)" in reason or (
        f" of {cases} cases against {cases // 4} of version 1, +21.0% (p < 0.001)" in reason
    )


def test_a_loss_that_chance_explains_is_told_and_does_not_decide() -> None:
    # 8 of 100 cases lost and none won: p 0.004 alone, 0.027 among three capabilities and four tests
    before = evidence("1", rate=0.0)
    mine = evidence("2", rate=0.0, negation_mft=0.08)
    assert judged(mine, before, CLEAR).decision == "keep"
    strict = changed(POLICY, significance=0.02)
    verdict = judged(mine, before, CLEAR, strict)
    assert verdict.decision == "promote"
    assert (
        "at worst, negation fails 8 of 100 cases against 0 of version 1, +8.0% (p 0.027)"
        in verdict.reasons[-1]
    )


def test_what_is_gained_in_one_test_does_not_pay_for_the_ruin_of_another() -> None:
    """Pooled cases: a model that calls everything the same passes all that asks for the same label twice."""
    before = evidence("1", rate=0.1, typos_inv=0.9)
    mine = evidence("2", rate=0.1, typos_inv=0.0, contractions_inv=0.5)
    own = changed(POLICY, ceilings={})
    verdict = judged(mine, before, CLEAR, own)
    assert verdict.decision == "keep"
    [reason] = verdict.reasons
    assert reason.startswith("contractions_inv fails 50 of 100 cases against 10 of version 1, +40.0%")
    assert reason.endswith("more than 20%, and more than chance explains.")
    assert judged(mine, before, CLEAR, changed(own, maximum_test_loss=0.4)).decision == "promote"


def test_a_small_loss_does_not_decide_however_sure_it_is() -> None:
    lost = np.arange(10_000) < 400  # 4 % of the cases, none won
    mine, theirs = (
        [Outcome(outcome(name, 0.0, 10_000), lost & (name == "negation_mft") & worse) for name in TESTS]
        for worse in (True, False)
    )
    found, tested = compare_behaviour(mine, theirs)
    tests = tuple(outcome(name, 0.0, 10_000) for name in TESTS)
    both = with_behaviour(CHALLENGER, *tests), with_behaviour(PRODUCTION, *tests)
    assert [c.corrected_p_value for c in found if c.name == "negation"] == [pytest.approx(0, abs=1e-9)]
    assert decide(*both, CLEAR, found, tested, POLICY).decision == "promote"
    assert decide(*both, CLEAR, found, tested, changed(POLICY, maximum_loss=0.03)).decision == "keep"


def test_a_capability_with_too_few_cases_promotes_nothing_if_the_policy_wants_it() -> None:
    few = with_behaviour(CHALLENGER, *(outcome(n, 0.1, 49 if n == "negation_mft" else 100) for n in TESTS))
    verdict = judged(few)
    assert verdict.decision == "keep"
    assert verdict.reasons[0].startswith(
        "Too little evidence: negation was tested on 49 cases, and it takes 50"
    )
    free = changed(POLICY, capabilities=["vocabulary", "robustness"])
    theirs = with_behaviour(PRODUCTION, *(r.model_copy(update={"failed": 0}) for r in few.behaviour))
    assert judged(few, theirs, CLEAR, changed(free, maximum_loss=1)).reasons[-1] == (
        "negation does not count: 49 cases, of 50."
    )


def test_all_that_speaks_against_a_version_is_told() -> None:
    verdict = judged(evidence(recall=0.4, rate=0.9), PRODUCTION, Gain(difference=-0.2, low=-0.3, high=-0.1))
    told = " ".join(verdict.reasons)
    assert len(verdict.reasons) == 1 + len(CEILINGS) + 1 + len(POLICY.capabilities) + len(TESTS)
    assert all(
        part in told for part in ("0.400", "90.0%", "-0.200", "+80.0%", *CEILINGS, *POLICY.capabilities)
    )


def test_human_labels_decide_where_there_are_enough() -> None:
    def verdict(human: Scores) -> Verdict:
        return judged(with_scores(CHALLENGER, scored(0.9, "textblob"), human))

    assert verdict(scored(0.3, rows=100)).decision == "keep"
    assert verdict(scored(0.3, rows=99)).decision == "promote"
    assert "textblob labels" in verdict(scored(0.3, rows=99)).reasons[0]


# What must never happen


@settings(max_examples=200)
@given(found=EVIDENCE, own=POLICIES)
def test_a_model_never_beats_itself(found: Evidence, own: Policy) -> None:
    nothing = Gain(difference=0, low=0, high=0)
    assert judged(found, found.model_copy(update={"version": "1"}), nothing, own).decision == "keep"


@settings(max_examples=300)
@given(
    mine=EVIDENCE,
    theirs=EVIDENCE,
    gain=GAINS,
    own=POLICIES,
    first=st.booleans(),
    step=st.floats(0, 1),
    what=st.sampled_from(["gain", "low", "scores", *TESTS]),
)
def test_to_be_worse_in_anything_never_helps(
    mine: Evidence, theirs: Evidence, gain: Gain, own: Policy, first: bool, step: float, what: str
) -> None:
    worse, loss = mine, gain
    if what == "gain":
        loss = Gain(difference=gain.difference - step, low=gain.low - step, high=gain.high - step)
    elif what == "low":
        loss = gain.model_copy(update={"low": gain.low - step})
    elif what == "scores":
        lower = (
            scored(max(0.0, scores.macro_recall - step), scores.labels, scores.rows, log_loss=0.8 + step)
            for scores in mine.scores
        )
        worse = with_scores(mine, *lower)
    else:
        results = (
            outcome(result.name, min(1.0, (result.failure_rate or 0) + step * (result.name == what)))
            for result in mine.behaviour
        )
        worse = mine.model_copy(update={"behaviour": tuple(results)})
    before = judged(mine, None if first else theirs, None if first else gain, own)
    after = judged(worse, None if first else theirs, None if first else loss, own)
    assert (before.decision, after.decision) != ("keep", "promote")


@settings(max_examples=200)
@given(mine=EVIDENCE, theirs=EVIDENCE, gain=GAINS, own=POLICIES, first=st.booleans())
def test_every_verdict_has_reasons_in_words(
    mine: Evidence, theirs: Evidence, gain: Gain, own: Policy, first: bool
) -> None:
    verdict = judged(mine, None if first else theirs, None if first else gain, own)
    assert verdict.reasons
    assert all(reason[0].isalpha() and reason.endswith(".") and " " in reason for reason in verdict.reasons)
    assert any(character.isdigit() for character in " ".join(verdict.reasons))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert verdict == judged(mine, None if first else theirs, None if first else gain, own)


SCORES = ("macro_recall", "macro_f1", "accuracy", "log_loss", "calibration_error")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("labels", ["human", "textblob"])
def test_a_score_that_is_not_a_number_never_promotes(
    value: float | None, name: str, labels: LabelKind
) -> None:
    other = scored(0.9, "textblob" if labels == "human" else "human")
    if value is None and name in ("macro_recall", "macro_f1", "accuracy"):
        return  # the class does not take it
    spoilt = scored(0.9, labels).model_copy(update={name: value})
    for mine, theirs in ((spoilt, None), (spoilt, scored(0.6)), (scored(0.9), spoilt)):
        production = theirs and with_scores(PRODUCTION, theirs, other)
        verdict = judged(with_scores(CHALLENGER, mine, other), production, theirs and CLEAR)
        assert verdict.decision == "keep"
        assert any("not numbers" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["difference", "low", "high"])
def test_a_gain_that_is_not_a_number_never_promotes(value: float, name: str) -> None:
    verdict = judged(CHALLENGER, PRODUCTION, CLEAR.model_copy(update={name: value}))
    assert verdict.decision == "keep"
    assert verdict.reasons == ("Versions 2 and 1 were not compared on the same rows.",)


@pytest.mark.parametrize("rate", [None, math.nan, math.inf])
@pytest.mark.parametrize("name", TESTS)
def test_a_test_without_result_never_promotes(rate: float | None, name: str) -> None:
    spoilt = evidence("2", **{name: rate})
    for mine, theirs, gain in (
        (spoilt, None, None),
        (spoilt, PRODUCTION, CLEAR),
        (CHALLENGER, spoilt.model_copy(update={"version": "1"}), CLEAR),
    ):
        verdict = judged(mine, theirs, gain)
        assert verdict.decision == "keep"
        assert verdict.reasons[0].startswith(f"The result of {name} for version")


@pytest.mark.parametrize("name", CEILINGS)
def test_a_test_with_a_ceiling_needs_cases(name: str) -> None:
    few = with_behaviour(CHALLENGER, *(outcome(n, 0.0, 49 if n == name else 100) for n in TESTS))
    told = [reason for reason in judged(few).reasons if reason.startswith(f"{name} could not be run")]
    assert told and "49 of the 100 rows offered could be used, and it takes 50" in told[0]


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("field", ["loss", "corrected_p_value"])
def test_a_capability_that_was_not_compared_never_promotes(field: str, value: float | None) -> None:
    found, tests = paired(CHALLENGER, PRODUCTION)
    spoilt = (found[0].model_copy(update={field: value}), *found[1:])
    verdict = decide(CHALLENGER, PRODUCTION, CLEAR, spoilt, tests, POLICY)
    assert verdict.decision == "keep"
    assert verdict.reasons == ("Versions 2 and 1 were not compared in negation.",)


MISSING: list[tuple[str, Callable[[], Verdict], str]] = [
    (
        "scores",
        lambda: judged(with_scores(CHALLENGER)),
        "version 2 was not tested on 100",
    ),
    ("their scores", lambda: judged(CHALLENGER, with_scores(PRODUCTION), CLEAR), "version 1 was not"),
    (
        "rows",
        lambda: judged(with_scores(CHALLENGER, scored(0.9, rows=99))),
        "Too little evidence",
    ),
    ("gain", lambda: judged(CHALLENGER, PRODUCTION, None), "not compared"),
    (
        "all tests",
        lambda: judged(
            CHALLENGER.model_copy(update={"behaviour": ()}), None, None, changed(POLICY, ceilings={})
        ),
        "no behavioural results",
    ),
    (
        "a test",
        lambda: judged(without(CHALLENGER, "typos_inv")),
        "typos_inv has a ceiling",
    ),
    (
        "a test that production has",
        lambda: judged(without(CHALLENGER, "negation_mft"), PRODUCTION, CLEAR),
        "Versions 2 and 1 were not both put to the same cases of negation_mft.",
    ),
    (
        "a test that the challenger has",
        lambda: judged(CHALLENGER, without(PRODUCTION, "negation_mft"), CLEAR),
        "Versions 2 and 1 were not both put to the same cases of negation_mft.",
    ),
    (
        "cases of one",
        lambda: judged(
            CHALLENGER,
            with_behaviour(PRODUCTION, *(outcome(name, 0.1, 99) for name in TESTS)),
            CLEAR,
        ),
        "not both put to the same cases of contractions_inv, negation_mft",
    ),
    (
        "the capabilities",
        lambda: decide(CHALLENGER, PRODUCTION, CLEAR, (), (), POLICY),
        "Too little evidence: negation was tested on 0 cases",
    ),
    (
        "a test in the capabilities",
        lambda: decide(CHALLENGER, None, None, *paired(without(CHALLENGER, "typos_inv"), None), POLICY),
        "The cases of typos_inv are missing in the comparison.",
    ),
    (
        "a second class",
        lambda: judged(with_scores(CHALLENGER, scored(0.9, classes=CLASSES[:1]))),
        "all 400 rows that version 2 was tested on have the same human label",
    ),
    (
        "the same rows",
        lambda: judged(CHALLENGER, with_scores(PRODUCTION, scored(0.6, rows=399)), CLEAR),
        "not scored on the same rows: 400 with human labels against 399 with human ones.",
    ),
    (
        "the same labels",
        lambda: judged(CHALLENGER, with_scores(PRODUCTION, scored(0.6, "textblob")), CLEAR),
        "not scored on the same rows",
    ),
]


@pytest.mark.parametrize(
    ("decided", "reason"), [case[1:] for case in MISSING], ids=[case[0] for case in MISSING]
)
def test_missing_evidence_never_promotes(decided: Callable[[], Verdict], reason: str) -> None:
    verdict = decided()
    assert verdict.decision == "keep"
    assert any(reason in told for told in verdict.reasons)


# The same, from answers to verdict

Labels = NDArray[np.int8]
Failures = NDArray[np.bool_]
LOOSE = changed(
    POLICY, minimum_rows=1, minimum_cases=1, minimum_macro_recall=0, ceilings={}, maximum_loss=0.02
)


def from_answers(truth: Labels, mine: Labels, theirs: Labels, failed: Failures, others: Failures) -> Verdict:
    """Return the verdict over two models with these answers to rows and cases, as the benchmark does."""

    def known(version: str, predicted: Labels, failures: Failures) -> tuple[Evidence, list[Outcome]]:
        recalls = [(predicted == label)[truth == label].mean() for label in np.unique(truth)]
        parts = zip(TESTS, np.array_split(failures, len(TESTS)), strict=True)
        outcomes = [Outcome(outcome(name, float(part.mean()), len(part)), part) for name, part in parts]
        results = tuple(found.result for found in outcomes)
        scores = (scored(float(np.mean(recalls)), rows=len(truth), classes=CLASSES[: len(recalls)]),)
        return Evidence(version=version, scores=scores, slices=(), behaviour=results), outcomes

    (challenger, ours), (production, yours) = known("2", mine, failed), known("1", theirs, others)
    gain = compare(truth, mine, theirs, LOOSE.significance, seed=1)
    return decide(challenger, production, gain, *compare_behaviour(ours, yours), LOOSE)


@st.composite
def contests(draw: st.DrawFn) -> tuple[Labels, Labels, Labels, Failures, Failures]:
    """Draw labels, answers and failures of two models; the first one is better, as a rule."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = random.integers(0, 3, draw(st.integers(30, 90))).astype(np.int8)
    skills = draw(st.sampled_from([(0.8, 0.6), (0.7, 0.6), (0.65, 0.6), (0.6, 0.6)]))
    mine, theirs = (
        np.where(random.random(len(truth)) < skill, truth, random.integers(0, 3, len(truth))).astype(np.int8)
        for skill in skills
    )
    rates = draw(st.sampled_from([(0.1, 0.2), (0.15, 0.15), (0.25, 0.15)]))
    failed, others = (random.random(80) < rate for rate in rates)
    return truth, mine, theirs, failed, others


slowly = settings(max_examples=50, deadline=None)


def test_contests_are_decided_either_way() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 90).astype(np.int8)
    wrong = np.where(np.arange(90) % 2 == 0, truth, (truth + 1) % 3).astype(np.int8)
    none = np.zeros(80, np.bool_)
    assert from_answers(truth, truth, wrong, none, none).decision == "promote"
    assert from_answers(truth, wrong, truth, none, none).decision == "keep"


@slowly
@given(contests())
def test_the_same_answers_never_win(contest: tuple[Labels, Labels, Labels, Failures, Failures]) -> None:
    truth, mine, _, failed, _ = contest
    assert from_answers(truth, mine, mine.copy(), failed, failed.copy()).decision == "keep"


@slowly
@given(contests(), st.integers(0, 1000))
def test_the_order_of_rows_and_cases_changes_nothing(
    contest: tuple[Labels, Labels, Labels, Failures, Failures], seed: int
) -> None:
    truth, mine, theirs, failed, others = contest
    random = np.random.default_rng(seed)
    rows = random.permutation(len(truth))
    cases = np.concatenate([random.permutation(part) for part in np.array_split(np.arange(80), len(TESTS))])
    turned = from_answers(truth[rows], mine[rows], theirs[rows], failed[cases], others[cases])
    assert turned == from_answers(truth, mine, theirs, failed, others)


@slowly
@given(contests(), st.data())
def test_one_answer_that_is_worse_never_helps(
    contest: tuple[Labels, Labels, Labels, Failures, Failures], data: st.DataObject
) -> None:
    truth, mine, theirs, failed, others = contest
    before = from_answers(truth, mine, theirs, failed, others)
    worse, more = mine.copy(), failed.copy()
    if data.draw(st.booleans()):
        row = data.draw(st.sampled_from(np.flatnonzero(mine == truth).tolist()))
        worse[row] = (truth[row] + data.draw(st.sampled_from([1, 2]))) % 3
    else:
        more[data.draw(st.sampled_from(np.flatnonzero(~failed).tolist()))] = True
    after = from_answers(truth, worse, theirs, more, others)
    assert (before.decision, after.decision) != ("keep", "promote")


@slowly
@given(contests(), st.data())
def test_one_answer_of_production_that_is_better_never_helps(
    contest: tuple[Labels, Labels, Labels, Failures, Failures], data: st.DataObject
) -> None:
    truth, mine, theirs, failed, others = contest
    before = from_answers(truth, mine, theirs, failed, others)
    better, fewer = theirs.copy(), others.copy()
    wrong, failures = np.flatnonzero(theirs != truth), np.flatnonzero(others)
    if len(wrong) and data.draw(st.booleans()):
        row = data.draw(st.sampled_from(wrong.tolist()))
        better[row] = truth[row]
    elif len(failures):
        fewer[data.draw(st.sampled_from(failures.tolist()))] = False
    after = from_answers(truth, mine, better, failed, fewer)
    assert (before.decision, after.decision) != ("keep", "promote")


# Mistakes that others made


def test_a_win_in_the_first_metric_does_not_outweigh_a_loss_in_the_others() -> None:
    """Lexicographic: (0.80, ...) > (0.65, ...), whatever comes after the first number."""
    mine = evidence("2", recall=0.8, negation_mft=0.9)
    theirs = evidence("1", recall=0.65, negation_mft=0.2)
    key = lambda found: (found.scores[0].macro_recall, *(-(r.failure_rate or 0) for r in found.behaviour))  # noqa: E731
    assert key(mine) > key(theirs)
    verdict = judged(mine, theirs, Gain(difference=0.15, low=0.1, high=0.2))
    assert verdict.decision == "keep"
    reason, _ = verdict.reasons
    assert reason.startswith("negation fails 90 of 100 cases against 20 of version 1, +70.0%")


def test_the_two_models_are_not_mixed_up() -> None:
    """Inverted comparison: the worse model wins, for it fails more tests or has the lower recall."""
    better, worse = evidence("2", recall=0.8, rate=0.05), evidence("1", recall=0.6, rate=0.19)
    gain = Gain(difference=0.2, low=0.1, high=0.3)
    assert judged(better, worse, gain).decision == "promote"
    assert judged(worse, better, Gain(difference=-0.2, low=-0.3, high=-0.1)).decision == "keep"
    assert judged(worse, better, gain).decision == "keep", "a loss in tests counts on its own"


def test_production_without_evidence_is_not_replaced() -> None:
    """Promote on exception: what could not be measured counts as beaten."""
    nothing = Evidence(version="1", scores=(), slices=(), behaviour=())
    for gain in (None, CLEAR):
        verdict = judged(evidence(recall=0.99, rate=0), nothing, gain)
        assert verdict.decision == "keep"
        assert "version 1 was not tested" in verdict.reasons[0]
