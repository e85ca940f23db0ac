"""Shares: parts of the rows to train on, and what fits of them say together."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.labelling import LABELS
from tasks.outcome import Outcome
from tasks.rows import Labelled, RowsError


class Point(BaseModel):
    """What a fit of a learning curve learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(description="Of the rows to train on, above 0, up to 1.")
    seed: int = Field(description="Of which rows these are, of the weights to start from and of the order.")


class Fit(Outcome):
    """A fit of a learning curve that has ended."""

    point: Point = Field(description="What it learned from.")
    rows: int = Field(description="How many rows that is.")


class Spread(BaseModel):
    """A number over several seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = Field(description="Mean.")
    deviation: float | None = Field(description="Standard deviation of the sample (n-1); null of one seed.")

    def __str__(self) -> str:
        """Return mean ± standard deviation."""
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


class Level(BaseModel):
    """What the complete fits of a share say together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(description="Of the rows to train on.")
    rows: int = Field(description="How many rows that is.")
    seeds: int = Field(description="Fits that were completed.")
    macro_recall: Spread = Field(description="On the validation rows.")
    loss: Spread = Field(description="On the validation rows, of the epoch that is kept.")
    cpu_seconds: Spread = Field(description="Time of processors that a fit took.")


def part(chosen: Labelled, share: float, seed: int) -> Labelled:
    """Return the rows with only a random share of those to train on; of one seed, larger shares hold smaller.

    Args:
        chosen: See `tasks.rows.labelled_rows`.
        share: Above 0; 1 leaves the rows as they are.
        seed: Of the order in which rows come in as the share grows.
    """
    order = _order(len(chosen.train), seed)
    return chosen._replace(train=chosen.train.take(np.sort(order[: _count(share, len(order))])))


def check(targets: NDArray[np.int8], shares: Sequence[float], seeds: Sequence[int]) -> None:
    """Make sure that each part has a row of each class that there is to learn.

    Args:
        targets: int8 (n,), of the rows to train on.
        shares: See `part`.
        seeds: See `part`.

    Raises:
        RowsError: One has not.
    """
    lacking: list[str] = []
    enough = 0
    for seed in seeds:
        order = _order(len(targets), seed)
        classes, first = np.unique(targets[order], return_index=True)
        enough = max(enough, int(first.max()) + 1)
        for share in shares:
            rows = _count(share, len(order))
            if none := " or ".join(LABELS[label] for label in classes[first >= rows]):
                lacking.append(f"of the {rows:,} of share {share:g} with seed {seed}, none is {none}")
    if lacking:
        total = len(targets)
        raise RowsError(
            f"A network is to learn every class from {total:,} rows, but {lacking[0]}: give --shares from "
            f"{math.ceil(1000 * enough / total) / 1000:g} on, or load more rows with `python -m flows.etl`."
        )


def levels(fits: Sequence[Fit]) -> tuple[Level, ...]:
    """Return what fits say together, by rising share; a share of which none was completed is left out."""
    complete: dict[float, list[Fit]] = {}
    for fit in fits:
        if fit.state == "complete":
            complete.setdefault(fit.point.share, []).append(fit)
    return tuple(
        Level(
            share=share,
            rows=found[0].rows,
            seeds=len(found),
            macro_recall=spread([fit.macro_recall for fit in found if fit.macro_recall is not None]),
            loss=spread([fit.loss for fit in found if fit.loss is not None]),
            cpu_seconds=spread([fit.cpu_seconds for fit in found]),
        )
        for share, found in sorted(complete.items())
    )


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of one number at least."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation)


def _order(rows: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of the rows to train on, in the order in which they come in."""
    return np.random.default_rng(seed).permutation(rows)


def _count(share: float, rows: int) -> int:
    return max(1, round(share * rows))
