"""Training: rows in, a fitted network with its history out."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.dataset import batches, number_of_batches
from tasks.labelling import LABELS
from tasks.network import NetworkName, build_network
from tasks.rows import LabelKind
from tasks.tokens import MAX_TOKENS, OFFLINE, Tokens

if TYPE_CHECKING:
    import keras

WARM_UP_SHARE = 0.05
PATIENCE = 2

Epoch = dict[str, float]
"""Metrics of an epoch: loss, accuracy, val_loss, val_accuracy."""


class TrainParameters(BaseModel):
    """Train a network on the warehouse's rows and register it as challenger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelKind = Field(default="textblob", description="Labels to learn: TextBlob's or people's.")
    network: NetworkName = Field(default="pooled", description="stacked is the Airflow project's network.")
    tokenizer: str = Field(
        default=OFFLINE, description="Wordpieces: the offline package, a folder or an id on the hub."
    )
    max_tokens: int = Field(default=MAX_TOKENS, ge=8, description="Longer texts are cut.")
    epochs: int = Field(default=5, gt=0, description="Passes over the rows, at most.")
    batch_size: int = Field(default=64, gt=0, description="Rows in a training step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak of the schedule.")
    seed: int = Field(default=1, ge=0, description="Equal seeds give equal weights on equal machines.")
    require_gpu: bool = Field(default=False, description="Fail at once where TensorFlow sees no GPU.")


class TrainingError(RuntimeError):
    """Raised when a network cannot be trained; says why and what to do."""


@dataclass(frozen=True)
class Examples:
    """Encoded texts and their labels, int8 (n,)."""

    tokens: Tokens
    targets: NDArray[np.int8]


def prepare_device(require_gpu: bool) -> str:
    """Make TensorFlow deterministic and return the name of the device that it will use.

    Raises:
        TrainingError: A GPU is required and there is none.
    """
    with _native_silence():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if require_gpu and not gpus:
        raise TrainingError(
            "require_gpu is set, but TensorFlow sees no GPU: run where one is (the driver and CUDA libraries "
            "installed, the container started with --gpus all), or leave out --require-gpu."
        )
    tf.config.experimental.enable_op_determinism()
    if not gpus:
        try:
            # Two directions side by side beat one matrix product cut in two: the products are small.
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)
        except RuntimeError:
            pass  # TensorFlow runs already in this process and keeps the threads that it has
        return "CPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


@contextmanager
def _native_silence() -> Iterator[None]:
    """Drop what native code writes to stderr: TensorFlow's notices come before its log level is read."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def fit(
    parameters: TrainParameters,
    train: Examples,
    validation: Examples,
    vocabulary_size: int,
    embeddings: NDArray[np.float32] | None,
    on_step: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[int, Epoch], None] = lambda epoch, metrics: None,
) -> tuple["keras.Model", list[Epoch]]:
    """Return the network with the weights of its best epoch, and the metrics of every epoch.

    The loss adds the log class priors to the logits and inference leaves them out, so the network answers as
    if all classes were equally frequent: what macro recall asks for. Source: Menon et al., Long-tail
    learning via logit adjustment (2021).

    Args:
        parameters: The recipe.
        train: What to learn.
        validation: What decides which epoch is best, by loss.
        vocabulary_size: Number of wordpieces.
        embeddings: float32 (vocabulary, width) to start from, see `tasks.tokens.word_embeddings`.
        on_step: Called after each batch with 1.
        on_epoch: Called after each epoch with its number, from 0, and its metrics.

    Raises:
        TrainingError: The loss became NaN.
    """
    import keras

    keras.utils.set_random_seed(parameters.seed)
    model = build_network(parameters.network, vocabulary_size, embeddings)
    prior = np.bincount(train.targets, minlength=len(LABELS)) / len(train.targets)
    # A class without rows is left as it is: the network learns that it never comes.
    log_prior = np.log(np.where(prior > 0, prior, 1)).astype(np.float32)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = number_of_batches(train.tokens, parameters.batch_size) * parameters.epochs
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=parameters.learning_rate, warmup_steps=warm_up
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, clipnorm=1.0),
        loss=lambda targets, logits: cross_entropy(targets, logits + log_prior),
        metrics=["accuracy"],
    )
    history: list[Epoch] = []

    def end_epoch(epoch: int, logs: dict[str, Any]) -> None:
        history.append({name: float(value) for name, value in logs.items()})
        if not np.isfinite(list(history[-1].values())).all():
            raise TrainingError(
                f"The loss is not a number after epoch {epoch + 1}: lower --learning-rate "
                f"(now {parameters.learning_rate:g}). Nothing was registered."
            )
        on_epoch(epoch, history[-1])

    model.fit(
        batches(train.tokens, train.targets, parameters.batch_size, parameters.seed),
        validation_data=batches(validation.tokens, validation.targets, 4 * parameters.batch_size),
        epochs=parameters.epochs,
        verbose=0,
        shuffle=False,  # the dataset shuffles itself
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: on_step(1), on_epoch_end=end_epoch
            ),
            keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True),
        ],
    )
    return model, history
