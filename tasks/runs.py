"""Runs: what MLflow is told of a fit, while it goes on and when it is done."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from blocks.role import ROOT
from blocks.tracking import Tracking, one_attempt
from blocks.warehouse import Warehouse
from tasks import figures, registry, rows
from tasks.labelling import LABELS
from tasks.progress import logger
from tasks.trained import Fit, Trained
from tasks.training import Epoch, best_epoch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

CONTAINERS = ROOT / "containers"
RESULT = "train.json"
MODEL = "model"
FIT = "fit"
METRICS_AT_ONCE = 1000  # MLflow takes no more in a request


class Live:
    """The run of a fit that goes on: gets metrics if MLflow answers at once, and never holds up the fit.

    What does not get through is no loss: `complete` logs everything again.
    """

    def __init__(self, tracking: Tracking, fit: Fit) -> None:
        self._tracking, self._fit = tracking, fit
        self._run: str | None = None
        self._told = False

    def log(self, number: int, end: int, metrics: Epoch) -> None:
        """Log the metrics of an epoch.

        Args:
            number: Of the epoch, from 1.
            end: When it ended, in milliseconds since 1970.
            metrics: Its metrics.
        """
        self._send(_points(metrics, end, number))

    def _send(self, points: "Iterable[Metric]" = (), status: str | None = None) -> None:
        from mlflow.exceptions import MlflowException

        try:
            with one_attempt(), self._tracking.connected() as experiment:
                client = self._tracking.client()
                self._run = self._run or open_run(self._tracking, experiment, self._fit)
                client.log_batch(self._run, metrics=list(points))
                if status is not None:
                    client.set_terminated(self._run, status)
        except MlflowException as error:
            if not self._told:
                cause = self._tracking.explain(error) or error
                logger().warning("Training goes on, and its metrics are logged at the end. %s", cause)
            self._told = True

    def __enter__(self) -> Self:
        self._send()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._send(status="FAILED")


def open_run(tracking: Tracking, experiment: str, fit: Fit) -> str:
    """Return the id of the run of this fit, made if need be; runs of killed fits like it are closed."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param
    from mlflow.tracking.context.registry import resolve_tags

    client = tracking.client()
    found = client.search_runs([experiment], f"tags.{FIT} = '{fit.key}'", max_results=1)
    if found:
        run = str(found[0].info.run_id)
        client.update_run(run, status="RUNNING")  # the fit goes on, whatever became of it before
    else:
        name = f"{fit.parameters.network}-{fit.parameters.labels}"
        with one_attempt():  # a second one would make a second run; the next try looks for the first
            made = client.create_run(experiment, fit.began, resolve_tags({FIT: fit.key, **tags(fit)}), name)
        run = str(made.info.run_id)
    registry.close_orphans(tracking, experiment, fit.identity, but=run)
    client.log_batch(run, params=[Param(name, str(value)) for name, value in fit.parameters])
    client.log_inputs(
        run,
        [
            DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])
            for context, dataset in fit.inputs.items()
        ],
    )
    return run


def tags(fit: Fit) -> dict[str, str]:
    """Return what both the run and the version say of a fit."""
    return {registry.FINGERPRINT: fit.identity, "device": fit.device, "prefect.flow_run": fit.flow_run}


def complete(
    tracking: Tracking, experiment: str, trained: Trained, bundle: Path, result: Mapping[str, Any]
) -> tuple[str, str]:
    """Log all there is to know of a fit and end its run; what was logged before is not doubled.

    Args:
        tracking: Where to; it is connected.
        experiment: Id of the experiment.
        trained: What is logged, beside the bundle.
        bundle: Folder of the bundle.
        result: What is found again by `tasks.train.find`.

    Returns:
        The run's id and the model's URI.
    """
    import mlflow

    client = tracking.client()
    run = open_run(tracking, experiment, trained.fit)
    with mlflow.start_run(run):
        metrics = _metrics(trained)
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            client.log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])
        mlflow.log_figure(figures.learning_curve(list(trained.epochs)), "learning_curve.png")
        for kind in trained.scores:
            figure = figures.confusion_matrix(kind, f"validation, {kind.labels} labels")
            mlflow.log_figure(figure, f"confusion_matrix_{kind.labels}.png")
        model = _logged_model(client, experiment, run) or log_model(bundle)
        mlflow.log_dict(dict(result), RESULT)
    return run, model


