"""Material: rows as the numbers that a network is fit on, and the fingerprint of what a fit depends on."""

import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import (
    cleaning,
    dataset,
    device,
    drills,
    encoder,
    excerpts,
    names,
    network,
    optimizer,
    phrases,
    teacher,
    tokens,
    training,
    vocabulary,
)
from tasks.fingerprint import fingerprint
from tasks.rows import Labelled
from tasks.strategy import Crew
from tasks.trained import Lesson
from tasks.training import Examples, FitParameters, TrainParameters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COMMON = cleaning, dataset, device, optimizer, tokens, training
CODE = *COMMON, drills, excerpts, names, network, phrases, vocabulary
"""Modules that decide what comes of a fit without a teacher."""
TAUGHT = encoder, excerpts, teacher
"""Modules that, with the common ones, decide what a teacher says."""
PACKAGES = "tensorflow", "keras", "tokenizers"


def identity(
    recipe: FitParameters, chosen: Labelled, *modules: ModuleType, packages: tuple[str, ...] = ()
) -> str:
    """Return the fingerprint of what a fit depends on: rows, recipe, tokenizer, code, packages.

    Args:
        recipe: All flags count but `require_gpu`.
        chosen: The rows.
        modules: Whose code counts, beside that of a fit without a teacher.
        packages: Whose version counts, beside those that fit.
    """
    anywhere = recipe.model_copy(update={"require_gpu": False})
    inputs = chosen.digest, tokens.tokenizer_digest(recipe.tokenizer), anywhere
    return fingerprint(*inputs, sys.modules[__name__], *CODE, *modules, packages=(*PACKAGES, *packages))


def lesson_identity(parameters: TrainParameters, chosen: Labelled) -> str:
    """Return the fingerprint of what a teacher says of rows: it is the same for networks of other recipes."""
    subject = parameters.model_dump(include={"labels", "tokenizer", "max_tokens", "precision"})
    inputs = chosen.digest, tokens.tokenizer_digest(parameters.tokenizer), subject
    return fingerprint(*inputs, *COMMON, *TAUGHT, packages=PACKAGES)


class Material(NamedTuple):
    """What a network is fit on, as `tasks.training.fit` takes it."""

    tokenizer: "Tokenizer"
    train: Examples
    validation: Examples
    vocabulary_size: int
    embeddings: NDArray[np.float32] | None


def prepare(parameters: TrainParameters, chosen: Labelled) -> Material:
    """Return labelled rows as numbers, with the tokenizer that made them so.

    Args:
        parameters: The recipe.
        chosen: See `tasks.rows.labelled_rows`.
    """
    source = tokens.tokenizer_folder(parameters.tokenizer)
    tokenizer = tokens.build_tokenizer(source, parameters.max_tokens)
    size = tokenizer.get_vocab_size()
    train, validation = (
        Examples(tokens.encode(tokenizer, part), part.targets) for part in (chosen.train, chosen.validation)
    )
    embeddings = tokens.word_embeddings(source, size) if parameters.network == "pooled" else None
    return Material(tokenizer, train, validation, size, embeddings)


def complete(
    parameters: TrainParameters, material: Material, lesson: Lesson | None = None, crew: Crew | None = None
) -> Material:
    """Return what a network is fit on: the rows with what a teacher says of them, and drills if wanted.

    With drills, names of groups of people are exchanged in the rows, too: see `tasks.names`.

    Args:
        parameters: The recipe.
        material: See `prepare`.
        lesson: What the teacher says; helpers have that from the chief.
        crew: See `tasks.training.fit_network`.
    """
    train = material.train
    if crew is not None:
        lesson = crew.share(lesson)
    if lesson is not None:
        train = replace(train, soft=teacher.blend(train, lesson.soft))
        train = train.with_made_up(excerpts.cut(train.tokens, material.tokenizer), lesson.excerpts)
    if drills.wanted(parameters, len(material.train.targets)):
        train = names.exchange(train, material.tokenizer, parameters.seed)
        train = drills.add(train, material.tokenizer, parameters.seed)
    return material._replace(train=train)
