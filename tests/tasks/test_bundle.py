"""The exported network answers as the trained one does, and a bundle is its content and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from keras import Model, ops
from onnx import numpy_helper
from tokenizers import Tokenizer

from containers.serve.predictor import Predictor
from tasks import bundle
from tasks.bundle import ExportError, to_onnx, write_bundle
from tasks.network import NetworkName, build_network
from tasks.tokens import OFFLINE, build_tokenizer, tokenizer_folder

NETWORKS: tuple[NetworkName, ...] = ("pooled", "stacked")
MAX_TOKENS = 32
TOKENIZER = build_tokenizer(tokenizer_folder(OFFLINE), MAX_TOKENS)
TEXTS = [
    "",
    "no",
    "I can't believe it's over, what a lovely weekend \N{GRINNING FACE}",
    "The train is late again",
    "@you see https://t.co/x #now",
    "one eight token text is this here ok",
    "the [PAD] and the [pad] are words here",
    "so " * 20,
    "word " * 500,
]
METADATA = {"network": "pooled", "trained_on": "human"}


def network(name: NetworkName, seed: int = 0) -> Model:
    """A network of which every weight is random, biases too."""
    random = np.random.default_rng(seed)
    size = TOKENIZER.get_vocab_size()
    model = build_network(name, size, np.zeros((size, 8), np.float32))
    # Neither saturated nor flat.
    model.set_weights([random.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    return model


def trained(model: Model, texts: list[str], tokenizer: Tokenizer = TOKENIZER) -> np.ndarray:
    """What Keras itself answers, text by text without padding."""
    ids = [np.array([tokenizer.encode(text).ids], np.int32) for text in texts]
    return np.concatenate([ops.convert_to_numpy(ops.softmax(model(row, training=False))) for row in ids])


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest) -> Model:
    return network(request.param)


def test_keras_and_onnx_agree_at_every_length(model: Model, tmp_path: Path) -> None:
    lengths = [len(TOKENIZER.encode(text).ids) for text in TEXTS]
    assert (min(lengths), max(lengths)) == (2, MAX_TOKENS)
    assert len(set(lengths)) >= 6
    predictor = write_bundle(model, TOKENIZER, tmp_path / "new" / "bundle", METADATA, TEXTS)
    expected = trained(model, TEXTS)
    assert np.ptp(expected, axis=0).min() > 0.01, "the answers must differ for this to mean something"
    np.testing.assert_allclose(predictor.probabilities(TEXTS), expected, atol=1e-5)
    alone = np.concatenate([predictor.probabilities([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    loaded = Predictor(tmp_path / "new" / "bundle")
    assert loaded.digest == predictor.digest
    np.testing.assert_array_equal(loaded.probabilities(TEXTS), predictor.probabilities(TEXTS))


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    for folder, seed in (("one", 1), ("same", 1), ("other", 2)):
        write_bundle(network("pooled", seed), TOKENIZER, tmp_path / folder, METADATA, [])
    one, same, other = (
        {p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("one", "same", "other")
    )
    assert sorted(one) == ["bundle.json", "model.onnx", "tokenizer.json"]
    assert one == same
    assert one["model.onnx"] != other["model.onnx"]
    assert one["bundle.json"] != other["bundle.json"]


def test_layer_names_of_the_process_do_not_get_into_the_bytes() -> None:
    # Keras counts layers by process: the second network of a process has other names than the first.
    exported = [to_onnx(network("stacked", 3)).SerializeToString() for _ in range(2)]
    assert exported[0] == exported[1]


def test_manifest_says_what_is_in_the_folder(tmp_path: Path) -> None:
    predictor = write_bundle(network("pooled"), TOKENIZER, tmp_path, METADATA, ["What a day!"])
    content = (tmp_path / "bundle.json").read_bytes()
    manifest = json.loads(content)
    sums = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in tmp_path.iterdir()
        if p.name != "bundle.json"
    }
    assert (
        manifest
        == {"format": 1, "labels": ["neutral", "negative", "positive"], "files": sums, "precision": "fp32"}
        | METADATA
    )
    assert predictor.digest == hashlib.sha256(content).hexdigest()
    assert predictor.metadata == manifest


def test_the_tokenizer_goes_along_with_its_cleaning_and_its_limit(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tokenizer_folder(OFFLINE), 16)
    predictor = write_bundle(network("pooled"), tokenizer, tmp_path, METADATA, [])
    noisy, plain = predictor.probabilities(["@you #great  https://t.co/x", "great"])
    np.testing.assert_array_equal(noisy, plain)
    long, cut = predictor.probabilities(["good " * 200, "good " * 14])
    np.testing.assert_array_equal(long, cut)


def broken(spoil: Any) -> Any:
    def export(model: Model) -> onnx.ModelProto:
        exported = to_onnx(model)
        spoil(exported.graph)
        return exported

    return export


def shift_a_bias(graph: onnx.GraphProto) -> None:
    tensor = graph.initializer[-1]
    shifted = numpy_helper.to_array(tensor) + np.array([0, 0.01, 0], np.float32)
    tensor.CopyFrom(numpy_helper.from_array(shifted, tensor.name))


def make_nan(graph: onnx.GraphProto) -> None:
    tensor = graph.initializer[-1]
    tensor.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), tensor.name))


@pytest.mark.parametrize("spoil", [shift_a_bias, make_nan])
def test_an_export_that_differs_is_refused(
    spoil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "to_onnx", broken(spoil))
    with pytest.raises(ExportError, match=r"differs from the pooled network by .*tasks/bundle\.py"):
        write_bundle(network("pooled"), TOKENIZER, tmp_path, METADATA, TEXTS[:3])


def test_one_text_out_of_many_is_enough_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dropping `lengths` from the recurrent nodes shows only where a batch has padding.
    def forget_lengths(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if node.op_type == "LSTM":
                del node.input[4:]

    monkeypatch.setattr(bundle, "to_onnx", broken(forget_lengths))
    with pytest.raises(ExportError):
        write_bundle(
            network("stacked"), TOKENIZER, tmp_path, METADATA, ["long enough to pad the other", "no"]
        )
    write_bundle(network("stacked"), TOKENIZER, tmp_path, METADATA, ["one text alone"])
