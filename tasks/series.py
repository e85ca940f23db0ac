"""Series: many fits that belong together, a run of MLflow with a nested run for each.

A fit is remembered by its run alone. One that has ended is not made again; one that was killed is.
"""

import multiprocessing
import os
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from blocks.tracking import Tracking, one_attempt
from blocks.warehouse import Warehouse
from tasks import registry, rows, train
from tasks.device import prepare_device
from tasks.outcome import Outcome
from tasks.progress import logger
from tasks.step import step
from tasks.training import FitParameters

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
RECORD = "fit.json"

R = TypeVar("R", bound=Outcome)


class SeriesError(RuntimeError):
    """Raised when the fits of a series come to nothing; says why and what to do."""


class Series(BaseModel, Generic[R]):
    """A series that goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Such as search: the tag of its run that has the identity.")
    identity: str = Field(description="Fingerprint of rows, recipe and code; the fits' runs bear it, too.")
    experiment: str = Field(description="Id of the experiment in MLflow.")
    run_id: str = Field(description="Its run in MLflow.")
    ended: tuple[R, ...] = Field(description="Fits that had ended before.")


def open_series(
    kind: str, identity: str, recipe: FitParameters, ended: type[R], tracking: Tracking, flow_run: str
) -> Series[R]:
    """Open the run of a series, made if need be, with the fits that have ended; others are closed.

    Args:
        kind: See `Series`.
        identity: See `Series`.
        recipe: What the fits have in common.
        ended: What they are remembered as.
        tracking: Where the runs are.
        flow_run: Id of the Prefect flow run.
    """
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    with tracking.connected() as experiment:
        client = tracking.client()
        registry.close_orphans(tracking, experiment, identity)
        found = client.search_runs([experiment], f"tags.{kind} = '{identity}'", max_results=1)
        if found:
            run = str(found[0].info.run_id)
            client.update_run(run, status="RUNNING")
        else:
            tags = resolve_tags({kind: identity, "prefect.flow_run": flow_run})
            name = f"{kind}-{recipe.network}-{recipe.labels}"
            with one_attempt():  # a second one would make a second run; the next try looks for the first
                run = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        # Where it runs may change, and MLflow lets no parameter do so.
        params = [Param(name, str(value)) for name, value in recipe if name != "require_gpu"]
        client.log_batch(run, params=params)
        records = {
            # Two series that ran side by side may both have made a fit.
            fit.info.run_name: ended.model_validate(registry.load_result(tracking, fit.info.run_id, RECORD))
            for fit in _nested(client, experiment, run)
            if fit.info.status in ("FINISHED", "FAILED")
        }
    if records:
        logger().info("A %s like this has ended %s fits before: it goes on.", kind, len(records))
    return Series[R](
        kind=kind, identity=identity, experiment=experiment, run_id=run, ended=tuple(records.values())
    )


def _nested(client: "MlflowClient", experiment: str, parent: str) -> "list[Run]":
    runs: list[Run] = []
    page = None
    while page is None or page.token:
        token = page.token if page else None
        page = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'", page_token=token)
        runs += page
    return runs


@step
def begin(series: Series[R], name: str, point: BaseModel, tracking: Tracking) -> str:
    """Make the run of a fit and return its id.

    Args:
        series: That it belongs to.
        name: Of its run, and of no other fit's.
        point: What sets it apart from the others.
        tracking: Where the runs are.
    """
    from mlflow.entities import Param
    from mlflow.tracking.context.registry import resolve_tags

    tags = {PARENT: series.run_id, registry.FINGERPRINT: series.identity}
    with tracking.connected(), one_attempt():  # one whose answer is lost is closed by the next series
        client = tracking.client()
        made = client.create_run(series.experiment, tags=resolve_tags(tags), run_name=name)
        run = str(made.info.run_id)
        client.log_batch(run, params=[Param(name, str(value)) for name, value in point])
    return run


def end_with_parent() -> None:
    """End this process with the one that started it: were that killed, it would wait for ever for work."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def begin_work(recipe: FitParameters, warehouse: Warehouse) -> rows.Labelled:
    """Make a process ready for a fit and return the rows, see `tasks.rows.labelled_rows`.

    Raises:
        TrainingError: There is no GPU although one is required.
    """
    prepare_device(recipe.require_gpu)
    return rows.read_labelled(warehouse, recipe.labels)


@step
def record(fit: Outcome, name: str, run: str, tracking: Tracking) -> None:
    """Log all there is to know of a fit and end its run; only then it counts as ended."""
    from mlflow.entities import Metric, RunTag

    with tracking.opened() as client:
        now = train.now()
        points = [
            Metric(key, value, now, number)
            for number, epoch in enumerate(fit.epochs, start=1)
            for key, value in epoch.items()
        ]
        points += [Metric(key, value, now, 0) for key, value in fit.metrics().items()]
        tags = [RunTag("state", fit.state), RunTag("reason", fit.reason)]
        client.log_batch(run, metrics=points, tags=tags)
        client.log_dict(run, fit.model_dump(), RECORD)
        client.set_terminated(run, "FAILED" if fit.state == "failed" else "FINISHED")
    result = fit.reason if fit.macro_recall is None else f"macro recall {fit.macro_recall:.3f}"
    logger().info("%s %s in %.1f CPU seconds: %s", name, fit.state, fit.cpu_seconds, result)


@step
def give_up(series: Series[R], tracking: Tracking) -> None:
    """End the run of a series that failed, if MLflow answers at once; else the next one like it finds it."""
    from mlflow.exceptions import MlflowException

    try:
        with one_attempt(), tracking.opened() as client:
            registry.close_orphans(tracking, series.experiment, series.identity)
            client.set_terminated(series.run_id, "FAILED")
    except MlflowException as error:
        logger().warning("The run of the %s stays open: %s", series.kind, tracking.explain(error) or error)
