"""Two processes that promote at once, each against the same version in production."""

import multiprocessing
from collections.abc import Sequence
from typing import Any

from blocks.tracking import Tracking
from tasks import registry
from tasks.gate import Verdict
from tasks.registry import RegistryError


def race(trackings: Sequence[Tracking]) -> list[tuple[str, str]]:
    """Let the versions 2 and 3 of each model take the place of version 1 at once, and tell how it went.

    Both have seen that version 1 is in production before either writes that it no longer is. Returns of each
    model "won" or the error, for version 2 and for version 3.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    with context.Pool(2, _prepare, (barrier,)) as pool:
        both = [pool.apply_async(_promote, (list(trackings), version)) for version in ("2", "3")]
        mine, theirs = (outcomes.get(120) for outcomes in both)
    return list(zip(mine, theirs, strict=True))


def _prepare(barrier: Any) -> None:
    append = registry._append

    def at_once(*arguments: Any) -> int:
        barrier.wait(60)
        return append(*arguments)

    registry._append = at_once  # type: ignore[assignment]


def _promote(trackings: list[Tracking], version: str) -> list[str]:
    outcomes = []
    for tracking in trackings:
        verdict = Verdict(decision="promote", challenger=version, production="1", reasons=("Better.",))
        try:
            registry.apply(tracking, verdict, {registry.RUN: f"run-{version}"})
            outcomes.append("won")
        except RegistryError as error:
            outcomes.append(str(error))
            registry.settle(tracking)  # as the next run would, while the winner may not have done so itself
    return outcomes
