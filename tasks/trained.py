"""Trained: what a fit leaves in the lake, so that it outlasts whatever happens before it is published."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.lake import Lake, LakeError
from containers.serve.predictor import MANIFEST, NETWORK, TOKENIZER, BundleError, Predictor
from tasks.checkpoint import DAMAGED
from tasks.evaluation import Scores
from tasks.quantization import Quantization
from tasks.training import Epoch, Stopped, TrainParameters

BUNDLE = (NETWORK, TOKENIZER, MANIFEST)


class Fit(BaseModel):
    """What is known of a fit when it begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str = Field(description="Fingerprint of rows, recipe and code.")
    key: str = Field(description="Name of this very fit, by which its MLflow run is found.")
    parameters: TrainParameters = Field(description="The recipe.")
    device: str = Field(description="What the network is trained on.")
    flow_run: str = Field(description="Prefect's flow run.")
    began: int = Field(description="Milliseconds since 1970.")
    inputs: dict[str, dict[str, str]] = Field(description="MLflow datasets by what they are used for.")


class Stand(BaseModel):
    """What is known of a fit after an epoch, beside its state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Fit = Field(description="What was known when it began.")
    ends: tuple[int, ...] = Field(description="When each epoch ended, in milliseconds since 1970.")
    seconds: float = Field(description="Time of the fit so far.")


class Lesson(NamedTuple):
    """What the teacher says."""

    soft: NDArray[np.float32]
    """float32 (n, 3), how probable each label of a training row is."""
    excerpts: NDArray[np.float32]
    """float32 (m, 3), the same of each excerpt, see `tasks.excerpts.cut`."""
    macro_recall: float
    """Its own, on the validation rows."""


class Trained(BaseModel):
    """What a fit made, beside the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Fit = Field(description="What was known before.")
    rows: int = Field(description="Rows learned from.")
    epochs: tuple[Epoch, ...] = Field(description="Metrics of each epoch.")
    ends: tuple[int, ...] = Field(description="When each epoch ended, in milliseconds since 1970.")
    stopped: Stopped = Field(description="Why there were no more epochs.")
    quantization: Quantization = Field(description="What became of the weights.")
    teacher: float | None = Field(
        description="Macro recall on the validation rows of the encoder that was learned from, if any."
    )
    scores: tuple[Scores, ...] = Field(description="Scores on the validation rows, by kind of labels.")
    seconds: float = Field(description="Time of the fit.")
    digest: str = Field(description="Of the bundle.")


class Fitted(NamedTuple):
    """A fit that is not in the lake yet."""

    trained: Trained
    bundle: dict[str, bytes]
    """Content of the bundle's files, by name."""


def find_trained(lake: Lake, identity: str) -> Trained | None:
    """Return what a finished fit left, or None: one that was cut short leaves no manifest."""
    manifest = _key(identity, "manifest.json")
    try:
        return Trained.model_validate_json(lake.read(manifest)) if lake.exists(manifest) else None
    except ValidationError:  # written by another version of this code
        return None


def write_trained(lake: Lake, fitted: Fitted) -> None:
    """Write the bundle, then the manifest that makes it count."""
    fit = fitted.trained.fit
    for name, content in fitted.bundle.items():
        lake.write(_key(fit.identity, fit.key, name), content)
    lake.write(_key(fit.identity, "manifest.json"), fitted.trained.model_dump_json(indent=2).encode())


def fetch_bundle(lake: Lake, trained: Trained, folder: Path) -> Path:
    """Write the bundle of a fit into a folder and return it.

    Raises:
        LakeError: It is damaged or gone.
    """
    folder.mkdir(parents=True)
    fit = trained.fit
    try:
        for name in BUNDLE:
            (folder / name).write_bytes(lake.read(_key(fit.identity, fit.key, name)))
        if Predictor(folder).digest != trained.digest:
            raise BundleError("It is not the one that the manifest names.")
    except (BundleError, FileNotFoundError) as error:
        raise LakeError(
            f"The bundle in {lake.uri(_key(fit.identity))} is damaged: delete that folder and run "
            "again: it is made anew."
        ) from error
    return folder


def write_lesson(lake: Lake, identity: str, lesson: Lesson) -> None:
    """Keep what a teacher says, for all networks that are to learn it.

    Args:
        lake: Where to.
        identity: Fingerprint of what the lesson depends on.
        lesson: What it says.
    """
    buffer = BytesIO()
    np.savez(buffer, soft=lesson.soft, excerpts=lesson.excerpts, macro_recall=lesson.macro_recall)
    lake.write(lesson_key(identity), buffer.getvalue())


def find_lesson(lake: Lake, identity: str) -> Lesson | None:
    """Return what a teacher said, or None if it did not come to that, or what there is cannot be read."""
    if not lake.exists(lesson_key(identity)):
        return None
    try:
        with np.load(BytesIO(lake.read(lesson_key(identity)))) as arrays:
            return Lesson(arrays["soft"], arrays["excerpts"], float(arrays["macro_recall"]))
    except DAMAGED:
        return None


def read_lesson(lake: Lake, identity: str) -> Lesson:
    """Return what a teacher said.

    Raises:
        LakeError: It is damaged or gone.
    """
    found = find_lesson(lake, identity)
    if found is None:
        raise LakeError(
            f"What the teacher said, {lake.uri(lesson_key(identity))}, is damaged or gone: run again, and it "
            "is taught anew."
        )
    return found


def remove_scratch(lake: Lake, identity: str) -> None:
    """Remove what only a fit that is not done needs."""
    lake.remove(_scratch(identity))


def lesson_key(identity: str) -> str:
    """Return where the lake has what a teacher says."""
    return f"lessons/{identity}.npz"


def checkpoint_key(identity: str) -> str:
    """Return where the lake has how far a fit has come, of a network or of a teacher."""
    return f"{_scratch(identity)}/state.npz"


def _scratch(identity: str) -> str:
    return _key(identity, "unfinished")


def _key(*parts: str) -> str:
    return "/".join(("trained", *parts))
