"""Comparison: what one model does better or worse than another on the same rows and cases."""

from collections.abc import Sequence

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
