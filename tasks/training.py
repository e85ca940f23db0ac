"""Training: rows in, a fitted network with its history out."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.dataset import batches, groups, number_of_batches
from tasks.device import Precision, TrainingError, explained, reckoning, use_cudnn
from tasks.labelling import LABELS
from tasks.network import NetworkName, build_network
from tasks.optimizer import build_optimizer
from tasks.rows import LabelKind
from tasks.strategy import Crew, StrategyName, run_epoch, steps
from tasks.tokens import MAX_TOKENS, OFFLINE, Tokens

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PATIENCE = 2
CLOSE = 1.005
"""Losses on validation rows of this ratio are as good: they differ as much from one epoch to the next."""
AT_ONCE = 256

Epoch = dict[str, float]
"""Metrics of an epoch: loss, accuracy, val_loss, val_accuracy."""


class FitParameters(BaseModel):
    """How a network is fitted to the labels of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelKind = Field(default="textblob", description="Labels to learn: TextBlob's or people's.")
    network: NetworkName = Field(default="pooled", description="stacked is the Airflow project's network.")
    tokenizer: str = Field(
        default=OFFLINE, description="Wordpieces: the offline package, a folder or an id on the hub."
    )
    max_tokens: int = Field(default=MAX_TOKENS, ge=8, description="Longer texts are cut.")
    epochs: int = Field(default=8, gt=0, description="Passes over the rows, at most.")
    batch_size: int = Field(default=64, gt=0, description="Rows in a training step.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak of the schedule.")
    drills: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Learn made-up sentences beside the rows, and exchange names of groups of people in "
        "these; auto: where people labelled 10,000 or more.",
    )
    require_gpu: bool = Field(default=False, description="Fail at once where TensorFlow sees no GPU.")


class TrainParameters(FitParameters):
    """Train a network on the warehouse's rows and register it as challenger."""

    teacher: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Fine-tune an encoder first and learn from it, if the tokenizer brings one; auto: only "
        "where people gave the labels.",
    )
    seed: int = Field(default=1, ge=0, description="Equal seeds give equal weights on equal machines.")
    int8: bool = Field(
        default=True, description="Weights of 8 bits, unless macro recall falls by over 0.2 points with them."
    )
    strategy: StrategyName = Field(
        default="auto",
        description="Devices that fit together: one, those of this host (mirrored), or several hosts "
        "(workers, with TF_CONFIG); auto: mirrored where TensorFlow sees several GPUs.",
    )
    precision: Precision = Field(
        default="auto",
        description="mixed: 16 bits where they do; auto: only for the teacher, on a CPU that is faster so.",
    )


class NotANumberError(TrainingError):
    """Raised when the loss is not a number from the start."""


