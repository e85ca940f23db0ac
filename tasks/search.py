"""The steps of the flow `search`: runs of MLflow, trials, and what they found."""

import multiprocessing
import os
from collections.abc import Sequence
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

import tasks.dataset as dataset
import tasks.network as network
import tasks.tokens as tokens
import tasks.training as training
import tasks.tuning as tuning
from blocks.tracking import Tracking, one_attempt
from blocks.warehouse import Warehouse
from tasks import figures, registry, rows, train
from tasks.evaluation import evaluate
from tasks.fingerprint import fingerprint
from tasks.parameters import narrow
from tasks.progress import logger
from tasks.step import step
from tasks.training import State, TrainingError, TrainParameters
from tasks.tuning import Choice, Judge, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEARCH = "search"
"""Tag of the run of a search: its fingerprint. The runs of its trials bear that as `fingerprint`."""
PARENT = "mlflow.parentRunId"
NUMBER = "trial"
RECORD = "trial.json"
RESULT = "search.json"
PACKAGES = ("tensorflow", "keras", "tokenizers", "optuna")


class SearchError(RuntimeError):
    """Raised when a search finds nothing; says why and what to do."""


class SearchParameters(TrainParameters):
    """Search near the recipe that the flags give for a better one, and print the command to train by it."""

    trials: int = Field(default=20, gt=0, description="Recipes to try, those of earlier runs included.")
    parallel: int = Field(default=1, gt=0, description="Trials at a time, each in a process of its own.")
    seconds: float | None = Field(default=None, gt=0, description="No trial is begun after this time.")


class SearchResult(BaseModel):
    """What a search found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    best: Trial = Field(description="The complete trial with the highest macro recall.")
    recipe: TrainParameters = Field(description="The recipe of it.")
    command: str = Field(description="What trains by it.")
    trials: tuple[Trial, ...] = Field(description="All trials that have ended, by number.")
    run_id: str = Field(description="Run of the search in MLflow.")


class Search(BaseModel):
    """A search that goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str = Field(description="Fingerprint of rows, recipe, space and code.")
    recipe: TrainParameters = Field(description="That it starts from.")
    experiment: str = Field(description="Id of the experiment in MLflow.")
    run_id: str = Field(description="Run of the search in MLflow.")
    trials: tuple[Trial, ...] = Field(description="Trials that had ended before, by number.")


@step
def identify(parameters: SearchParameters, warehouse: Warehouse) -> str:
    """Return the fingerprint of what a search depends on: rows, recipe, space, code, packages.

    Raises:
        RowsError: The rows cannot be trained on.
    """
    chosen = rows.labelled_rows(rows.read_rows(warehouse, "train", "validation"), parameters.labels)
    recipe = narrow(TrainParameters, parameters).model_copy(update={"require_gpu": False})
    modules = dataset, network, tokens, training, tuning
    return fingerprint(rows.digest(chosen), recipe, *modules, packages=PACKAGES)


@step
def resume(identity: str, parameters: SearchParameters, tracking: Tracking, flow_run: str) -> Search:
    """Open the run of this search, made if need be, with the trials that have ended; others are closed."""
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    recipe = narrow(TrainParameters, parameters)
    with tracking.connected() as experiment:
        client = tracking.client()
        registry.close_orphans(tracking, experiment, identity)
        found = client.search_runs([experiment], f"tags.{SEARCH} = '{identity}'", max_results=1)
        if found:
            run = str(found[0].info.run_id)
            client.update_run(run, status="RUNNING")
        else:
            tags = resolve_tags({SEARCH: identity, "prefect.flow_run": flow_run})
            name = f"search-{recipe.network}-{recipe.labels}"
            with one_attempt():  # a second one would make a second run; the next try looks for the first
                run = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        client.log_batch(run, params=[Param(name, str(value)) for name, value in recipe])
        trials = _ended(client, tracking, experiment, run)
    if trials:
        logger().info("A search like this has ended %s trials before: it goes on.", len(trials))
    return Search(identity=identity, recipe=recipe, experiment=experiment, run_id=run, trials=trials)


def _ended(client: "MlflowClient", tracking: Tracking, experiment: str, parent: str) -> tuple[Trial, ...]:
    """Return the trials below a run that have ended, by number."""
    from mlflow.entities import Run

    runs: list[Run] = []
    page = None
    while page is None or page.token:
        token = page.token if page else None
        page = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'", page_token=token)
        runs += page
    trials = [
        Trial.model_validate(registry.load_result(tracking, run.info.run_id, RECORD))
        for run in runs
        if run.info.status in ("FINISHED", "FAILED")
    ]
    # Two searches that ran side by side may both have tried a number.
    return tuple({trial.number: trial for trial in sorted(trials, key=lambda trial: trial.number)}.values())


@step
def begin(search: Search, number: int, choice: Choice, tracking: Tracking) -> str:
    """Make the run of a trial and return its id."""
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    tags = {PARENT: search.run_id, registry.FINGERPRINT: search.identity, NUMBER: str(number)}
    with tracking.connected(), one_attempt():  # one whose answer is lost is closed by the next search
        client = tracking.client()
        made = client.create_run(search.experiment, tags=resolve_tags(tags), run_name=f"trial-{number}")
        run = str(made.info.run_id)
        client.log_batch(run, params=[Param(name, str(value)) for name, value in choice])
    return run


