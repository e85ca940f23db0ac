"""The teacher: an encoder fine-tuned on the rows, which tells the network how probable each label is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.dataset import number_of_batches
from tasks.device import Precision, TrainingError, explained, for_large_products, reckoning
from tasks.encoder import AT_ONCE, EncoderConfig, build_encoder, encoder_config, read_states
from tasks.excerpts import cut
from tasks.progress import logger
from tasks.strategy import Crew
from tasks.tokens import Tokens
from tasks.training import (
    Examples,
    NotANumberError,
    Recipe,
    State,
    TrainParameters,
    best_epoch,
    build_shared,
    fit_network,
    logits,
    plain,
)

if TYPE_CHECKING:
    import keras
    from tokenizers import Tokenizer

TRAINED_LAYERS = 3
SEED = 1
EPOCHS = 2
BATCH = 32
RATE = 1e-4
TRUST = np.float32(0.7)


class Taught(NamedTuple):
    """How probable an encoder finds each label, float32 (n, 3) each."""

    train: NDArray[np.float32]
    excerpts: NDArray[np.float32]
    validation: NDArray[np.float32]


class Course(NamedTuple):
    """What an encoder learns, and what it is asked thereafter.

    Args:
        folder: Has the encoder, see `tasks.tokens.tokenizer_folder`.
        config: What the folder says of it.
        train: What it learns.
        validation: What decides which epoch is best.
        excerpts: Of the texts to train on, see `tasks.excerpts.cut`.
    """

    folder: Path
    config: EncoderConfig
    train: Examples
    validation: Examples
    excerpts: Tokens

    @property
    def readings(self) -> int:
        """Batches of texts that the encoder's lower layers read, once each."""
        texts = self.train.tokens, self.validation.tokens, self.excerpts
        return sum(number_of_batches(some, AT_ONCE) for some in texts)


def recipe() -> Recipe:
    """Return how the encoder is fine-tuned, whatever the seed of the network that learns from it."""
    return Recipe(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, seed=SEED, weight_decay=0.01)


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


def plan(
    folder: Path, config: EncoderConfig, train: Examples, validation: Examples, tokenizer: "Tokenizer"
) -> Course:
    """Return what an encoder learns from rows, see `Course`.

    Args:
        folder: See `Course`.
        config: See `Course`.
        train: See `Course`.
        validation: See `Course`.
        tokenizer: What encoded the rows.
    """
    return Course(folder, config, train, validation, cut(train.tokens, tokenizer))


@explained("the teacher", "use --teacher off")
def teach(
    course: Course,
    state: State | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[State], None] = lambda state: None,
    precision: Precision = "auto",
    crew: Crew | None = None,
) -> Taught:
    """Fine-tune an encoder and return what it says of the rows, and of excerpts.

    Distilling a large network into a small one: Hinton et al., Distilling the Knowledge in a Neural Network
    (2015); into a biLSTM: Tang et al., Distilling Task-Specific Knowledge from BERT (2019).

    Args:
        course: What it learns.
        state: See `tasks.training.fit_network`.
        on_step: Called after each batch with 1, of `tasks.encoder.read_states` too.
        on_epoch: See `tasks.training.fit_network`.
        precision: See `tasks.device.for_large_products`.
        crew: See `tasks.training.fit_network`.

    Raises:
        TrainingError: See `tasks.training.fit_network`; the device is too small or busy.
        TokenizerError: The folder's weights are broken.
    """
    from scipy.special import softmax

    folder, config, train, validation, excerpts = course
    precision = for_large_products(precision)
    with reckoning(precision):
        lower = build_encoder(folder, config, TRAINED_LAYERS).lower
    train, validation = (
        replace(part, tokens=read_states(lower, part.tokens, on_step)) for part in (train, validation)
    )
    excerpts = read_states(lower, excerpts, on_step)

    def build() -> "keras.Model":
        return build_encoder(folder, config, TRAINED_LAYERS).upper

    model = build_shared(build, SEED, precision, crew)
    try:
        ended, stopped = fit_network(model, recipe(), train, validation, state, on_step, on_epoch, crew)
    except NotANumberError as error:  # of its rate, which no flag changes
        raise TrainingError(
            f"The teacher in {folder} cannot be fine-tuned, its loss is not a number: use --teacher off."
        ) from error
    if stopped == "not a number":
        logger().warning(
            "In epoch %s the teacher's loss was no number any more: the weights of epoch %s are kept.",
            *(len(ended.history) + 1, best_epoch(ended.history) + 1),
        )
    if crew is not None:
        model = plain(model, build, precision, crew)
    prior = train.log_prior()
    return Taught(
        softmax(logits(model, train.tokens) + prior, axis=1),
        softmax(logits(model, excerpts) + prior, axis=1),
        softmax(logits(model, validation.tokens), axis=1),
    )


def blend(train: Examples, soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the network is to answer, float32 (n, 3): the label in part, in part what the teacher says.

    Args:
        train: The rows, with their labels.
        soft: float32 (n, 3), what the teacher says.
    """
    return (1 - TRUST) * replace(train, soft=None).distributions() + TRUST * soft
