"""Made-up tweets, and networks of the real size with random weights: speed depends on neither."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from containers.serve.predictor import Predictor
from tasks import bundle, network, tokens
from tasks.device import native_silence
from tests.tweets import FILLING, TELLING

if TYPE_CHECKING:
    import keras
    from tokenizers import Tokenizer

TELLING_WORDS = [word for words in TELLING for word in words]
WORDS = [*FILLING, *TELLING_WORDS, "isn't", "not", "so", "London", "Anna", "2021"]
ENDS = ["", "#late", "https://example.org/a", "@someone", "😀"]


def short(draw: random.Random) -> int:
    """Return a number of words from 8 to 24."""
    return draw.randint(8, 24)


def usual(draw: random.Random) -> int:
    """Return a number of words that gives the lengths of real tweets: median 30 wordpieces, p99 45."""
    return min(max(3, round(draw.gauss(24, 6))), 48)


def texts(count: int, seed: int, length: Callable[[random.Random], int] = usual) -> list[str]:
    """Return distinct texts, some with a hashtag, a link or a handle."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        words = draw.choices(WORDS, k=length(draw))
        words += draw.choices(ENDS, k=1)
        found.append(f"{' '.join(words)} {number}")
    return found


def tweets(count: int, seed: int) -> pl.DataFrame:
    """Return rows as the benchmark reads them."""
    draw = random.Random(f"labels {seed}")
    labels = [draw.randrange(3) for _ in range(count)]
    rows = pl.DataFrame({"id": [f"made-up:{n:06}" for n in range(count)], "text": texts(count, seed, short)})
    return rows.with_columns(
        label=pl.Series(labels, dtype=pl.Int8),
        human_label=pl.Series(labels, dtype=pl.Int8),
        lang=pl.lit("en"),
        source=pl.lit("made-up"),
        created_at=pl.lit("2024-05-01").str.to_datetime(time_unit="us", time_zone="UTC"),
    )


def offline_tokenizer() -> "Tokenizer":
    """Return the default tokenizer."""
    return tokens.build_tokenizer(tokens.tokenizer_folder(tokens.OFFLINE))


def untrained(name: network.NetworkName, seed: int = 1) -> "keras.Model":
    """Return a network of the real size."""
    with native_silence():
        import keras

    keras.utils.set_random_seed(seed)
    size = offline_tokenizer().get_vocab_size()
    return network.build_network(
        name, size, tokens.word_embeddings(tokens.tokenizer_folder(tokens.OFFLINE), size)
    )


def looped(model: "keras.Model") -> "keras.Model":
    """Return a network with its LSTMs made loops, on a GPU, too, where cuDNN would run them."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            layer.forward_layer.use_cudnn = layer.backward_layer.use_cudnn = False
    return model


def predictor(folder: Path, seed: int) -> Predictor:
    """Return the default network with random weights, exported as training does."""
    return bundle.write_bundle(
        untrained("pooled", seed), offline_tokenizer(), folder, {"network": "pooled"}, ["a text"]
    )
