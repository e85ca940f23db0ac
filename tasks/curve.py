"""The steps of the flow `curve`: fits of shares of the rows, and what they say together."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

import tasks.outcome as outcome
import tasks.shares as shares
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from tasks import evaluation, figures, material, report, rows, series, train
from tasks.parameters import narrow
from tasks.series import Series, SeriesError
from tasks.shares import Fit, Level, Point
from tasks.step import step
from tasks.training import FitParameters, TrainParameters

RESULT = "curve.json"

N = TypeVar("N", int, float)


def _rising(numbers: tuple[N, ...]) -> tuple[N, ...]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("each is to be given once")
    return tuple(sorted(numbers))


class CurveParameters(FitParameters):
    """Fit shares of the rows to see how much more rows, or another seed, would change."""

    shares: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(_rising)
    ] = Field(default=(0.05, 0.1, 0.25, 0.5, 1.0), description="Of the rows to train on: above 0, up to 1.")
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_rising)
    ] = Field(default=(1, 2, 3), description="Each share is fitted with each of them.")
    parallel: int = Field(default=1, gt=0, description="Fits at a time, each in a process of its own.")

    def points(self) -> tuple[Point, ...]:
        """Return what is to be fitted, seed by seed: after the first, there is a curve to look at."""
        return tuple(Point(share=share, seed=seed) for seed in self.seeds for share in self.shares)


class CurveResult(BaseModel):
    """A learning curve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[Level, ...] = Field(description="The curve, by rising share.")
    fits: tuple[Fit, ...] = Field(description="What it is made of, those that failed included.")
    run_id: str = Field(description="Run of the curve in MLflow.")


@step
def identify(parameters: CurveParameters, warehouse: Warehouse) -> str:
    """Return the fingerprint of what the fits of a curve have in common: rows, recipe, code, packages.

    Raises:
        RowsError: The rows cannot be trained on, or a share of them lacks a class.
    """
    chosen = rows.read_labelled(warehouse, parameters.labels)
    shares.check(chosen.train.targets, parameters.shares, parameters.seeds)
    return _identity(narrow(FitParameters, parameters), chosen)


def _identity(recipe: FitParameters, chosen: rows.Labelled) -> str:
    return material.identity(recipe, chosen, evaluation, outcome, shares)


@step
def resume(identity: str, recipe: FitParameters, tracking: Tracking, flow_run: str) -> Series[Fit]:
    """Open the run of this curve, made if need be, with the fits that have ended; others are closed."""
    return series.open_series("curve", identity, recipe, Fit, tracking, flow_run)


@step
def attempt(identity: str, recipe: FitParameters, point: Point, warehouse: Warehouse) -> Fit:
    """Fit a network to a share of the rows and return how it went.

    Raises:
        TrainingError: There is no GPU although one is required.
        RowsError: The rows are not those of the curve any more.
    """
    whole_rows = series.begin_work(recipe, warehouse)
    rows.require_same(identity, _identity(recipe, whole_rows))
    chosen = shares.part(whole_rows, point.share, point.seed)
    whole = narrow(TrainParameters, recipe).model_copy(update={"seed": point.seed})
    return Fit(point=point, rows=len(chosen.train), **dict(outcome.learn(whole, chosen)))


@step
def conclude(curve: Series[Fit], fits: Sequence[Fit], tracking: Tracking) -> CurveResult:
    """Return a curve, logged in its run with figure and table.

    Raises:
        SeriesError: No fit was completed.
    """
    from mlflow.entities import Metric

    found = shares.levels(fits)
    if not found:
        raise SeriesError(
            f"None of the {len(fits)} fits was completed; of the last one: {fits[-1].reason}. Lower "
            "--learning-rate, or --parallel and --batch-size if memory did not suffice."
        )
    order = sorted(fits, key=lambda fit: (fit.point.share, fit.point.seed))
    result = CurveResult(levels=found, fits=tuple(order), run_id=curve.run_id)
    now = train.now()
    points = [
        Metric(f"{name}_{kind}", value, now, level.rows)  # MLflow then draws it over the rows
        for level in found
        for name, spread in (("macro_recall", level.macro_recall), ("best_val_loss", level.loss))
        for kind, value in (("mean", spread.mean), ("sd", spread.deviation))
        if value is not None
    ]
    with tracking.opened() as client:
        client.log_batch(curve.run_id, metrics=points)
        client.log_figure(curve.run_id, figures.curve(result.levels, result.fits), "curve.png")
        client.log_text(curve.run_id, report.curve(result), "curve.md")
        client.log_dict(curve.run_id, result.model_dump(), RESULT)
        client.set_terminated(curve.run_id, "FINISHED")
    return result
