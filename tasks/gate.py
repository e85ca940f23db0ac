"""The gate: evidence in, verdict out, and nothing else that could decide what goes to production."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import BehaviourResult
from tasks.comparison import Capability, Gain
from tasks.evaluation import Scores
from tasks.policy import Policy
from tasks.slices import Slice


class Evidence(BaseModel):
    """What is known of one model version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="Version in the model registry.")
    scores: tuple[Scores, ...] = Field(description="Scores on held-out rows, one for each kind of labels.")
    slices: tuple[Slice, ...] = Field(description="Macro recall on parts of these rows.")
    behaviour: tuple[BehaviourResult, ...] = Field(description="Results of the behavioural tests.")

    def judged_by(self, policy: Policy) -> Scores | None:
        """Return the scores that decide: on human labels where there are enough, else on weak ones."""
        by_kind = {scores.labels: scores for scores in self.scores if scores.rows >= policy.minimum_rows}
        return by_kind.get("human") or by_kind.get("textblob")


class Verdict(BaseModel):
    """Which version should serve, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["promote", "keep"] = Field(description="What becomes of the challenger.")
    challenger: str = Field(description="Version that asks for production.")
    production: str | None = Field(description="Version that serves now, if any.")
    reasons: tuple[str, ...] = Field(description="Why, in words.")

    def headline(self) -> str:
        """Return the verdict in a few words."""
        if self.decision == "promote":
            return f"Version {self.challenger} goes to production"
        if self.production == self.challenger:
            return f"Version {self.production} stays in production"
        stays = f"version {self.production} stays" if self.production else "nothing is in production"
        return f"Version {self.challenger} is archived, {stays}"


def decide(
    challenger: Evidence,
    production: Evidence | None,
    gain: Gain | None,
    capabilities: Sequence[Capability],
    tests: Sequence[Capability],
    policy: Policy,
) -> Verdict:
    """Return the verdict: the challenger is promoted only if nothing speaks against it.

    Args:
        challenger: Evidence of the newest version.
        production: Evidence of the serving version on the same rows and cases; None if there is none.
        gain: Paired difference of the two on the rows that decide; None without production.
        capabilities: The behavioural cases by capability, the two paired if there are two.
        tests: The same by test.
        policy: The floors and margins.
    """
    against = _gaps(challenger, production, gain, capabilities, tests, policy)
    if not against:
        against = list(_floors(challenger, policy))
        if production is not None:
            against += _losses(production, gain, capabilities, tests, policy)
    return Verdict(
        decision="keep" if against else "promote",
        challenger=challenger.version,
        production=production.version if production else None,
        reasons=tuple(against or _merits(challenger, production, gain, capabilities, policy)),
    )


def _gaps(
    challenger: Evidence,
    production: Evidence | None,
    gain: Gain | None,
    capabilities: Sequence[Capability],
    tests: Sequence[Capability],
    policy: Policy,
) -> list[str]:
    """Return what is missing or broken in the evidence: without it nobody is promoted."""
    gaps = [*_score_gaps(challenger, policy), *_behaviour_gaps(challenger, policy)]
    if production is not None:
        gaps += [*_score_gaps(production, policy), *_behaviour_gaps(production, policy)]
    gaps += _capability_gaps(challenger, production, capabilities, tests, policy)
    if production is None:
        return gaps
    both = f"Versions {challenger.version} and {production.version}"
    if gain is None or not _finite(gain.difference, gain.low, gain.high):
        gaps.append(f"{both} were not compared on the same rows.")
    mine, theirs = ({(r.name, r.perturbed) for r in found.behaviour} for found in (challenger, production))
    if mine != theirs:
        names = sorted({name for name, _ in mine ^ theirs})
        gaps.append(f"{both} were not both put to the same cases of {', '.join(names)}.")
    rows, others = challenger.judged_by(policy), production.judged_by(policy)
    if rows and others and (rows.labels, rows.rows) != (others.labels, others.rows):
        gaps.append(
            f"{both} were not scored on the same rows: {rows.rows} with {rows.labels} labels against "
            f"{others.rows} with {others.labels} ones."
        )
    return gaps


def _score_gaps(evidence: Evidence, policy: Policy) -> Iterator[str]:
    decisive = evidence.judged_by(policy)
    if decisive is None:
        yield (
            f"Too little evidence: version {evidence.version} was not tested on {policy.minimum_rows} "
            "labelled rows or more."
        )
    elif len(decisive.classes) < 2:
        yield (
            f"Too little evidence: all {decisive.rows} rows that version {evidence.version} was tested on "
            f"have the same {decisive.labels} label."
        )
    else:
        for one in decisive.classes:
            if one.rows < policy.minimum_class_rows:
                yield (
                    f"Too little evidence: version {evidence.version} was tested on {one.rows} rows whose "
                    f"{decisive.labels} label is {one.label}, and it takes {policy.minimum_class_rows}."
                )
    for scores in evidence.scores:
        numbers = scores.macro_recall, scores.macro_f1, scores.accuracy
        if not _finite(*numbers, scores.log_loss, scores.calibration_error):
            yield f"The scores of version {evidence.version} on {scores.labels} labels are not numbers."


def _behaviour_gaps(evidence: Evidence, policy: Policy) -> Iterator[str]:
    if not evidence.behaviour:
        yield f"Version {evidence.version} has no behavioural results."
    results = {result.name: result for result in evidence.behaviour}
    for result in evidence.behaviour:
        if result.perturbed and not _finite(result.failure_rate):
            yield f"The result of {result.name} for version {evidence.version} is not a number."
    for name in policy.ceilings:
        if name not in results:
            yield f"{name} has a ceiling, but version {evidence.version} was not put to it."
        elif results[name].perturbed < policy.minimum_cases:
            yield (
                f"{name} could not be run on version {evidence.version}: {results[name].perturbed} of the "
                f"{results[name].rows} rows offered could be used, and it takes {policy.minimum_cases}. Load "
                "more, and more varied, rows."
            )


def _capability_gaps(
    challenger: Evidence,
    production: Evidence | None,
    capabilities: Sequence[Capability],
    tests: Sequence[Capability],
    policy: Policy,
) -> Iterator[str]:
    found = {capability.name: capability for capability in capabilities}
    for name in policy.capabilities:
        cases = found[name].cases if name in found else 0
        if cases < policy.minimum_cases:
            yield (
                f"Too little evidence: {name} was tested on {cases} cases, and it takes "
                f"{policy.minimum_cases}. Load more, and more varied, rows."
            )
    pooled = {test for capability in capabilities for test in capability.tests}
    alone = {(test.name, test.cases) for test in tests}
    for result in challenger.behaviour:
        if result.perturbed and (result.name not in pooled or (result.name, result.perturbed) not in alone):
            yield f"The cases of {result.name} are missing in the comparison."
    for capability in (*_counting(capabilities, policy), *_counting(tests, policy)):
        if production and not _finite(capability.loss, capability.corrected_p_value):
            yield (
                f"Versions {challenger.version} and {production.version} were not compared in "
                f"{capability.name}."
            )


def _floors(challenger: Evidence, policy: Policy) -> Iterator[str]:
    scores = challenger.judged_by(policy)
    assert scores is not None
    if scores.macro_recall < policy.minimum_macro_recall:
        yield (
            f"Macro recall {scores.macro_recall:.3f} on {scores.rows} rows with {scores.labels} labels is "
            f"under the floor of {policy.minimum_macro_recall:.3f}."
        )
    for result in challenger.behaviour:
        ceiling = policy.ceilings.get(result.name, 1.0)
        if (rate := result.failure_rate or 0.0) > ceiling:
            yield f"{result.name} fails {rate:.1%} of its cases, more than {ceiling:.0%}."


def _losses(
    production: Evidence,
    gain: Gain | None,
    capabilities: Sequence[Capability],
    tests: Sequence[Capability],
    policy: Policy,
) -> Iterator[str]:
    assert gain is not None
    if gain.difference < policy.minimum_gain or gain.low <= 0:
        yield (
            f"Macro recall changes by {_change(gain, policy)} against version {production.version}; it takes "
            f"{policy.minimum_gain:+.3f} and an interval above 0."
        )
    for compared, margin in ((capabilities, policy.maximum_loss), (tests, policy.maximum_test_loss)):
        for found in _counting(compared, policy):
            loss, p_value = _loss(found)
            if loss > margin and p_value <= policy.significance:
                yield f"{_told(found, production)}: more than {margin:.0%}, and more than chance explains."


def _merits(
    challenger: Evidence,
    production: Evidence | None,
    gain: Gain | None,
    capabilities: Sequence[Capability],
    policy: Policy,
) -> Iterator[str]:
    scores = challenger.judged_by(policy)
    assert scores is not None
    yield (
        f"Macro recall {scores.macro_recall:.3f} on {scores.rows} rows with {scores.labels} labels clears "
        f"the floor of {policy.minimum_macro_recall:.3f}."
    )
    limited = [result for result in challenger.behaviour if result.name in policy.ceilings]
    kept = ", ".join(f"{r.name} {r.failure_rate or 0:.1%}" for r in limited) or "none has one"
    yield f"The behavioural tests with a ceiling stay under it: {kept}."
    if production is None:
        yield "No version is in production yet."
        return
    assert gain is not None
    yield f"Macro recall gains {_change(gain, policy)} over version {production.version}."
    counting = _counting(capabilities, policy)
    if counting:
        worst = max(counting, key=lambda capability: _loss(capability)[0])
        yield f"No capability is lost beyond the margin; at worst, {_told(worst, production)}."
    for capability in capabilities:
        if capability not in counting:
            yield f"{capability.name} does not count: {capability.cases} cases, of {policy.minimum_cases}."


def _counting(capabilities: Sequence[Capability], policy: Policy) -> list[Capability]:
    return [capability for capability in capabilities if capability.cases >= policy.minimum_cases]


def _loss(capability: Capability) -> tuple[float, float]:
    assert capability.loss is not None
    assert capability.corrected_p_value is not None
    return capability.loss, capability.corrected_p_value


def _told(capability: Capability, production: Evidence) -> str:
    loss, p_value = _loss(capability)
    chance = "p < 0.001" if p_value < 0.001 else f"p {p_value:.3f}"
    return (
        f"{capability.name} fails {capability.challenger_failed} of {capability.cases} cases against "
        f"{capability.production_failed} of version {production.version}, {loss:+.1%} ({chance})"
    )


def _change(gain: Gain, policy: Policy) -> str:
    level = 1 - 2 * policy.significance
    return f"{gain.difference:+.3f} ({level:.0%} interval {gain.low:+.3f} to {gain.high:+.3f})"


def _finite(*numbers: float | None) -> bool:
    return all(number is not None and math.isfinite(number) for number in numbers)
