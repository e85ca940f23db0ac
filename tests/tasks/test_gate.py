"""The gate promotes what is better beyond doubt, and nothing else."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.behaviour import BehaviourResult
from tasks.capabilities import BEHAVIOURS
from tasks.evaluation import Gain, Scores
from tasks.gate import CEILINGS, Evidence, Policy, Verdict, decide
from tasks.rows import LabelKind

TESTS = ("negation_mft", "sentiment_words_mft", "typos_inv", "contractions_inv")
POLICY = Policy()
CLEAR = Gain(difference=0.05, low=0.02, high=0.08)


def scored(recall: float = 0.7, labels: LabelKind = "human", rows: int = 400, **other: float) -> Scores:
    numbers = {"macro_f1": recall, "accuracy": recall, "log_loss": 0.8, **other}
    return Scores(labels=labels, rows=rows, macro_recall=recall, classes=(), confusion=(), **numbers)


def outcome(name: str, rate: float | None) -> BehaviourResult:
    return BehaviourResult(
        name=name,
        capability="any",
        kind="MFT",
        description="Any.",
        rows=100,
        perturbed=100,
        unperturbed=0,
        cases=200,
        failed=0 if rate is None or not math.isfinite(rate) else round(100 * rate),
        failure_rate=rate,
        interval=None,
        examples=(),
    )


def evidence(version: str = "2", recall: float = 0.7, rate: float = 0.1, **rates: float | None) -> Evidence:
    results = tuple(outcome(name, rates.get(name, rate)) for name in TESTS)
    return Evidence(version=version, scores=(scored(recall),), behaviour=results)


def with_scores(found: Evidence, *scores: Scores) -> Evidence:
    return found.model_copy(update={"scores": scores})


def without(found: Evidence, name: str) -> Evidence:
    kept = tuple(result for result in found.behaviour if result.name != name)
    return found.model_copy(update={"behaviour": kept})


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
        version="2", scores=(scored(human, rows=rows), scored(weak, "textblob", 900)), behaviour=behaviour
    ),
    *(RATES, RATES, RESULTS, st.sampled_from([50, 400])),
)
POLICIES = st.builds(
    Policy,
    minimum_macro_recall=st.sampled_from([0, 0.5]),
    ceilings=st.sampled_from([{}, CEILINGS]),
    minimum_gain=st.sampled_from([0, 0.01]),
    maximum_loss=st.sampled_from([0, 0.05, 1]),
)


# What is right


def test_a_better_model_is_promoted_and_the_reasons_say_by_how_much() -> None:
    verdict = decide(CHALLENGER, PRODUCTION, CLEAR, POLICY)
    assert (verdict.decision, verdict.challenger, verdict.production) == ("promote", "2", "1")
    floor, ceilings, gain = verdict.reasons
    assert floor == "Macro recall 0.700 on 400 rows with human labels clears the floor of 0.500."
    assert "typos_inv 10.0%" in ceilings
    assert "+0.050 (90% interval +0.020 to +0.080) over version 1" in gain


def test_the_first_version_needs_no_gain_but_the_floors() -> None:
    verdict = decide(CHALLENGER, None, None, POLICY)
    assert (verdict.decision, verdict.production) == ("promote", None)
    assert verdict.reasons[-1] == "No version is in production yet."
    assert decide(evidence(recall=0.499), None, None, POLICY).decision == "keep"
    assert decide(evidence(recall=0.5), None, None, POLICY).decision == "promote"


@pytest.mark.parametrize("name", CEILINGS)
def test_each_ceiling_holds_alone(name: str) -> None:
    at = evidence(**{name: CEILINGS[name]})
    assert decide(at, None, None, POLICY).decision == "promote"
    for production in (None, evidence("1", rate=0.9)):
        over = decide(evidence(**{name: CEILINGS[name] + 0.01}), production, CLEAR, POLICY)
        assert over.decision == "keep"
        assert over.reasons == (
            f"{name} fails {CEILINGS[name] + 0.01:.1%} of its cases, more than {CEILINGS[name]:.0%}.",
        )


def test_a_test_without_ceiling_may_fail_for_the_first_version() -> None:
    assert "negation_mft" not in CEILINGS
    assert decide(evidence(negation_mft=1.0), None, None, POLICY).decision == "promote"


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
    verdict = decide(CHALLENGER, PRODUCTION, gain, POLICY)
    assert verdict.decision == decision
    if decision == "keep":
        [reason] = verdict.reasons
        assert f"{gain.difference:+.3f} (90% interval {gain.low:+.3f} to {gain.high:+.3f})" in reason
        assert "it takes +0.010" in reason


@pytest.mark.parametrize("name", TESTS)
def test_no_behavioural_test_may_be_lost_by_more_than_the_margin(name: str) -> None:
    policy = Policy(ceilings={}, maximum_loss=0.25)
    before = evidence("1", rate=0.25)
    assert decide(evidence(**{name: 0.5}), before, CLEAR, policy).decision == "promote"
    verdict = decide(evidence(**{name: 0.51}), before, CLEAR, policy)
    assert verdict.decision == "keep"
    assert verdict.reasons == (f"{name} fails 51.0% of its cases, 26.0% more than version 1.",)


def test_all_that_speaks_against_a_version_is_told() -> None:
    verdict = decide(
        evidence(recall=0.4, rate=0.9), PRODUCTION, Gain(difference=-0.2, low=-0.3, high=-0.1), POLICY
    )
    told = " ".join(verdict.reasons)
    assert len(verdict.reasons) == 1 + len(CEILINGS) + 1 + len(TESTS)
    assert all(part in told for part in ("0.400", "90.0%", "-0.200", "80.0% more", *TESTS))


def test_human_labels_decide_where_there_are_enough() -> None:
    def judged(human: Scores) -> Verdict:
        return decide(with_scores(CHALLENGER, scored(0.9, "textblob"), human), None, None, POLICY)

    assert judged(scored(0.3, rows=100)).decision == "keep"
    assert judged(scored(0.3, rows=99)).decision == "promote"
    assert "textblob labels" in judged(scored(0.3, rows=99)).reasons[0]


def test_default_ceilings_are_of_tests_that_exist() -> None:
    assert CEILINGS.keys() <= {behaviour.name for behaviour in BEHAVIOURS}


@pytest.mark.parametrize(
    "wrong", [{"minimum_gian": 0.1}, {"ceilings": {"typos_inv": 2}}, {"minimum_macro_recall": math.nan}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(wrong)


# What must never happen


@settings(max_examples=200)
@given(found=EVIDENCE, policy=POLICIES)
def test_a_model_never_beats_itself(found: Evidence, policy: Policy) -> None:
    nothing = Gain(difference=0, low=0, high=0)
    assert decide(found, found.model_copy(update={"version": "1"}), nothing, policy).decision == "keep"


@settings(max_examples=300)
@given(
    mine=EVIDENCE,
    theirs=EVIDENCE,
    gain=GAINS,
    policy=POLICIES,
    first=st.booleans(),
    step=st.floats(0, 1),
    what=st.sampled_from(["gain", "low", "scores", *TESTS]),
)
def test_to_be_worse_in_anything_never_helps(
    mine: Evidence, theirs: Evidence, gain: Gain, policy: Policy, first: bool, step: float, what: str
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
    before = decide(mine, None if first else theirs, None if first else gain, policy)
    after = decide(worse, None if first else theirs, None if first else loss, policy)
    assert (before.decision, after.decision) != ("keep", "promote")


@settings(max_examples=200)
@given(mine=EVIDENCE, theirs=EVIDENCE, gain=GAINS, policy=POLICIES, first=st.booleans())
def test_every_verdict_has_reasons_in_words(
    mine: Evidence, theirs: Evidence, gain: Gain, policy: Policy, first: bool
) -> None:
    verdict = decide(mine, None if first else theirs, None if first else gain, policy)
    assert verdict.reasons
    assert all(reason[0].isalpha() and reason.endswith(".") and " " in reason for reason in verdict.reasons)
    assert any(character.isdigit() for character in " ".join(verdict.reasons))
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert verdict == decide(mine, None if first else theirs, None if first else gain, policy)


SCORES = ("macro_recall", "macro_f1", "accuracy", "log_loss")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("labels", ["human", "textblob"])
def test_a_score_that_is_not_a_number_never_promotes(value: float, name: str, labels: LabelKind) -> None:
    other = scored(0.9, "textblob" if labels == "human" else "human")
    spoilt = scored(0.9, labels).model_copy(update={name: value})
    for mine, theirs in ((spoilt, None), (spoilt, scored(0.6)), (scored(0.9), spoilt)):
        production = theirs and with_scores(PRODUCTION, theirs, other)
        verdict = decide(with_scores(CHALLENGER, mine, other), production, theirs and CLEAR, POLICY)
        assert verdict.decision == "keep"
        assert any("not numbers" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["difference", "low", "high"])
def test_a_gain_that_is_not_a_number_never_promotes(value: float, name: str) -> None:
    verdict = decide(CHALLENGER, PRODUCTION, CLEAR.model_copy(update={name: value}), POLICY)
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
        verdict = decide(mine, theirs, gain, POLICY)
        assert verdict.decision == "keep"
        assert verdict.reasons[0].startswith(f"{name} could not be run on version")


MISSING: list[tuple[str, Callable[[], Verdict], str]] = [
    (
        "scores",
        lambda: decide(with_scores(CHALLENGER), None, None, POLICY),
        "version 2 was not tested on 100",
    ),
    ("their scores", lambda: decide(CHALLENGER, with_scores(PRODUCTION), CLEAR, POLICY), "version 1 was not"),
    (
        "rows",
        lambda: decide(with_scores(CHALLENGER, scored(0.9, rows=99)), None, None, POLICY),
        "Too little evidence",
    ),
    ("gain", lambda: decide(CHALLENGER, PRODUCTION, None, POLICY), "not compared"),
    (
        "all tests",
        lambda: decide(CHALLENGER.model_copy(update={"behaviour": ()}), None, None, Policy(ceilings={})),
        "no behavioural results",
    ),
    (
        "a test",
        lambda: decide(without(CHALLENGER, "typos_inv"), None, None, POLICY),
        "typos_inv has a ceiling",
    ),
    (
        "a test that production has",
        lambda: decide(without(CHALLENGER, "negation_mft"), PRODUCTION, CLEAR, POLICY),
        "Versions 2 and 1 were not both put to negation_mft.",
    ),
    (
        "a test that the challenger has",
        lambda: decide(CHALLENGER, without(PRODUCTION, "negation_mft"), CLEAR, POLICY),
        "Versions 2 and 1 were not both put to negation_mft.",
    ),
    (
        "the same rows",
        lambda: decide(CHALLENGER, with_scores(PRODUCTION, scored(0.6, rows=399)), CLEAR, POLICY),
        "not scored on the same rows: 400 with human labels against 399 with human ones.",
    ),
    (
        "the same labels",
        lambda: decide(CHALLENGER, with_scores(PRODUCTION, scored(0.6, "textblob")), CLEAR, POLICY),
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


# Mistakes that others made


def test_a_win_in_the_first_metric_does_not_outweigh_a_loss_in_the_others() -> None:
    """Lexicographic: (0.80, ...) > (0.65, ...), whatever comes after the first number."""
    mine = evidence("2", recall=0.8, negation_mft=0.9)
    theirs = evidence("1", recall=0.65, negation_mft=0.2)
    key = lambda found: (found.scores[0].macro_recall, *(-(r.failure_rate or 0) for r in found.behaviour))  # noqa: E731
    assert key(mine) > key(theirs)
    verdict = decide(mine, theirs, Gain(difference=0.15, low=0.1, high=0.2), POLICY)
    assert verdict.decision == "keep"
    assert verdict.reasons == ("negation_mft fails 90.0% of its cases, 70.0% more than version 1.",)


def test_the_two_models_are_not_mixed_up() -> None:
    """Inverted comparison: the worse model wins, for it fails more tests or has the lower recall."""
    better, worse = evidence("2", recall=0.8, rate=0.05), evidence("1", recall=0.6, rate=0.15)
    policy = Policy(maximum_loss=0.05)
    gain = Gain(difference=0.2, low=0.1, high=0.3)
    assert decide(better, worse, gain, policy).decision == "promote"
    assert decide(worse, better, Gain(difference=-0.2, low=-0.3, high=-0.1), policy).decision == "keep"
    assert decide(worse, better, gain, policy).decision == "keep", "a loss in tests counts on its own"


def test_production_without_evidence_is_not_replaced() -> None:
    """Promote on exception: what could not be measured counts as beaten."""
    nothing = Evidence(version="1", scores=(), behaviour=())
    for gain in (None, CLEAR):
        verdict = decide(evidence(recall=0.99, rate=0), nothing, gain, POLICY)
        assert verdict.decision == "keep"
        assert "version 1 was not tested" in verdict.reasons[0]
