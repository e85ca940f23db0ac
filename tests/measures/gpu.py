"""GPU: what cuDNN, 16 bits and large batches bring there, for the network and for its teacher."""

from typing import TYPE_CHECKING

import numpy as np

from tasks.dataset import batches
from tasks.device import Precision, prepare_device, reckoning
from tasks.encoder import build_encoder, encoder_config, read_states
from tasks.labelling import LABELS
from tasks.teacher import BATCH, TRAINED_LAYERS
from tasks.tokens import OFFLINE, Tokens, encode, tokenizer_folder
from tasks.training import Examples, Recipe, compile_network
from tests.measures.figures import Figure, Rounds, Size, timed
from tests.measures.made_up import looped, offline_tokenizer, texts, untrained
from tests.measures.training import WARM_UP, Course

if TYPE_CHECKING:
    import keras

PART = "GPU"
LARGE = 1024
LONGER = 2
"""So many times the steps that are measured on a CPU."""
TAUGHT = 2_000
"""Rows for the teacher, at most, whose states are kept."""


def measure(size: Size) -> list[Figure]:
    """Return tweets/s of the network and of its teacher, trained in several ways; nothing without a GPU."""
    import tensorflow as tf

    prepare_device(require_gpu=False)
    if not tf.config.list_physical_devices("GPU"):
        print("TensorFlow sees no GPU: nothing is measured on one.", flush=True)
        return []
    steps, small = LONGER * size.steps[2], size.batches[2]
    rows = encode(offline_tokenizer(), texts(size.rows, 1))
    some = encode(offline_tokenizer(), texts(min(TAUGHT, size.rows), 2))
    folder = tokenizer_folder(OFFLINE)
    config = encoder_config(folder)
    assert config is not None
    lower = build_encoder(folder, config, TRAINED_LAYERS).lower
    states = read_states(lower, some)

    def pooled(precision: Precision = "float32") -> "keras.Model":
        with reckoning(precision):
            return untrained("pooled")

    def teacher(precision: Precision) -> "keras.Model":
        with reckoning(precision):
            return build_encoder(folder, config, TRAINED_LAYERS).upper

    ways = {
        "pooled, its LSTM as a loop": _course(looped(pooled()), rows, small, steps // LONGER),
        "pooled": _course(pooled(), rows, small, steps),
        "pooled, mixed": _course(pooled("mixed"), rows, small, steps),
        f"pooled, batches of up to {LARGE}": _course(pooled(), rows, LARGE, steps),
        f"pooled, batches of up to {LARGE}, mixed": _course(pooled("mixed"), rows, LARGE, steps),
        "teacher": _course(teacher("float32"), states, BATCH, steps),
        "teacher, mixed": _course(teacher("mixed"), states, BATCH, steps),
    }
    found = Rounds()
    for _ in range(size.rounds):
        for name, course in ways.items():
            found.add(name, course.rows / course.run())
        found.add("teacher's lower layers", len(some.lengths) / timed(lambda: read_states(lower, some)))
    figures = [Figure(PART, name, "tweets/s", values) for name, values in found.values.items()]
    pairs = (
        ("pooled", "pooled, its LSTM as a loop"),
        ("pooled, mixed", "pooled"),
        (f"pooled, batches of up to {LARGE}, mixed", f"pooled, batches of up to {LARGE}"),
        ("teacher, mixed", "teacher"),
    )
    return figures + [
        Figure(PART, f"{over} against {under}", "×", found.ratio(over, under)) for over, under in pairs
    ]


def _course(model: "keras.Model", tokens: Tokens, batch: int, steps: int) -> Course:
    """Return steps of training that are warm: each length of text is a shape that cuDNN sees once."""
    labels = np.random.default_rng(1).integers(0, len(LABELS), len(tokens.lengths)).astype(np.int8)
    examples = Examples(tokens, labels)
    compile_network(model, Recipe(1, batch, learning_rate=1e-3, seed=1), examples.log_prior(), 1000)
    course = Course(model, batches(tokens, examples.distributions(), batch, 1).take(steps + WARM_UP))
    course.run()
    return course