def log_model(folder: Path) -> str:
    """Log a bundle as a pyfunc model, text in, label and probabilities out, and return its URI."""
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = [ColSpec(DataType.double, f"p_{label}") for label in ("negative", "neutral", "positive")]
    signature = ModelSignature(
        Schema([ColSpec(DataType.string, "text")]), Schema([ColSpec(DataType.string, "label"), *numbers])
    )
    with TemporaryDirectory() as scratch:
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(CONTAINERS / "serve" / "model.py"),
            artifacts={"bundle": str(folder)},
            code_paths=[_code(Path(scratch))],
            signature=signature,
            input_example=pd.DataFrame({"text": ["What a lovely day!"]}),
            pip_requirements=_requirements(),
        )
    return str(logged.model_uri)


def _code(folder: Path) -> str:
    """Copy the code that a logged model needs, and not the other containers', and return where it is."""
    shutil.copytree(CONTAINERS / "serve", folder / "containers" / "serve")
    shutil.copy(CONTAINERS / "__init__.py", folder / "containers")
    return str(folder / "containers")


def describe_rows(chosen: rows.Labelled, warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """Return which rows are used, as MLflow datasets."""
    from mlflow.data import polars_dataset
    from mlflow.data.code_dataset_source import CodeDatasetSource

    described: dict[str, dict[str, Any]] = {}
    columns = pl.DataFrame(schema={"id": pl.String, "text": pl.String, "target": pl.Int8})
    for context, split, part in (
        ("training", "train", chosen.train),
        ("validation", "validation", chosen.validation),
    ):
        logged = polars_dataset.from_polars(
            columns,
            source=CodeDatasetSource({"table": warehouse.table, "split": split}),
            targets="target",
            name=f"{warehouse.table}.{split}",
            digest=part.digest[:32],
        )
        count, labels = len(part.targets), np.bincount(part.targets, minlength=len(LABELS))
        profile = {"num_rows": count, "num_elements": count * columns.width}
        profile |= dict(zip(LABELS, labels.tolist(), strict=True))
        described[context] = {**logged.to_dict(), "profile": json.dumps(profile)}
    return described


def _metrics(trained: Trained) -> "list[Metric]":
    """Return all metrics of a fit, those of the epochs with the same times as in `Live`."""
    found = []
    for number, (metrics, end) in enumerate(zip(trained.epochs, trained.ends, strict=True), start=1):
        found += _points(metrics, end, number)
    final = {
        f"validation_{kind.labels}_{name}": getattr(kind, name)
        for kind in trained.scores
        for name in ("macro_recall", "macro_f1", "accuracy", "log_loss")
    }
    final["kept_epoch"] = best_epoch(trained.epochs) + 1
    final["megabytes"] = trained.quantization.megabytes
    if trained.quantization.fall is not None:
        final["int8_macro_recall_fall"] = trained.quantization.fall
    if trained.teacher is not None:
        final["teacher_macro_recall"] = trained.teacher
    final["fit_seconds"] = trained.seconds
    final["fit_rows_per_second"] = trained.rows * len(trained.epochs) / trained.seconds
    return found + _points(final, trained.ends[-1], 0)


def _points(metrics: Mapping[str, float], at: int, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in metrics.items()]


def _logged_model(client: "MlflowClient", experiment: str, run: str) -> str | None:
    """Return the URI of the model that an earlier try logged, if any; halves of models are deleted."""
    ready = None
    for model in client.search_logged_models([experiment], f"source_run_id = '{run}'"):
        if str(model.status) == "READY":
            ready = str(model.model_uri)
        else:
            client.delete_logged_model(model.model_id)
    return ready


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnxruntime", "pandas", "tokenizers")]
