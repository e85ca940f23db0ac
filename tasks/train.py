"""The steps of the flow `train`: rows, fit, lake, version."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time_ns
from typing import Any
from uuid import uuid4

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

import tasks.bundle as bundle
import tasks.cleaning as cleaning
import tasks.dataset as dataset
import tasks.network as network
import tasks.tokens as tokens
import tasks.training as training
from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from containers.serve.predictor import Predictor
from tasks import registry, rows, runs, trained
from tasks.evaluation import Scores, score_kinds
from tasks.fingerprint import fingerprint
from tasks.progress import logger, progress
from tasks.step import step
from tasks.trained import Fit, Fitted, Trained
from tasks.training import Epoch, TrainParameters

PROBES = 16


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
    stored = registry.load_result(tracking, version.run_id, runs.RESULT)
    return TrainResult.model_validate({**stored, "version": version.number, "reused": True})


@step
def find_trained(identity: str, lake: Lake) -> Trained | None:
    """Return the fit of this identity that was not published, if any."""
    found = trained.find_trained(lake, identity)
    if found is not None:
        logger().info("The same rows, recipe and code were fit before, in %s: not fit again.", found.fit.key)
    return found


@step
def fit(
    identity: str, parameters: TrainParameters, warehouse: Warehouse, tracking: Tracking, flow_run: str
) -> Fitted:
    """Fit the network; MLflow gets the metrics as they come, if it answers.

    Raises:
        TrainingError: There is no GPU although one is required, or the loss became NaN.
    """
    device = training.prepare_device(parameters.require_gpu)
    logger().info(
        "Training the %s network on %s labels with %s", parameters.network, parameters.labels, device
    )
    frame = rows.read_rows(warehouse, "train", "validation")
    chosen = rows.labelled_rows(frame, parameters.labels)
    begun = Fit(
        identity=identity,
        key=uuid4().hex,
        parameters=parameters,
        device=device,
        flow_run=flow_run,
        began=_now(),
        inputs=runs.describe_rows(chosen, warehouse),
    )
    ends: list[int] = []
    with TemporaryDirectory() as scratch, runs.Live(tracking, begun) as live:

        def on_epoch(epoch: int, metrics: Epoch) -> None:
            ends.append(_now())
            live.log(epoch + 1, ends[-1], metrics)
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            logger().info("Epoch %s of %s: %s", epoch + 1, parameters.epochs, shown)

        began = monotonic()
        predictor, history = _fit(parameters, chosen, Path(scratch), on_epoch)
        seconds = monotonic() - began
        return Fitted(
            Trained(
                fit=begun,
                rows=len(chosen.filter(pl.col("split") == "train")),
                epochs=tuple(history),
                ends=tuple(ends),
                scores=_validate(predictor, frame),
                seconds=seconds,
                digest=predictor.digest,
            ),
            {name: (Path(scratch) / name).read_bytes() for name in trained.BUNDLE},
        )


@step
def keep(fitted: Fitted, lake: Lake) -> Trained:
    """Put a fit into the lake, where it waits to be published."""
    trained.write_trained(lake, fitted)
    return fitted.trained


@step
def publish(made: Trained, lake: Lake, tracking: Tracking) -> TrainResult:
    """Log all there is to know about a fit in MLflow and register its bundle as a version, once."""
    result = TrainResult(
        version="",
        reused=False,
        labels=made.fit.parameters.labels,
        network=made.fit.parameters.network,
        rows=made.rows,
        epochs=made.epochs,
        scores=made.scores,
        device=made.fit.device,
        seconds=round(made.seconds, 1),
    )
    with tracking.connected() as experiment, TemporaryDirectory() as scratch:
        version = registry.find_version(tracking, made.fit.identity)
        if version is None:
            bundle = trained.fetch_bundle(lake, made, Path(scratch) / "bundle")
            run, model = runs.complete(tracking, experiment, made, bundle, result.model_dump())
            tags = {**runs.tags(made.fit), "labels": result.labels, "digest": made.digest}
            version = registry.register(tracking, model, run, tags)
    logger().info("Registered %s version %s", tracking.model, version.number)
    return result.model_copy(update={"version": version.number})


@step
def challenge(result: TrainResult, tracking: Tracking) -> None:
    """Let the version ask for production."""
    if not registry.name_challenger(tracking, result.version):
        logger().warning(
            "Version %s does not challenge: a rollback took it out of production. "
            "`python -m flows.rollback --version %s` puts it back.",
            *(result.version, result.version),
        )


def _fit(
    parameters: TrainParameters, chosen: pl.DataFrame, folder: Path, on_epoch: Callable[[int, Epoch], None]
) -> tuple[Predictor, list[Epoch]]:
    """Fit the network, write its bundle and return it loaded, with the history."""
    source = tokens.tokenizer_folder(parameters.tokenizer)
    tokenizer = tokens.build_tokenizer(source, parameters.max_tokens)
    size = tokenizer.get_vocab_size()
    embeddings = tokens.word_embeddings(source, size) if parameters.network == "pooled" else None
    train_texts, train_targets = rows.texts_and_targets(chosen, "train")
    texts, targets = rows.texts_and_targets(chosen, "validation")
    train = training.Examples(tokens.encode(tokenizer, train_texts), train_targets)
    validation = training.Examples(tokens.encode(tokenizer, texts), targets)

    steps = dataset.number_of_batches(train.tokens, parameters.batch_size) * parameters.epochs
    with progress("Training", steps, "batches") as advance:
        model, history = training.fit(parameters, train, validation, size, embeddings, advance, on_epoch)
    metadata: dict[str, Any] = parameters.model_dump(include={"network", "tokenizer", "max_tokens", "labels"})
    metadata["trained_on"] = metadata.pop("labels")
    return bundle.write_bundle(model, tokenizer, folder, metadata, texts[:PROBES]), history


def _now() -> int:
    """Return the milliseconds since 1970, as MLflow counts."""
    return time_ns() // 1_000_000


def _validate(predictor: Predictor, frame: pl.DataFrame) -> tuple[Scores, ...]:
    """Score the exported bundle on the validation rows, once for each kind of labels that they have."""
    part = frame.filter(pl.col("split") == "validation")
    return score_kinds(predictor.probabilities(part["text"].to_list()), part)
