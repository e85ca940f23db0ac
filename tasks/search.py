"""The steps of the flow `search`: trials, and what they found."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

import tasks.outcome as outcome
import tasks.tuning as tuning
from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from tasks import evaluation, figures, material, rows, series, train, trained
from tasks.series import Series, SeriesError
from tasks.step import step
from tasks.strategy import StrategyName
from tasks.training import TrainParameters
from tasks.tuning import Choice, Judge, Trial

RESULT = "search.json"


class SearchParameters(TrainParameters):
    """Search near the recipe that the flags give for a better one, and print the command to train by it."""

    trials: int = Field(default=20, gt=0, description="Recipes to try, those of earlier runs included.")
    parallel: int = Field(default=1, gt=0, description="Trials at a time, each in a process of its own.")
    seconds: float | None = Field(
        default=None, gt=0, description="No trial is begun after this time, unless there is none yet."
    )

    @field_validator("strategy")
    @classmethod
    def _one_device(cls, strategy: StrategyName) -> StrategyName:
        if strategy in ("mirrored", "workers"):
            raise ValueError("a trial is fit on one device: leave --strategy out, and see --parallel")
        return strategy


class SearchResult(BaseModel):
    """What a search found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    best: Trial = Field(description="The complete trial with the highest macro recall.")
    recipe: TrainParameters = Field(description="The recipe of it.")
    command: str = Field(description="What trains by it.")
    trials: tuple[Trial, ...] = Field(description="All trials that have ended, by number.")
    run_id: str = Field(description="Run of the search in MLflow.")


@step
def identify(recipe: TrainParameters, warehouse: Warehouse) -> str:
    """Return the fingerprint of what a search depends on: rows, recipe, space, code, packages.

    Raises:
        RowsError: The rows cannot be trained on.
    """
    return _identity(recipe, rows.read_labelled(warehouse, recipe.labels))


def _identity(recipe: TrainParameters, chosen: rows.Labelled) -> str:
    modules = *material.TAUGHT, evaluation, outcome, tuning
    return material.identity(recipe, chosen, *modules, packages=("optuna",))


@step
def resume(identity: str, recipe: TrainParameters, tracking: Tracking, flow_run: str) -> Series[Trial]:
    """Open the run of this search, made if need be, with the trials that have ended; others are closed."""
    return series.open_series("search", identity, recipe, Trial, tracking, flow_run)


@step
def attempt(
    identity: str,
    recipe: TrainParameters,
    number: int,
    choice: Choice,
    past: Sequence[Trial],
    warehouse: Warehouse,
    lesson: str | None,
    lake: Lake,
) -> Trial:
    """Fit a network by a choice, cut short if that leads nowhere, and return how it went.

    Args:
        identity: Of the search.
        recipe: What is not tuned.
        number: Of the trial.
        choice: What is.
        past: Trials that had ended when this one began: those that it is compared with.
        warehouse: Where the rows are.
        lesson: Of the teacher, see `tasks.train.teach`.
        lake: Where the lesson is.

    Raises:
        TrainingError: There is no GPU although one is required.
        RowsError: The rows are not those of the search any more.
    """
    chosen = series.begin_work(recipe, warehouse)
    rows.require_same(identity, _identity(recipe, chosen))
    tried = recipe.model_copy(update=choice.model_dump())
    said = trained.read_lesson(lake, lesson) if lesson else None
    found = outcome.learn(tried, chosen, Judge(recipe, choice, past).prunes, said)
    return Trial(number=number, choice=choice, **dict(found))


@step
def conclude(
    search: Series[Trial], recipe: TrainParameters, trials: Sequence[Trial], tracking: Tracking
) -> SearchResult:
    """Return what a search found, logged in its run with figures.

    Raises:
        SeriesError: No trial was completed.
    """
    from mlflow.entities import Metric

    best = tuning.best(trials)
    if best is None:
        raise SeriesError(
            f"None of the {len(trials)} trials was completed; of the last one: {trials[-1].reason}. Start "
            f"from a lower --learning-rate (now {recipe.learning_rate:g}) or another --batch-size."
        )
    better = recipe.model_copy(update=best.choice.model_dump())
    result = SearchResult(
        best=best,
        recipe=better,
        command=tuning.command(better),
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        run_id=search.run_id,
    )
    assert best.macro_recall is not None
    with tracking.opened() as client:
        run, now = search.run_id, train.now()
        client.log_batch(run, metrics=[Metric("best_macro_recall", best.macro_recall, now, len(trials))])
        for name, figure in figures.search(tuning.study(recipe, trials)).items():
            client.log_figure(run, figure, f"{name}.png")
        client.log_dict(run, result.model_dump(), RESULT)
        client.set_terminated(run, "FINISHED")
    return result
