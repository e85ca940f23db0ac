"""The steps of the flow `train`: rows, fit, version."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

import tasks.bundle as bundle
import tasks.cleaning as cleaning
import tasks.dataset as dataset
import tasks.network as network
import tasks.tokens as tokens
import tasks.training as training
from blocks.role import ROOT
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from containers.serve.predictor import Predictor
from tasks import figures, registry, rows
from tasks.evaluation import Scores, evaluate
from tasks.fingerprint import fingerprint
from tasks.progress import logger, progress
from tasks.step import step
from tasks.training import Epoch, TrainParameters

PROBES = 16
RESULT = "train.json"


class TrainResult(BaseModel):
    """What a training run made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="Version in the model registry.")
    reused: bool = Field(description="True if the same rows, recipe and code had made this version before.")
    labels: rows.LabelKind = Field(description="Kind of labels that were learned.")
    network: str = Field(description="Name of the network.")
    rows: int = Field(description="Rows learned from.")
    epochs: tuple[Epoch, ...] = Field(description="Metrics of each epoch.")
    scores: tuple[Scores, ...] = Field(description="Scores on the validation rows, by kind of labels.")
    device: str = Field(description="What the network was trained on.")
    seconds: float = Field(description="Time of the fit.")


@step
def identify(parameters: TrainParameters, warehouse: Warehouse) -> str:
    """Return the fingerprint of what training would depend on: rows, recipe, code, packages.

    Raises:
        RowsError: The rows cannot be trained on.
    """
    chosen = rows.labelled_rows(rows.read_rows(warehouse, "train", "validation"), parameters.labels)
    modules = bundle, cleaning, dataset, network, tokens, training
    recipe = parameters.model_copy(update={"require_gpu": False})
    return fingerprint(rows.digest(chosen), recipe, *modules, packages=("tensorflow", "keras", "tokenizers"))


@step
def find(identity: str, tracking: Tracking) -> TrainResult | None:
    """Return the result of the run that made a version of this identity before, if any."""
    version = registry.find_version(tracking, identity)
    if version is None:
        return None
    logger().info("Version %s was made from the same rows, recipe and code: reused.", version.number)
    stored = registry.load_result(tracking, version.run_id, RESULT)
    return TrainResult.model_validate({**stored, "version": version.number, "reused": True})


@step
def train_version(
    identity: str, parameters: TrainParameters, warehouse: Warehouse, tracking: Tracking, flow_run: str
) -> TrainResult:
    """Fit the network, log all there is to know about the run and register the bundle as a version.

    Raises:
        TrainingError: There is no GPU although one is required, or the loss became NaN.
    """
    import mlflow

    device = training.prepare_device(parameters.require_gpu)
    logger().info(
        "Training the %s network on %s labels with %s", parameters.network, parameters.labels, device
    )
    frame = rows.read_rows(warehouse, "train", "validation")
    chosen = rows.labelled_rows(frame, parameters.labels)
    name = f"{parameters.network}-{parameters.labels}"
    tags = {registry.FINGERPRINT: identity, "device": device, "prefect.flow_run": flow_run}
    with tracking.connected() as experiment, TemporaryDirectory() as scratch:
        registry.close_orphans(tracking, experiment, identity)
        with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags) as run:
            mlflow.log_params(parameters.model_dump())
            _log_rows(chosen, warehouse)
            began = monotonic()
            predictor, history = _fit(parameters, chosen, Path(scratch) / "bundle")
            seconds = monotonic() - began
            scores = _validate(predictor, frame)
            _log_results(history, scores)
            mlflow.log_metrics(
                {"fit_seconds": seconds, "fit_rows_per_second": _rows_seen(chosen, history) / seconds}
            )
            model = _log_model(Path(scratch) / "bundle")
            result = TrainResult(
                version="",
                reused=False,
                labels=parameters.labels,
                network=parameters.network,
                rows=len(chosen.filter(pl.col("split") == "train")),
                epochs=tuple(history),
                scores=scores,
                device=device,
                seconds=round(seconds, 1),
            )
            mlflow.log_dict(result.model_dump(), RESULT)
        version = registry.register(
            tracking,
            model,
            run.info.run_id,
            {**tags, "labels": parameters.labels, "digest": predictor.digest},
        )
    logger().info("Registered %s version %s", tracking.model, version.number)
    return result.model_copy(update={"version": version.number})


