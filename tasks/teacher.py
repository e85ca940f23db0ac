"""The teacher: an encoder fine-tuned on the rows, which tells the network how probable each label is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.device import Precision, TrainingError, for_large_products, reckoning
from tasks.encoder import EncoderConfig, build_encoder, encoder_config, read_states
from tasks.strategy import Crew
from tasks.training import (
    Examples,
    NotANumberError,
    Recipe,
    State,
    TrainParameters,
    build_shared,
    fit_network,
    logits,
    plain,
)

if TYPE_CHECKING:
    import keras

TRAINED_LAYERS = 3
EPOCHS = 2
BATCH = 32
RATE = 1e-4
TRUST = np.float32(0.7)


def recipe(seed: int) -> Recipe:
    """Return how the encoder is fine-tuned."""
    return Recipe(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, seed=seed, weight_decay=0.01)


def find_encoder(parameters: TrainParameters, folder: Path) -> EncoderConfig | None:
    """Return the encoder that is to teach, or None: none is wanted, or there is none and none is asked for.

    Args:
        parameters: The recipe.
        folder: Of its tokenizer.

    Raises:
        TrainingError: A teacher is asked for and cannot be had, or the texts may be too long for it.
    """
    wanted = parameters.teacher == "on" or (parameters.teacher == "auto" and parameters.labels == "human")
    if not wanted:
        return None
    found = encoder_config(folder)
    if found is None or parameters.network == "stacked":
        if parameters.teacher == "on":
            why = f"{folder} holds no BERT" if found is None else "the network `stacked` takes none"
            raise TrainingError(f"--teacher on asks for a teacher, but {why}: use --teacher off.")
        return None
    if parameters.max_tokens > found.max_position_embeddings:
        raise TrainingError(
            f"The teacher in {folder} reads {found.max_position_embeddings} tokens at most: lower "
            f"--max-tokens (now {parameters.max_tokens}), or use --teacher off."
        )
    return found


def teach(
    folder: Path,
    config: EncoderConfig,
    train: Examples,
    validation: Examples,
    seed: int,
    state: State | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[State], None] = lambda state: None,
    precision: Precision = "auto",
    crew: Crew | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fine-tune an encoder and return what it says of the training and the validation rows, float32 (n, 3).

    Distilling a large network into a small one: Hinton et al., Distilling the Knowledge in a Neural Network
    (2015); into a biLSTM: Tang et al., Distilling Task-Specific Knowledge from BERT (2019).

    Args:
        folder: Has the encoder, see `tasks.tokens.tokenizer_folder`.
        config: What the folder says of it.
        train: What it learns.
        validation: What decides which epoch is best.
        seed: Of everything random.
        state: See `tasks.training.fit_network`.
        on_step: See `tasks.training.fit_network`.
        on_epoch: See `tasks.training.fit_network`.
        precision: See `tasks.device.for_large_products`.
        crew: See `tasks.training.fit_network`.

    Raises:
        TrainingError: See `tasks.training.fit_network`.
        TokenizerError: The folder's weights are broken.
    """
    from scipy.special import softmax

    precision = for_large_products(precision)
    with reckoning(precision):
        lower = build_encoder(folder, config, TRAINED_LAYERS).lower
    train, validation = (
        replace(part, tokens=read_states(lower, part.tokens)) for part in (train, validation)
    )

    def build() -> "keras.Model":
        return build_encoder(folder, config, TRAINED_LAYERS).upper

    model = build_shared(build, seed, precision, crew)
    try:
        fit_network(model, recipe(seed), train, validation, state, on_step, on_epoch, crew)
    except NotANumberError as error:  # of its rate, which no flag changes
        raise TrainingError(
            f"The teacher in {folder} cannot be fine-tuned, its loss is not a number: use --teacher off."
        ) from error
    if crew is not None:
        model = plain(model, build, precision, crew)
    prior = train.log_prior()
    found = logits(model, train.tokens) + prior, logits(model, validation.tokens)
    return softmax(found[0], axis=1), softmax(found[1], axis=1)


def blend(train: Examples, soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the network is to answer, float32 (n, 3): the label in part, in part what the teacher says.

    Args:
        train: The rows, with their labels.
        soft: float32 (n, 3), what the teacher says.
    """
    return (1 - TRUST) * replace(train, soft=None).distributions() + TRUST * soft