def end_with_parent() -> None:
    """End this process with the one that started it: were that killed, it would wait for ever for work."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@step
def attempt(
    recipe: TrainParameters, number: int, choice: Choice, past: Sequence[Trial], warehouse: Warehouse
) -> Trial:
    """Fit a network by a choice, cut short if that leads nowhere, and return how it went.

    Raises:
        TrainingError: There is no GPU although one is required.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # trials side by side share the GPU
    training.prepare_device(recipe.require_gpu)
    chosen = rows.labelled_rows(rows.read_rows(warehouse, "train", "validation"), recipe.labels)
    return try_out(recipe, number, choice, past, chosen)


def try_out(
    recipe: TrainParameters, number: int, choice: Choice, past: Sequence[Trial], chosen: pl.DataFrame
) -> Trial:
    """Fit a network by a choice and return how it went.

    Args:
        recipe: What is not tuned.
        number: Of the trial.
        choice: What is.
        past: Trials that had ended when this one began: those that it is compared with.
        chosen: See `tasks.rows.labelled_rows`.
    """
    import keras
    import optuna
    import tensorflow as tf

    judge = Judge(recipe, choice, past)
    history: tuple[training.Epoch, ...] = ()
    began = monotonic()

    def on_epoch(state: State) -> None:
        nonlocal history
        history = state.history
        if judge.prunes(history):
            raise optuna.TrialPruned

    def ended(**how: Any) -> Trial:
        seconds = round(monotonic() - began, 1)
        return Trial(number=number, choice=choice, epochs=history, seconds=seconds, **how)

    keras.utils.clear_session()  # the process may have tried others before
    material = train.drilled(recipe, train.prepare(recipe, chosen))
    try:
        model, _, stopped = training.fit(
            recipe.model_copy(update=choice.model_dump()), *material[1:], on_epoch=on_epoch
        )
    except optuna.TrialPruned:
        reason = f"after epoch {len(history)} its validation loss was above the median of the trials before"
        return ended(state="pruned", reason=reason)
    except TrainingError:  # the device is there, so it is the loss
        return ended(state="failed", reason="the loss was not a number in epoch 1")
    except tf.errors.ResourceExhaustedError:
        return ended(state="failed", reason="there was not enough memory")
    if stopped == "not a number":
        return ended(state="failed", reason=f"the loss was not a number in epoch {len(history) + 1}")
    return ended(state="complete", macro_recall=_macro_recall(model, material.validation, recipe))


def _macro_recall(model: Any, validation: training.Examples, recipe: TrainParameters) -> float:
    judged = dataset.batches(validation.tokens, validation.distributions(), 256)  # in an order of their own
    answers, targets = zip(
        *(
            (model.predict_on_batch(ids).argmax(axis=1), wanted.numpy().argmax(axis=1))
            for ids, wanted in judged
        ),
        strict=True,
    )
    return evaluate(recipe.labels, np.concatenate(targets), np.concatenate(answers)).macro_recall


@step
def record(trial: Trial, run: str, tracking: Tracking) -> None:
    """Log all there is to know of a trial and end its run; only then it counts as ended."""
    from mlflow.entities import Metric, RunTag

    status = "FAILED" if trial.state == "failed" else "FINISHED"
    with tracking.opened() as client:
        now = train.now()
        points = [
            Metric(name, value, now, number)
            for number, epoch in enumerate(trial.epochs, start=1)
            for name, value in epoch.items()
        ]
        if trial.macro_recall is not None:
            points.append(Metric("macro_recall", trial.macro_recall, now, 0))
        client.log_batch(
            run, metrics=points, tags=[RunTag("state", trial.state), RunTag("reason", trial.reason)]
        )
        client.log_dict(run, trial.model_dump(), RECORD)
        client.set_terminated(run, status)
    result = trial.reason if trial.macro_recall is None else f"macro recall {trial.macro_recall:.3f}"
    logger().info("Trial %s %s, %s: %s", trial.number, trial.state, trial.choice, result)


@step
def conclude(search: Search, trials: Sequence[Trial], tracking: Tracking) -> SearchResult:
    """Return what a search found, logged in its run with figures.

    Raises:
        SearchError: No trial was completed.
    """
    from mlflow.entities import Metric

    best = tuning.best(trials)
    if best is None:
        raise SearchError(
            f"None of the {len(trials)} trials was completed; of the last one: {trials[-1].reason}. Start "
            f"from a lower --learning-rate (now {search.recipe.learning_rate:g}) or another --batch-size."
        )
    recipe = search.recipe.model_copy(update=best.choice.model_dump())
    result = SearchResult(
        best=best,
        recipe=recipe,
        command=tuning.command(recipe),
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        run_id=search.run_id,
    )
    assert best.macro_recall is not None
    with tracking.opened() as client:
        run, now = search.run_id, train.now()
        client.log_batch(run, metrics=[Metric("best_macro_recall", best.macro_recall, now, len(trials))])
        for name, figure in figures.search(tuning.study(search.recipe, trials)).items():
            client.log_figure(run, figure, f"{name}.png")
        client.log_dict(run, result.model_dump(), RESULT)
        client.set_terminated(run, "FINISHED")
    return result


@step
def give_up(search: Search, tracking: Tracking) -> None:
    """End the run of a search that failed, if MLflow answers at once; else the next one like it finds it."""
    from mlflow.exceptions import MlflowException

    try:
        with one_attempt(), tracking.opened() as client:
            registry.close_orphans(tracking, search.experiment, search.identity)
            client.set_terminated(search.run_id, "FAILED")
    except MlflowException as error:
        logger().warning("The run of the search stays open: %s", tracking.explain(error) or error)
