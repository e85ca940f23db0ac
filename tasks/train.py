"""The steps of the flow `train`: rows, fit, lake, version."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time_ns
from typing import Any, NamedTuple
from uuid import uuid4

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

import tasks.bundle as bundle
import tasks.dataset as dataset
import tasks.evaluation as evaluation
import tasks.material as material
import tasks.quantization as quantization
import tasks.strategy as strategy
import tasks.teacher as teacher
import tasks.tokens as tokens
import tasks.training as training
from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from containers.serve.predictor import Predictor
from tasks import checkpoint, registry, rows, runs, trained, workers
from tasks.device import Precision
from tasks.evaluation import Scores, macro_recall, score_kinds
from tasks.progress import logger, progress
from tasks.quantization import Quantization
from tasks.step import step
from tasks.trained import Fit, Fitted, Lesson, Stand, Trained
from tasks.training import Epoch, State, Stopped, TrainParameters

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
    stopped: Stopped = Field(description="Why there were no more epochs.")
    quantization: Quantization = Field(description="What became of the weights.")
    teacher: float | None = Field(description="Macro recall of the encoder that was learned from, if any.")
    scores: tuple[Scores, ...] = Field(description="Scores on the validation rows, by kind of labels.")
    device: str = Field(description="What the network was trained on.")
    seconds: float = Field(description="Time of the fit.")


@step
def identify(parameters: TrainParameters, warehouse: Warehouse) -> str:
    """Return the fingerprint of what training would depend on: rows, recipe, code, packages.

    Raises:
        RowsError: The rows cannot be trained on.
    """
    return _identity(parameters, rows.read_labelled(warehouse, parameters.labels))


def _identity(parameters: TrainParameters, chosen: rows.Labelled) -> str:
    modules = *material.TAUGHT, bundle, evaluation, quantization, strategy
    return material.identity(parameters, chosen, *modules, packages=("onnxruntime",))


@step
def help_chief(identity: str, parameters: TrainParameters, warehouse: Warehouse) -> None:
    """Take part in what a chief fits until it needs no more help.

    Args:
        identity: Of this worker's own rows, recipe and code.
        parameters: The recipe.
        warehouse: With the chief's rows.

    Raises:
        TrainingError: The chief fits something else, or it or another worker is gone.
        RowsError: The rows are not those of the identity any more.
    """
    place, crew = workers.devices(parameters)
    assert crew is not None
    logger().info("Worker %s of %s helps with %s", crew.worker, crew.workers, place)
    chosen = rows.read_labelled(warehouse, parameters.labels)
    rows.require_same(identity, _identity(parameters, chosen))
    workers.help_chief(crew, identity, parameters, material.prepare(parameters, chosen))


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
def teach(parameters: TrainParameters, warehouse: Warehouse, lake: Lake) -> str | None:
    """See to it that the lake has what a teacher says of the rows: from before, or by fine-tuning one.

    What was cut short goes on.

    Args:
        parameters: The recipe.
        warehouse: Where the rows are.
        lake: Where the lesson is to be.

    Returns:
        Identity of the lesson; None without a teacher: none is wanted, or the tokenizer brings none.

    Raises:
        TrainingError: There is no GPU although one is required, or the loss became NaN.
    """
    source = tokens.tokenizer_folder(parameters.tokenizer)
    config = teacher.find_encoder(parameters, source)
    if config is None:
        return None
    chosen = rows.read_labelled(warehouse, parameters.labels)
    lesson = material.lesson_identity(parameters, chosen)
    kept = trained.find_lesson(lake, lesson)
    if kept is None:
        _, crew = workers.devices(parameters)
        numbers = material.prepare(parameters, chosen)
        course = teacher.plan(source, config, numbers.train, numbers.validation, numbers.tokenizer)
        found = checkpoint.find_checkpoint(lake, trained.checkpoint_key(lesson))
        workers.call(crew, _identity(parameters, chosen), "teach")
        kept = _teach(course, parameters.precision, crew, lesson, lake, found[0] if found else None)
        trained.write_lesson(lake, lesson, kept)
    trained.remove_scratch(lake, lesson)
    logger().info("The teacher has a macro recall of %.3f on the validation rows", kept.macro_recall)
    return lesson


def _teach(
    course: teacher.Course,
    precision: Precision,
    crew: strategy.Crew | None,
    lesson: str,
    lake: Lake,
    state: State | None,
) -> Lesson:
    recipe = teacher.recipe()
    steps = dataset.number_of_batches(course.train.tokens, recipe.batch_size)

    def on_epoch(state: State) -> None:
        checkpoint.write_checkpoint(lake, trained.checkpoint_key(lesson), state)
        logger().info("Epoch %s of %s of the teacher", len(state.history), recipe.epochs)

    with progress("Teaching", course.readings + steps * recipe.epochs, "batches") as advance:
        advance(steps * (len(state.history) if state else 0))
        once = workers.unrepeated(on_epoch, crew)
        taught = teacher.teach(course, state, advance, once, precision, crew)
    recall = macro_recall(course.validation.targets, taught.validation)
    return Lesson(taught.train, taught.excerpts, recall)


@step
def fit(
    identity: str,
    lesson: str | None,
    parameters: TrainParameters,
    warehouse: Warehouse,
    lake: Lake,
    tracking: Tracking,
    flow_run: str,
) -> Fitted:
    """Fit the network, or go on where a fit was killed; MLflow gets the metrics as they come, if it answers.

    Raises:
        TrainingError: There is no GPU although one is required, or the loss became NaN.
        RowsError: The rows are not those of the identity any more.
    """
    place, crew = workers.devices(parameters)
    chosen = rows.read_labelled(warehouse, parameters.labels)
    rows.require_same(identity, _identity(parameters, chosen))
    key = trained.checkpoint_key(identity)
    found = checkpoint.find_checkpoint(lake, key)
    if found is None:
        begun = Fit(
            identity=identity,
            key=uuid4().hex,
            parameters=parameters,
            device=place,
            flow_run=flow_run,
            began=now(),
            inputs=runs.describe_rows(chosen, warehouse),
        )
        stand, state = Stand(fit=begun, ends=(), seconds=0), None
    else:
        state, stand = found[0], Stand.model_validate_json(found[1])
        logger().info("A fit like this was cut short after epoch %s: it goes on.", len(state.history))
    said = trained.read_lesson(lake, lesson) if lesson else None
    workers.call(crew, identity, "fit")
    logger().info(
        "Training the %s network on %s labels with %s", parameters.network, parameters.labels, place
    )
    with TemporaryDirectory() as scratch, runs.Live(tracking, stand.fit) as live:
        began = monotonic() - stand.seconds

        def on_epoch(state: State) -> None:
            nonlocal stand
            stand = Stand(fit=stand.fit, ends=(*stand.ends, now()), seconds=monotonic() - began)
            checkpoint.write_checkpoint(lake, key, state, stand.model_dump_json())
            number, metrics = len(state.history), state.history[-1]
            live.log(number, stand.ends[-1], metrics)
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            logger().info("Epoch %s of %s: %s", number, parameters.epochs, shown)

        made = _fit(parameters, chosen, said, Path(scratch), state, workers.unrepeated(on_epoch, crew), crew)
        return Fitted(
            Trained(
                fit=stand.fit,
                rows=len(chosen.train),
                epochs=made.history,
                ends=stand.ends,
                stopped=made.stopped,
                quantization=made.quantization,
                teacher=said.macro_recall if said else None,
                scores=_validate(made.predictor, chosen.judging),
                seconds=monotonic() - began,
                digest=made.predictor.digest,
            ),
            {name: (Path(scratch) / name).read_bytes() for name in trained.BUNDLE},
        )


@step
def keep(fitted: Fitted, lake: Lake) -> Trained:
    """Put a fit into the lake, where it waits to be published."""
    trained.write_trained(lake, fitted)
    trained.remove_scratch(lake, fitted.trained.fit.identity)
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
        stopped=made.stopped,
        quantization=made.quantization,
        teacher=made.teacher,
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


class _Made(NamedTuple):
    predictor: Predictor
    history: tuple[Epoch, ...]
    stopped: Stopped
    quantization: Quantization


def _fit(
    parameters: TrainParameters,
    chosen: rows.Labelled,
    lesson: Lesson | None,
    folder: Path,
    state: State | None,
    on_epoch: Callable[[State], None],
    crew: strategy.Crew | None,
) -> _Made:
    """Fit the network and write its bundle."""
    numbers = material.complete(parameters, material.prepare(parameters, chosen), lesson, crew)
    if numbers.train.made_up:
        logger().info("Learning %s made-up sentences, too", numbers.train.made_up)

    steps = dataset.number_of_batches(numbers.train.tokens, parameters.batch_size)
    with progress("Training", steps * parameters.epochs, "batches") as advance:
        advance(steps * (len(state.history) if state else 0))
        model, ended, stopped = training.fit(
            parameters, *numbers[1:], state=state, on_step=advance, on_epoch=on_epoch, crew=crew
        )
    if stopped == "not a number":
        logger().warning(
            "In epoch %s the loss was no number any more: the weights of epoch %s are kept. Lower "
            "--learning-rate (now %g).",
            *(len(ended.history) + 1, training.best_epoch(ended.history) + 1, parameters.learning_rate),
        )
    metadata: dict[str, Any] = parameters.model_dump(include={"network", "tokenizer", "max_tokens", "labels"})
    metadata["trained_on"] = metadata.pop("labels")
    held = chosen.validation
    predictor = bundle.write_bundle(model, numbers.tokenizer, folder, metadata, list(islice(held, PROBES)))
    kept = quantization.describe(predictor, folder)
    if parameters.int8:
        predictor, kept = quantization.quantize_bundle(folder, predictor, held, held.targets)
        logger().info("Kept %s", kept)
    return _Made(predictor, ended.history, stopped, kept)


def now() -> int:
    """Return the milliseconds since 1970, as MLflow counts."""
    return time_ns() // 1_000_000


def _validate(predictor: Predictor, judging: rows.Part) -> tuple[Scores, ...]:
    """Score the exported bundle on the validation rows, once for each kind of labels that they have."""
    labels = pl.DataFrame({rows.COLUMN[kind]: found[judging.order] for kind, found in judging.labels.items()})
    return score_kinds(predictor.probabilities(judging), labels.select(pl.all().replace(-1, None)))
