"""Serving inside the process, one thread: the bundle and what could answer in its place, from the text on."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from containers.serve.predictor import Predictor
from tasks.device import native_silence
from tasks.quantization import write_int8
from tests.measures.client import MlflowClient
from tests.measures.figures import Figure, Rounds, Size, repeated
from tests.measures.made_up import offline_tokenizer, predictor, texts, untrained

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PART = "serving in the process, one thread"
BATCH = 64
INT8, FP32 = "int8 bundle", "fp32 bundle"
KERAS, SAVED, REFERENCE = "Keras predict", "TensorFlow SavedModel", "reference graph padded, predict"
MLFLOW = "MLflow's server, over HTTP"

Answer = Callable[[list[str]], object]


def write_bundles(folder: Path) -> None:
    """Write the default network with random weights, with weights of 32 and of 8 bits: `fp32` and `int8`."""
    write_int8(folder / "fp32", predictor(folder / "fp32", 1), folder / "int8")


def measure(size: Size, folder: Path) -> list[Figure]:
    """Return p50 and p99 of a tweet, and tweets/s in batches of 64, of each way to answer.

    Args:
        size: How much is measured.
        folder: See `write_bundles`.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tweets = texts(64 * BATCH, 2)
    single, batch = (
        cycle([text] for text in tweets),
        cycle(tweets[start : start + BATCH] for start in range(0, len(tweets), BATCH)),
    )
    with servers(size, folder) as answers:
        found = Rounds()
        for turn in range(size.rounds + 1):
            for name, answer in answers.items():
                seconds, least = (size.seconds, 3) if turn else (0, 8)
                alone = _asked(answer, single, seconds, least)
                many = [] if name == MLFLOW else _asked(answer, batch, seconds, 3)
                if turn == 0:
                    continue  # warm-up: TensorFlow traces a graph for the first few lengths that it sees
                found.add(f"{name}, p50", 1e3 * float(np.percentile(alone, 50)))
                found.add(f"{name}, p99", 1e3 * float(np.percentile(alone, 99)))
                if many:
                    found.add(f"{name}, batches", BATCH * len(many) / sum(many))
    return list(_figures(found, list(answers)))


def _asked(answer: Answer, texts: Iterator[list[str]], seconds: float, least: int) -> list[float]:
    return repeated(lambda: answer(next(texts)), seconds, least)


def _figures(found: Rounds, names: Sequence[str]) -> Iterator[Figure]:
    for name in names:
        ours = name == INT8
        yield Figure(PART, f"{name}, p50", "ms", found[f"{name}, p50"], most=0.5 if ours else None)
        yield Figure(PART, f"{name}, p99", "ms", found[f"{name}, p99"], most=3 if ours else None)
        if name != MLFLOW:
            rates = found[f"{name}, batches"]
            yield Figure(PART, f"{name}, batches of {BATCH}", "tweets/s", rates, least=6000 if ours else None)
    for name in names[1:]:
        yield Figure(
            PART, f"int8 bundle against {name}, p50", "×", found.ratio(f"{name}, p50", f"{INT8}, p50")
        )
        if name != MLFLOW:
            ratios = found.ratio(f"{INT8}, batches", f"{name}, batches")
            yield Figure(PART, f"int8 bundle against {name}, batches", "×", ratios)


@contextmanager
def servers(size: Size, folder: Path) -> Iterator[dict[str, Answer]]:
    """Give the ways to answer texts, by name; the bundle comes first."""
    with native_silence():
        import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tokenizer = offline_tokenizer()
    model, reference = untrained("pooled"), untrained("stacked")
    model.export(str(folder / "saved"), verbose=False)
    saved = tf.saved_model.load(str(folder / "saved"))

    def by_keras(network: Any, length: int | None = None) -> Answer:
        return lambda batch: tf.nn.softmax(
            network.predict(padded(tokenizer, batch, length), verbose=0)
        ).numpy()

    answers: dict[str, Answer] = {
        INT8: Predictor(folder / "int8").predict,
        FP32: Predictor(folder / "fp32").predict,
        KERAS: by_keras(model),
        SAVED: lambda batch: tf.nn.softmax(saved.serve(padded(tokenizer, batch))).numpy(),
        REFERENCE: by_keras(reference, size.padded),
    }
    if not size.mlflow:
        yield answers
        return
    with MlflowClient(folder / "int8", folder / "mlflow") as client:
        yield answers | {MLFLOW: client.ask}


def padded(tokenizer: "Tokenizer", batch: list[str], length: int | None = None) -> "np.ndarray[Any, Any]":
    """Return int32 (B, T): the wordpieces, and 0 up to the longest text or the length."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(batch)]
    ids = np.zeros((len(rows), length or max(map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row[: ids.shape[1]]
    return ids