@dataclass(frozen=True)
class Examples:
    """Encoded texts and what is to be answered to them.

    Args:
        tokens: n encoded texts.
        targets: int8 (n,), their labels.
        soft: float32 (n, 3), how probable each label is, if that is known better; rows add up to 1.
        made_up: So many of the last ones are no rows, and say nothing of how frequent a label is.
    """

    tokens: Tokens
    targets: NDArray[np.int8]
    soft: NDArray[np.float32] | None = None
    made_up: int = 0

    def distributions(self) -> NDArray[np.float32]:
        """Return what to answer, float32 (n, 3)."""
        return np.eye(len(LABELS), dtype=np.float32)[self.targets] if self.soft is None else self.soft

    def with_made_up(self, tokens: Tokens, answers: NDArray[np.float32]) -> "Examples":
        """Return these and after them texts that are no rows.

        Args:
            tokens: m encoded texts.
            answers: float32 (m, 3), how probable each label is.
        """
        return Examples(
            self.tokens + tokens,
            np.concatenate([self.targets, answers.argmax(axis=1).astype(np.int8)]),
            np.concatenate([self.distributions(), answers]),
            self.made_up + len(answers),
        )

    def log_prior(self) -> NDArray[np.float32]:
        """Return the log frequency of each label in the rows, float32 (3,); 0 for one that does not occur.

        Such a class is left as it is: the network learns that it never comes.
        """
        rows = self.targets[: len(self.targets) - self.made_up]
        prior = np.bincount(rows, minlength=len(LABELS)) / len(rows)
        return np.log(np.where(prior > 0, prior, 1)).astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """How any network is fitted.

    Args:
        epochs: Passes over the rows, at most.
        batch_size: Rows in a step.
        learning_rate: Peak of the schedule.
        seed: Of the order of the rows, with the number of the epoch.
        weight_decay: See `tasks.optimizer.build_optimizer`.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.004


Stopped = Literal["all epochs", "no better", "not a number"]
"""Why a fit ended: it was long enough, validation got no better, or the loss became NaN."""


@dataclass(frozen=True)
class State:
    """Where a fit stands after an epoch: all that the next one depends on.

    Args:
        history: Metrics of each epoch so far.
        variables: Of the network, the dropouts' seeds among them, and of the optimizer, in Keras' order.
        best: Weights of the best epoch so far, in Keras' order.
    """

    history: tuple[Epoch, ...]
    variables: tuple[NDArray[Any], ...]
    best: tuple[NDArray[Any], ...]


def best_epoch(history: Sequence[Epoch]) -> int:
    """Return the number, from 0, of the last epoch whose loss on validation rows is as good as the lowest.

    The rate falls to 0 over the epochs, so the later of two has settled further, in what rows seldom show,
    too, such as negation.
    """
    losses = np.array([epoch["val_loss"] for epoch in history])
    return int(np.flatnonzero(losses <= CLOSE * losses.min())[-1])


def fit(
    parameters: TrainParameters,
    train: Examples,
    validation: Examples,
    vocabulary_size: int,
    embeddings: NDArray[np.float32] | None,
    state: State | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[State], None] = lambda state: None,
    crew: Crew | None = None,
) -> tuple["keras.Model", State, Stopped]:
    """Return a new network with the weights of its best epoch, how it got there, and why it ended.

    Args:
        parameters: The recipe.
        train: What to learn.
        validation: What decides which epoch is best, by loss.
        vocabulary_size: Number of wordpieces.
        embeddings: float32 (vocabulary, width) to start from, see `tasks.tokens.word_embeddings`.
        state: See `fit_network`.
        on_step: See `fit_network`.
        on_epoch: See `fit_network`.
        crew: See `fit_network`.

    Raises:
        TrainingError: See `fit_network`; the device is too small or busy; a layer or the precision does not
            suit the GPU.
    """
    recipe = Recipe(parameters.epochs, parameters.batch_size, parameters.learning_rate, parameters.seed)

    def build() -> "keras.Model":
        model = build_network(parameters.network, vocabulary_size, embeddings)
        use_cudnn(model)
        return model

    with explained(f"batches of {recipe.batch_size} rows", "lower --batch-size"):
        model = build_shared(build, recipe.seed, parameters.precision, crew)
        state, stopped = fit_network(model, recipe, train, validation, state, on_step, on_epoch, crew)
        return plain(model, build, parameters.precision, crew), state, stopped


def build_shared(
    build: Callable[[], "keras.Model"], seed: int, precision: Precision, crew: Crew | None
) -> "keras.Model":
    """Return a new network to fit with a precision, a copy of it on each device of a crew.

    Raises:
        TrainingError: The GPU would only be slower with 16 bits, or another worker is gone.
    """
    import keras

    keras.utils.set_random_seed(seed)
    with reckoning(precision), crew.scope() if crew else nullcontext():
        return build()


def plain(
    model: "keras.Model", build: Callable[[], "keras.Model"], precision: Precision, crew: Crew | None
) -> "keras.Model":
    """Return a network as one of one device that reckons in float32; its weights are float32 already."""
    if crew is None and precision != "mixed":
        return model
    made = build()
    made.set_weights(model.get_weights())
    return made


def fit_network(
    model: "keras.Model",
    recipe: Recipe,
    train: Examples,
    validation: Examples,
    state: State | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[State], None] = lambda state: None,
    crew: Crew | None = None,
) -> tuple[State, Stopped]:
    """Leave a network with the weights of its best epoch; return how it got there and why it ended.

    The loss adds the log class priors to the logits and inference leaves them out, so the network answers as
    if all classes were equally frequent: what macro recall asks for. Source: Menon et al., Long-tail
    learning via logit adjustment (2021).

    Args:
        model: From ids, int32 (B, T), to logits, float32 (B, 3).
        recipe: How.
        train: What to learn.
        validation: What decides which epoch is best, by loss.
        state: Where to go on; on the CPU, the weights become those of a fit without a break.
        on_step: Called after each batch with 1.
        on_epoch: Called after each epoch.
        crew: Devices to fit on together, in whose scope the network was built; its chief's `state` counts.

    Raises:
        NotANumberError: The loss became NaN in the first epoch; after a later one, the best so far is kept.
        TrainingError: Another worker is gone; `state` is of another kind of device.
    """
    count = number_of_batches(train.tokens, recipe.batch_size)
    with crew.scope() if crew else nullcontext():
        compile_network(model, recipe, train.log_prior(), count * recipe.epochs)
    if crew is not None:
        state = crew.share(state)
    if state is not None:
        if len(state.variables) != len(_variables(model)):
            raise TrainingError(
                "This fit was begun on another kind of device with --precision mixed, and cannot go on here: "
                "run it again there, or begin another with --precision float32."
            )
        for variable, value in zip(_variables(model), state.variables, strict=True):
            variable.assign(value)
    judged = batches(validation.tokens, validation.distributions(), 4 * recipe.batch_size)

    run = (
        _alone(model, judged, on_step)
        if crew is None
        else _together(model, judged, on_step, crew, train.log_prior())
    )
    while (stopped := _stopped(state, recipe)) is None:
        epoch = len(state.history) if state else 0
        # Each epoch has an order of its own that depends on nothing but its number.
        order = int(np.random.SeedSequence([recipe.seed, epoch]).generate_state(1)[0])
        metrics = run(batches(train.tokens, train.distributions(), recipe.batch_size, order))
        if not np.isfinite(list(metrics.values())).all():
            if state is None:
                raise NotANumberError(
                    "The loss is not a number in the first epoch: lower --learning-rate "
                    f"(now {recipe.learning_rate:g}). Nothing was registered."
                )
            stopped = "not a number"
            break
        state = _state(model, state, metrics)
        on_epoch(state)
    assert state is not None
    model.set_weights(state.best)
    return state, stopped


def _alone(
    model: "keras.Model", judged: "tf.data.Dataset", on_step: Callable[[int], None]
) -> Callable[["tf.data.Dataset"], Epoch]:
    """Return what fits a compiled network to the batches of an epoch, on one device."""
    import keras

    def after(batch: int, logs: dict[str, float]) -> None:
        model.stop_training = not math.isfinite(logs["loss"])
        on_step(1)

    def run(learned: "tf.data.Dataset") -> Epoch:
        logs = model.fit(
            learned,
            validation_data=judged,
            verbose=0,
            shuffle=False,  # the dataset shuffles itself
            callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=after)],
        ).history
        return {name: float(values[-1]) for name, values in logs.items()}

    return run


def _together(
    model: "keras.Model",
    judged: "tf.data.Dataset",
    on_step: Callable[[int], None],
    crew: Crew,
    log_prior: NDArray[np.float32],
) -> Callable[["tf.data.Dataset"], Epoch]:
    """Return the same for the devices of a crew."""
    learn, judge = steps(crew, model, log_prior)

    def after(loss: float) -> bool:
        on_step(1)
        return not math.isfinite(loss)

    def run(learned: "tf.data.Dataset") -> Epoch:
        found = run_epoch(crew, learn, learned, after)
        found += run_epoch(crew, judge, judged, lambda loss: False)
        return dict(zip(("loss", "accuracy", "val_loss", "val_accuracy"), found, strict=True))

    return run


def compile_network(model: "keras.Model", recipe: Recipe, log_prior: NDArray[np.float32], steps: int) -> None:
    """Give a network its loss and its optimizer, with a schedule for so many steps."""
    import keras

    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer=build_optimizer(recipe.learning_rate, recipe.weight_decay, steps),
        loss=lambda targets, logits: cross_entropy(targets, logits + log_prior),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)


def logits(model: "keras.Model", tokens: Tokens) -> NDArray[np.float32]:
    """Return what a network says of texts, float32 (n, 3), in their order."""
    answers = np.empty((len(tokens.lengths), len(LABELS)), np.float32)
    for rows in groups(tokens.lengths, AT_ONCE):
        answers[rows] = model.predict_on_batch(tokens.block(rows))
    return answers


def _variables(model: "keras.Model") -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _state(model: "keras.Model", before: State | None, metrics: Epoch) -> State:
    """Return where the fit stands after one more epoch."""
    history = (*(before.history if before else ()), metrics)
    variables = tuple(np.asarray(variable.value) for variable in _variables(model))
    state = State(history, variables, before.best if before else ())
    if best_epoch(history) == len(history) - 1:
        return replace(state, best=tuple(model.get_weights()))
    return state


def _stopped(state: State | None, recipe: Recipe) -> Stopped | None:
    if state is None:
        return None
    if len(state.history) >= recipe.epochs:
        return "all epochs"
    return "no better" if len(state.history) - 1 - best_epoch(state.history) >= PATIENCE else None
