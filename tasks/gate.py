"""The gate: evidence in, verdict out, and nothing else that could decide what goes to production."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import BehaviourResult
from tasks.comparison import Capability, Gain
from tasks.evaluation import Scores
from tasks.slices import Slice


class Policy(BaseModel):
    """What a model must show before it serves; the defaults and their reasons stand in tasks/policy.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_rows: int = Field(gt=0, description="Test rows that a score needs to count.")
    minimum_cases: int = Field(gt=0, description="Cases that a capability, or a test with a ceiling, needs.")
    capabilities: tuple[str, ...] = Field(description="Capabilities without which nobody is promoted.")
    minimum_macro_recall: float = Field(
        ge=0, le=1, description="Macro recall under this never goes to production."
    )
    ceilings: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        description="Behavioural tests that, failed more often than this, keep a model out."
    )
    minimum_gain: float = Field(
        ge=0, le=1, description="Macro recall that a challenger must gain over production."
    )
    maximum_loss: float = Field(
        ge=0, le=1, description="Share of a capability's cases that a challenger may lose to production."
    )
    significance: float = Field(
        gt=0, lt=0.5, description="Chance of error of the tests of gain and loss, each one-sided."
    )


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


def decide(challenger: Evidence, production: Evidence | None, gain: Gain | None, policy: Policy) -> Verdict:
    """Return the verdict: the challenger is promoted only if nothing speaks against it.

    Args:
        challenger: Evidence of the newest version.
        production: Evidence of the serving version on the same rows and cases; None if there is none.
        gain: Paired difference of the two on the rows that decide; None without production.
        policy: The floors and margins.
    """
    against = _gaps(challenger, production, gain, policy) or (
        _floors(challenger, policy)
        + (_comparison(challenger, production, gain, policy) if production else [])
    )
    return Verdict(
        decision="keep" if against else "promote",
        challenger=challenger.version,
        production=production.version if production else None,
        reasons=tuple(against or _merits(challenger, production, gain, policy)),
    )


def _gaps(challenger: Evidence, production: Evidence | None, gain: Gain | None, policy: Policy) -> list[str]:
    """Return what is missing or broken in the evidence: without it nobody is promoted."""
    gaps = []
    for evidence in (challenger, production):
        if evidence is None:
            continue
        if evidence.judged_by(policy) is None:
            gaps.append(
                f"Too little evidence: version {evidence.version} was not tested on {policy.minimum_rows} "
                "labelled rows or more."
            )
        for scores in evidence.scores:
            numbers = scores.macro_recall, scores.macro_f1, scores.accuracy, scores.log_loss
            if not all(map(math.isfinite, numbers)):
                gaps.append(
                    f"The scores of version {evidence.version} on {scores.labels} labels are not numbers."
                )
        if not evidence.behaviour:
            gaps.append(f"Version {evidence.version} has no behavioural results.")
        for result in evidence.behaviour:
            if result.failure_rate is None or not math.isfinite(result.failure_rate):
                gaps.append(
                    f"{result.name} could not be run on version {evidence.version}: {result.perturbed} of "
                    f"the {result.rows} rows offered could be used. Load more, and more varied, rows."
                )
    for name in sorted(policy.ceilings.keys() - {result.name for result in challenger.behaviour}):
        gaps.append(f"{name} has a ceiling, but version {challenger.version} was not put to it.")
    if production is not None and not gaps:
        both = f"Versions {challenger.version} and {production.version}"
        if gain is None or not all(map(math.isfinite, (gain.difference, gain.low, gain.high))):
            gaps.append(f"{both} were not compared on the same rows.")
        mine, theirs = ({result.name for result in found.behaviour} for found in (challenger, production))
        if mine != theirs:
            gaps.append(f"{both} were not both put to {', '.join(sorted(mine ^ theirs))}.")
        rows, others = challenger.judged_by(policy), production.judged_by(policy)
        assert rows is not None
        assert others is not None
        if (rows.labels, rows.rows) != (others.labels, others.rows):
            gaps.append(
                f"{both} were not scored on the same rows: {rows.rows} with {rows.labels} labels against "
                f"{others.rows} with {others.labels} ones."
            )
    return gaps


def _floors(challenger: Evidence, policy: Policy) -> list[str]:
    scores = challenger.judged_by(policy)
    assert scores is not None
    below = []
    if scores.macro_recall < policy.minimum_macro_recall:
        below.append(
            f"Macro recall {scores.macro_recall:.3f} on {scores.rows} rows with {scores.labels} labels is "
            f"under the floor of {policy.minimum_macro_recall:.3f}."
        )
    for result in challenger.behaviour:
        ceiling = policy.ceilings.get(result.name, 1.0)
        if (rate := _rate(result)) > ceiling:
            below.append(f"{result.name} fails {rate:.1%} of its cases, more than {ceiling:.0%}.")
    return below


def _comparison(challenger: Evidence, production: Evidence, gain: Gain | None, policy: Policy) -> list[str]:
    assert gain is not None
    against = []
    if gain.difference < policy.minimum_gain or gain.low <= 0:
        against.append(
            f"Macro recall changes by {_change(gain)} against version {production.version}; it takes "
            f"{policy.minimum_gain:+.3f} and an interval above 0."
        )
    before = {result.name: _rate(result) for result in production.behaviour}
    for result in challenger.behaviour:
        if (rate := _rate(result)) > before[result.name] + policy.maximum_loss:
            against.append(
                f"{result.name} fails {rate:.1%} of its cases, {rate - before[result.name]:.1%} more than "
                f"version {production.version}."
            )
    return against


def _merits(
    challenger: Evidence, production: Evidence | None, gain: Gain | None, policy: Policy
) -> list[str]:
    scores = challenger.judged_by(policy)
    assert scores is not None
    limited = [result for result in challenger.behaviour if result.name in policy.ceilings]
    kept = ", ".join(f"{result.name} {_rate(result):.1%}" for result in limited) or "none has one"
    merits = [
        f"Macro recall {scores.macro_recall:.3f} on {scores.rows} rows with {scores.labels} labels clears "
        f"the floor of {policy.minimum_macro_recall:.3f}.",
        f"The behavioural tests with a ceiling stay under it: {kept}.",
    ]
    if production is None:
        return [*merits, "No version is in production yet."]
    assert gain is not None
    return [
        *merits,
        f"Macro recall gains {_change(gain)} over version {production.version}, and no behavioural test "
        f"loses more than {policy.maximum_loss:.0%}.",
    ]


def _rate(result: BehaviourResult) -> float:
    assert result.failure_rate is not None
    return result.failure_rate


def _change(gain: Gain) -> str:
    return f"{gain.difference:+.3f} (90% interval {gain.low:+.3f} to {gain.high:+.3f})"
