"""Comparison: what one model does better or worse than another on the same rows and cases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.behaviour import Interval, Outcome

RESAMPLES = 10_000
DRAWS_AT_ONCE = 4_000_000


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gain(_Record):
    """Difference of two models' macro recall on the same rows, with its uncertainty."""

    difference: float = Field(description="Challenger minus production.")
    low: float = Field(
        description="Quantile of the difference over resamples of the rows, at the policy's significance."
    )
    high: float = Field(description="Quantile at 1 less the significance.")


class Capability(_Record):
    """How challenger and production do in all cases of a capability, paired case by case."""

    name: str = Field(description="Capability, see `tasks.capabilities`.")
    tests: tuple[str, ...] = Field(description="Its tests that have cases.")
    cases: int = Field(description="Cases of these tests.")
    challenger_failed: int = Field(description="Cases that the challenger fails.")
    production_failed: int | None = Field(description="Cases that production fails; null without one.")
    lost: int | None = Field(description="Cases that the challenger alone fails; null without production.")
    won: int | None = Field(description="Cases that production alone fails; null without one.")
    loss: float | None = Field(
        description="(lost - won) / cases: how much more often the challenger fails, below 0 if less often; "
        "null without production or cases."
    )
    interval: Interval | None = Field(
        description="95% interval of the loss, exact given the cases on which the two differ; null as loss."
    )
    p_value: float | None = Field(
        description="Chance that equal models differ so much to the challenger's disadvantage: exact "
        "one-sided McNemar test; null as loss."
    )
    corrected_p_value: float | None = Field(
        description="The same, corrected for the number of capabilities (Holm); null as loss."
    )


def compare(
    targets: NDArray[np.int8],
    challenger: NDArray[np.int_],
    production: NDArray[np.int_],
    significance: float = 0.05,
    seed: int = 0,
) -> Gain:
    """Return how much macro recall the challenger gains, by a paired bootstrap within the classes.

    The bootstrap resamples rows, so it tests the very metric that decides, and it keeps the pairing: rows
    that both models get right or wrong say nothing about which is better.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 8.

    Args:
        targets: int8 (n,).
        challenger: Predicted labels (n,).
        production: Predicted labels (n,) on the same rows.
        significance: Chance that the difference is below `low`, and that it is above `high`.
        seed: Of the resampling.
    """
    differences, resampled = [], []
    for label in np.unique(targets):
        rows = targets == label
        won = int(np.sum((challenger == label)[rows] & (production != label)[rows]))
        lost = int(np.sum((challenger != label)[rows] & (production == label)[rows]))
        total = int(rows.sum())
        differences.append((won - lost) / total)
        resampled.append(_resample(won, lost, total, (seed, int(label))) / total)
    means = np.mean(resampled, axis=0)
    low, high = np.quantile(means, [significance, 1 - significance], method="inverted_cdf")
    return Gain(difference=float(np.mean(differences)), low=float(low), high=float(high))


def _resample(won: int, lost: int, total: int, seed: tuple[int, int]) -> NDArray[np.int_]:
    """Return rows won less rows lost in each resample of a class, int (RESAMPLES,).

    The rows stand in the order won, even, lost, and what is drawn depends on their number alone. So a model
    that is worse on one row is worse or equal in every resample: it never gains by the luck of the draw.
    """
    if won == lost == 0:
        return np.zeros(RESAMPLES, np.int_)
    random = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // total)
    parts = []
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start), total
        drawn = random.integers(total, size=size, dtype=np.int32)
        gained = np.count_nonzero(drawn < won, axis=1) - np.count_nonzero(drawn >= total - lost, axis=1)
        parts.append(gained)
    return np.concatenate(parts)


def compare_capabilities(
    challenger: Sequence[Outcome], production: Sequence[Outcome] | None
) -> tuple[Capability, ...]:
    """Return how the two do in all cases of each capability, in the order of the suite.

    McNemar's test looks at the cases on which the two differ: were they equally able, each would be lost or
    won by the toss of a coin. It is one-sided, for only a loss matters, and exact, for there may be few.
    Sources: McNemar, Psychometrika 12 (1947); Holm, Scandinavian Journal of Statistics 6 (1979).

    Args:
        challenger: Its outcome of each test.
        production: That of the version in production, of the same suite; None if there is none.

    Raises:
        ValueError: The two were put to other tests or cases.
    """
    pairs = list(zip(challenger, production or challenger, strict=True))
    if any(a.result.name != b.result.name or a.failed.shape != b.failed.shape for a, b in pairs):
        raise ValueError("The two models were put to other behavioural cases: evaluate both on one suite.")
    compared = []
    for name in dict.fromkeys(outcome.result.capability for outcome in challenger):
        own = [(a, b) for a, b in pairs if a.result.capability == name]
        mine = np.concatenate([a.failed for a, _ in own])
        theirs = np.concatenate([b.failed for _, b in own]) if production is not None else None
        tests = tuple(a.result.name for a, _ in own if len(a.failed))
        compared.append(_capability(name, tests, mine, theirs))
    tested = [i for i, capability in enumerate(compared) if capability.p_value is not None]
    corrected = holm([compared[i].p_value or 0.0 for i in tested])
    for i, p_value in zip(tested, corrected, strict=True):
        compared[i] = compared[i].model_copy(update={"corrected_p_value": p_value})
    return tuple(compared)


def _capability(
    name: str, tests: tuple[str, ...], mine: NDArray[np.bool_], theirs: NDArray[np.bool_] | None
) -> Capability:
    from scipy.stats import binomtest  # most of a second

    alone: dict[str, Any] = {"name": name, "tests": tests, "cases": len(mine), "corrected_p_value": None}
    alone["challenger_failed"] = int(mine.sum())
    if theirs is None or not len(mine):
        unknown = ("production_failed", "lost", "won", "loss", "interval", "p_value")
        return Capability(**alone, **dict.fromkeys(unknown))
    lost, won = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    p_value, interval = 1.0, Interval(low=0, high=0)
    if lost + won:
        test = binomtest(lost, lost + won, alternative="greater")
        share = binomtest(lost, lost + won).proportion_ci(0.95, "exact")
        low, high = ((2 * end - 1) * (lost + won) / len(mine) for end in (share.low, share.high))
        p_value, interval = float(test.pvalue), Interval(low=float(low), high=float(high))
    return Capability(
        **alone,
        production_failed=int(theirs.sum()),
        lost=lost,
        won=won,
        loss=(lost - won) / len(mine),
        interval=interval,
        p_value=p_value,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number: whichever is under 0.05, all together err in 5 %.

    No corrected value rises when a p-value falls.
    """
    values = np.array(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    steps = np.arange(len(values), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(1, steps * values[order]))
    return [float(value) for value in corrected]
