"""Weights of 8 bits are kept where the answers stay as good, and nowhere else."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from containers.serve.predictor import Predictor
from tasks.bundle import write_bundle
from tasks.network import NetworkName
from tasks.quantization import TOLERANCE, quantize_bundle
from tests.tasks.test_bundle import METADATA, TEXTS, TOKENIZER, network

RARE = TOKENIZER.get_vocab()["##zz"]
"""A wordpiece that is in none of the texts."""


def words(count: int) -> list[str]:
    vocabulary = sorted(word for word in TOKENIZER.get_vocab() if word.isalpha())
    random = np.random.default_rng(0)
    return [" ".join(random.choice(vocabulary, size=random.integers(1, 20))) for _ in range(count)]


def margin(predictor: Predictor, text: str) -> float:
    """By how much the network, which was never trained, prefers one label to another."""
    _, second, first = np.sort(predictor.probabilities([text])[0])
    return float(first - second)


@pytest.mark.parametrize("name", ["pooled", "stacked"])
def test_it_is_less_than_half_as_large_and_answers_the_same(name: NetworkName, tmp_path: Path) -> None:
    full = write_bundle(network(name), TOKENIZER, tmp_path, METADATA, TEXTS[:3])
    size = (tmp_path / "model.onnx").stat().st_size
    texts = [text for text in [*TEXTS, *words(600)] if margin(full, text) > 0.1]
    assert len(texts) > 100
    before = full.probabilities(texts)
    targets = before.argmax(axis=1).astype(np.int8)
    predictor, found = quantize_bundle(tmp_path, full, texts, targets)
    assert found.precision == "int8"
    assert found.fall is not None and found.fall <= TOLERANCE
    assert (tmp_path / "model.onnx").stat().st_size < 0.45 * size, "with the full embeddings, a quarter"
    assert found.megabytes == pytest.approx((tmp_path / "model.onnx").stat().st_size / 1e6, abs=0.05)
    difference = np.abs(predictor.probabilities(texts) - before)
    assert 0 < difference.max() < 0.1
    assert predictor.metadata == full.metadata | {"precision": "int8", "files": predictor.metadata["files"]}
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "DynamicQuantizeLSTM" in kinds and "LSTM" not in kinds
    layers = {"pooled": 4, "stacked": 3}  # dense ones, two of them in the attention
    assert kinds.count("MatMulInteger") == layers[name]
    assert Predictor(tmp_path).digest == predictor.digest


def test_it_stays_as_it_was_where_8_bits_cost_too_much(tmp_path: Path) -> None:
    model = network("pooled")
    weights = [2 * value for value in model.get_weights()]  # the labels shall differ
    weights[0][RARE] = 500  # against this, all other embeddings become the same few integers
    model.set_weights(weights)
    texts = words(200)
    full = write_bundle(model, TOKENIZER, tmp_path, METADATA, texts[:3])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    targets = full.probabilities(texts).argmax(axis=1).astype(np.int8)
    assert len(set(targets)) > 1
    predictor, found = quantize_bundle(tmp_path, full, texts, targets)
    assert found.precision == "fp32"
    assert found.fall is not None and found.fall > TOLERANCE
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(predictor.probabilities(texts), full.probabilities(texts))


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        full = write_bundle(network("pooled"), TOKENIZER, tmp_path / name, METADATA, [])
        quantize_bundle(
            tmp_path / name, full, TEXTS, full.probabilities(TEXTS).argmax(axis=1).astype(np.int8)
        )
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
