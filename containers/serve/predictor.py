"""A bundle answers texts: network, tokenizer and labels in one folder, and nothing else of the project.

The folder holds
    bundle.json     {"format": 1, "labels": [...], "files": {name: SHA-256}} and what else the builder adds
    model.onnx      input_ids int32 (batch, time), 0 on the right; lengths int32 (batch,)
                    → probabilities float32 (batch, labels)
    tokenizer.json  cleans in its normalizer, truncates, and adds special tokens, so no text has length 0
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

FORMAT = 1
MANIFEST, NETWORK, TOKENIZER = "bundle.json", "model.onnx", "tokenizer.json"
BATCH = 16  # as fast a token as in longer ones, with less padding and less memory
WINDOW = 4096  # texts tokenised at a time: sorts well, and bounds memory however many texts come
CHARACTERS = 65_536  # read of one text; the tokenizer keeps far less, but would clean megabytes first


class BundleError(ValueError):
    """Raised when a folder is not a usable bundle; names the file and the remedy."""


class Predictor:
    """Texts in, probabilities out. May be called from several threads at once."""

    labels: tuple[str, ...]
    """Label names, in the order of the network's output."""
    columns: tuple[str, ...]
    """Keys of a prediction: `label`, then `p_<label>` in alphabetical order."""
    digest: str
    """SHA-256 of bundle.json, in hex. As that file holds the other files' sums, it stands for the whole."""
    metadata: dict[str, Any]
    """All that bundle.json says."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Load a bundle and let it answer once, which warms it up and proves that its parts fit.

        Args:
            folder: The bundle.
            threads: Threads that one call of the network may use.

        Raises:
            BundleError: A file is missing, altered or unreadable, or the parts do not fit together.
        """
        self.metadata, self.digest = _manifest(folder)
        self.labels = tuple(self.metadata["labels"])
        self.columns = ("label", *sorted(f"p_{label}" for label in self.labels))
        self._tokenizer = _tokenizer(folder / TOKENIZER)
        self._session = _session(folder / NETWORK, threads)
        try:
            shape = self._predict([""]).shape
        except Exception as error:  # onnxruntime raises many types, and here each means the same
            raise BundleError(f"The bundle {folder} cannot answer: {error}. {_REMEDY}") from error
        if shape != (1, len(self.labels)):
            raise BundleError(
                f"{folder / NETWORK} answers one text in the shape {shape}, but {MANIFEST} names "
                f"{len(self.labels)} labels. {_REMEDY}"
            )

    def probabilities(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Return the probability of each label for each text.

        Args:
            texts: Any n strings as they were written: cleaning is the tokenizer's part.

        Returns:
            float32 (n, labels), columns in the order of `labels`, rows in the order of `texts`.

        Raises:
            TypeError: An element is not a string.
        """
        coming = enumerate(texts)
        parts = [np.empty((0, len(self.labels)), np.float32)]
        while window := list(islice(coming, WINDOW)):
            for index, text in window:
                if not isinstance(text, str):
                    raise TypeError(f"Text {index} is of type {type(text).__name__}: give a string instead.")
            parts.append(self._predict([text for _, text in window]))
        return np.concatenate(parts)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return each text's most probable `label` (str) and every `p_<label>` (float), see `columns`."""
        probabilities = self.probabilities(texts)
        columns = {f"p_{label}": probabilities[:, i].tolist() for i, label in enumerate(self.labels)}
        best = [self.labels[i] for i in probabilities.argmax(axis=1)]
        return [
            dict(zip(self.columns, row, strict=True))
            for row in zip(best, *(columns[name] for name in self.columns[1:]), strict=True)
        ]

    def _predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encodings = self._tokenizer.encode_batch_fast([_valid(text) for text in texts])
        lengths = np.array([len(encoding) for encoding in encodings], np.int32)
        # Texts of like length share a batch, so that hardly any of it is padding.
        order = np.argsort(lengths, kind="stable")
        parts = []
        for start in range(0, len(texts), BATCH):
            rows = order[start : start + BATCH]
            ids = np.zeros((len(rows), lengths[rows[-1]]), np.int32)  # (batch, time)
            for i, row in enumerate(rows):
                ids[i, : lengths[row]] = encodings[row].ids
            inputs = {"input_ids": ids, "lengths": lengths[rows]}
            parts += self._session.run(["probabilities"], inputs)
        result: NDArray[np.float32] = np.concatenate(parts)
        result[order] = result.copy()
        return result


_REMEDY = "Build the bundle again with `python -m flows.train`, or copy it again from where it is whole."


def _valid(text: str) -> str:
    """Cut `text` and replace lone surrogates, which UTF-8 cannot hold and the tokenizer refuses."""
    return text[:CHARACTERS].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what bundle.json says and its digest, having checked all files that it names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{path} is missing: {folder} is not a bundle, or a part of one. {_REMEDY}")
    content = path.read_bytes()
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}. {_REMEDY}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"{path} has format {found!r}, but this code reads format {FORMAT}: serve it with the version of "
            "the project that built it, or build it again with `python -m flows.train`."
        )
    labels, files = manifest.get("labels"), manifest.get("files")
    named = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not named or len(set(labels)) != len(labels) or len(labels) < 2:
        raise BundleError(f"{path} must have `labels`: two or more different names. {_REMEDY}")
    if not isinstance(files, dict) or not {NETWORK, TOKENIZER} <= files.keys():
        raise BundleError(
            f"{path} must have `files` with the SHA-256 of {NETWORK} and {TOKENIZER}. {_REMEDY}"
        )
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name} is missing, but {MANIFEST} names it. {_REMEDY}")
        with (folder / name).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != expected:
            raise BundleError(
                f"{folder / name} was altered: its SHA-256 is {actual}, but {MANIFEST} says {expected}. "
                f"{_REMEDY}"
            )
    return manifest, hashlib.sha256(content).hexdigest()


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise BundleError(f"{path} is not a tokenizer: {error}. {_REMEDY}") from error
    if tokenizer.truncation is None:
        raise BundleError(f"{path} sets no truncation, so one long text could fill the memory. {_REMEDY}")
    tokenizer.no_padding()  # batches are padded here, to their own longest text
    return tokenizer


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads sleep instead of burning the core that the next request needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its error types share no base class of their own
        raise BundleError(f"{path} is not a network that onnxruntime can run: {error}. {_REMEDY}") from error