def _fit(parameters: TrainParameters, chosen: pl.DataFrame, folder: Path) -> tuple[Predictor, list[Epoch]]:
    """Fit the network, write its bundle and return it loaded, with the history."""
    import mlflow

    source = tokens.tokenizer_folder(parameters.tokenizer)
    tokenizer = tokens.build_tokenizer(source, parameters.max_tokens)
    size = tokenizer.get_vocab_size()
    embeddings = tokens.word_embeddings(source, size) if parameters.network == "pooled" else None
    train_texts, train_targets = rows.texts_and_targets(chosen, "train")
    texts, targets = rows.texts_and_targets(chosen, "validation")
    train = training.Examples(tokens.encode(tokenizer, train_texts), train_targets)
    validation = training.Examples(tokens.encode(tokenizer, texts), targets)

    def on_epoch(epoch: int, metrics: Epoch) -> None:
        mlflow.log_metrics(metrics, step=epoch + 1)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        logger().info("Epoch %s of %s: %s", epoch + 1, parameters.epochs, shown)

    steps = dataset.number_of_batches(train.tokens, parameters.batch_size) * parameters.epochs
    with progress("Training", steps, "batches") as advance:
        model, history = training.fit(parameters, train, validation, size, embeddings, advance, on_epoch)
    metadata: dict[str, Any] = parameters.model_dump(include={"network", "tokenizer", "max_tokens", "labels"})
    metadata["trained_on"] = metadata.pop("labels")
    return bundle.write_bundle(model, tokenizer, folder, metadata, texts[:PROBES]), history


def _rows_seen(chosen: pl.DataFrame, history: list[Epoch]) -> int:
    return len(chosen.filter(pl.col("split") == "train")) * len(history)


def _validate(predictor: Predictor, frame: pl.DataFrame) -> tuple[Scores, ...]:
    """Score the exported bundle on the validation rows, once for each kind of labels that they have."""
    part = frame.filter(pl.col("split") == "validation")
    return score_kinds(predictor.probabilities(part["text"].to_list()), part)


def score_kinds(probabilities: Any, frame: pl.DataFrame) -> tuple[Scores, ...]:
    """Return the scores by each kind of labels that the rows have, never mixed."""
    scores = []
    for kind, column in rows.COLUMN.items():
        known = frame[column].is_not_null()
        if known.any():
            targets = frame[column].filter(known).to_numpy()
            scores.append(evaluate(kind, targets, probabilities[known.to_numpy()]))
    return tuple(scores)


def _log_rows(chosen: pl.DataFrame, warehouse: Warehouse) -> None:
    """Log which rows were used, as MLflow dataset inputs."""
    import mlflow
    from mlflow.data import polars_dataset
    from mlflow.data.code_dataset_source import CodeDatasetSource

    for split, context in (("train", "training"), ("validation", "validation")):
        part = chosen.filter(pl.col("split") == split).select("id", "text", "target")
        source = CodeDatasetSource({"table": warehouse.table, "split": split})
        logged = polars_dataset.from_polars(
            part,
            source=source,
            targets="target",
            name=f"{warehouse.table}.{split}",
            digest=rows.digest(part)[:32],
        )
        mlflow.log_input(logged, context=context)


def _log_results(history: list[Epoch], scores: tuple[Scores, ...]) -> None:
    import mlflow

    mlflow.log_figure(figures.learning_curve(history), "learning_curve.png")
    for kind in scores:
        figure = figures.confusion_matrix(kind, f"validation, {kind.labels} labels")
        mlflow.log_figure(figure, f"confusion_matrix_{kind.labels}.png")
        mlflow.log_metrics(
            {
                f"validation_{kind.labels}_{name}": getattr(kind, name)
                for name in ("macro_recall", "macro_f1", "accuracy", "log_loss")
            }
        )


def _log_model(folder: Path) -> str:
    """Log the bundle as a pyfunc model, text in, label and probabilities out, and return its URI."""
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = [ColSpec(DataType.double, f"p_{label}") for label in ("negative", "neutral", "positive")]
    signature = ModelSignature(
        Schema([ColSpec(DataType.string, "text")]), Schema([ColSpec(DataType.string, "label"), *numbers])
    )
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(ROOT / "containers" / "serve" / "model.py"),
        artifacts={"bundle": str(folder)},
        code_paths=[str(ROOT / "containers")],
        signature=signature,
        input_example=pd.DataFrame({"text": ["What a lovely day!"]}),
        pip_requirements=_requirements(),
    )
    return str(logged.model_uri)


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnxruntime", "pandas", "tokenizers")]
