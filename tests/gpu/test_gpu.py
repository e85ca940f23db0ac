"""On a GPU cuDNN runs the LSTMs, what is learned is right and the same twice, and what fails is told."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.bundle import write_bundle
from tasks.device import prepare_device
from tasks.encoder import build_encoder, encoder_config, read_states
from tasks.network import NetworkName, build_network
from tasks.teacher import TRAINED_LAYERS, Course, teach
from tasks.tokens import OFFLINE, build_tokenizer, encode, tokenizer_folder, word_embeddings
from tasks.training import Examples, TrainParameters, fit, logits
from tests.measures.made_up import looped, texts
from tests.tasks.test_strategy import SCRIPT
from tests.tasks.test_training import EMBEDDINGS, RECIPE, VOCABULARY, balanced, predicted

ROOT = Path(__file__).resolve().parents[2]
FOLDER = tokenizer_folder(OFFLINE)

# Fits in a process of its own, since memory is shared out once a process: megabytes to take, rows, batch.
FIT = """
import sys
from tasks.device import TrainingError, prepare_device
prepare_device(True)
import tensorflow as tf
limit, rows, batch = map(int, sys.argv[1:])
if limit:
    gpu = tf.config.list_physical_devices("GPU")[0]
    tf.config.experimental.set_memory_growth(gpu, False)
    some = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
    tf.config.set_logical_device_configuration(gpu, [some])
from tests.tasks.test_training import EMBEDDINGS, RECIPE, VOCABULARY, balanced
from tasks.training import TrainParameters, fit
parameters = TrainParameters.model_validate(RECIPE | {"batch_size": batch, "epochs": 1})
try:
    fit(parameters, balanced(rows, 1), balanced(30, 2), VOCABULARY, EMBEDDINGS)
except TrainingError as error:
    print("told:", error)
"""
HOLD = """
import sys, time
import tensorflow as tf
gpu = tf.config.list_physical_devices("GPU")[0]
memory = int(sys.argv[1])
tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=memory)])
tf.constant(1.0) + 1
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def gpu() -> str:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no GPU")
    return prepare_device(require_gpu=True)


def examples(rows: int, seed: int) -> Examples:
    """Made-up tweets, whose label is whether they have an odd number at the end."""
    found = texts(rows, seed)
    labels = np.array([int(text.rsplit(" ", 1)[1]) % 2 for text in found], np.int8)
    return Examples(encode(build_tokenizer(FOLDER), found), labels)


def free_megabytes() -> int:
    told = subprocess.check_output(
        ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"], text=True
    )
    return int(told.splitlines()[0])


def told_by(*arguments: int) -> str:
    result = subprocess.run(
        [sys.executable, "-c", FIT, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1] if result.stdout else ""


def operations(model: keras.Model, training: bool) -> list[str]:
    """Return what TensorFlow runs for a network, functions and loops included."""

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def run(ids: tf.Tensor) -> tf.Tensor:
        return model(ids, training=training)

    graph = run.get_concrete_function().graph.as_graph_def()
    functions = (node for function in graph.library.function for node in function.node_def)
    return [node.op for node in (*graph.node, *functions)]


@pytest.mark.parametrize("name", ["pooled", "stacked"])
@pytest.mark.parametrize("training", [True, False])
def test_cudnn_runs_every_lstm(name: NetworkName, training: bool) -> None:
    model = build_network(name, VOCABULARY, EMBEDDINGS)
    layers = {"pooled": 1, "stacked": 3}[name]

    found = operations(model, training)
    assert found.count("CudnnRNNV3") == 2 * layers
    assert not {op for op in found if "While" in op}


def test_two_fits_give_equal_weights_that_answer_as_on_a_cpu() -> None:
    train, validation = balanced(600, 1), balanced(120, 2)
    parameters = TrainParameters.model_validate(RECIPE | {"require_gpu": True})
    (model, state, _), (again, _, _) = (
        fit(parameters, train, validation, VOCABULARY, EMBEDDINGS) for _ in range(2)
    )
    assert np.mean(predicted(model, validation) == validation.targets) > 0.9
    assert state.history[-1]["loss"] < 0.7 * state.history[0]["loss"]
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # Without cuDNN, or it goes to the GPU all the same.
    elsewhere = looped(build_network("pooled", VOCABULARY, EMBEDDINGS))
    elsewhere.set_weights(model.get_weights())
    with tf.device("CPU"):
        np.testing.assert_allclose(
            logits(elsewhere, validation.tokens), logits(model, validation.tokens), atol=1e-4
        )
    assert "CudnnRNNV3" not in operations(elsewhere, training=False)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_the_default_network_is_fit_and_exported(precision: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(FOLDER)
    size = tokenizer.get_vocab_size()
    parameters = TrainParameters(precision=precision, epochs=1, batch_size=32)
    model, state, _ = fit(parameters, examples(640, 1), examples(64, 2), size, word_embeddings(FOLDER, size))
    assert np.isfinite(list(state.history[0].values())).all()
    # Raises if ONNX, on the CPU, says something else by 1e-5: 19 bits of TensorFloat-32 would be too few.
    write_bundle(model, tokenizer, tmp_path / "bundle", {"network": "pooled"}, texts(200, 3))


def test_sixteen_bits_learn_and_leave_weights_of_thirty_two() -> None:
    train, validation = balanced(600, 1), balanced(120, 2)
    parameters = TrainParameters.model_validate(RECIPE | {"precision": "mixed"})
    model, _, _ = fit(parameters, train, validation, VOCABULARY, EMBEDDINGS)
    assert np.mean(predicted(model, validation) == validation.targets) > 0.9
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype("float32")}


@pytest.mark.parametrize("precision", ["auto", "mixed"])
def test_the_teacher_is_fine_tuned(precision: str) -> None:
    config = encoder_config(FOLDER)
    assert config is not None
    train, validation = examples(640, 1), examples(64, 2)
    excerpts = encode(build_tokenizer(FOLDER), texts(32, 3))
    taught = teach(Course(FOLDER, config, train, validation, excerpts), precision=precision)
    for found, rows in zip(taught, (640, 32, 64), strict=True):
        assert found.shape == (rows, 3)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.mean(taught.train.argmax(axis=1) == train.targets) > 0.6


def test_the_encoder_says_what_it_says_on_the_cpu() -> None:
    config = encoder_config(FOLDER)
    assert config is not None
    tokens = encode(build_tokenizer(FOLDER), texts(64, 4))
    there = read_states(build_encoder(FOLDER, config, TRAINED_LAYERS).lower, tokens)
    with tf.device("CPU"):
        here = read_states(build_encoder(FOLDER, config, TRAINED_LAYERS).lower, tokens)
    np.testing.assert_allclose(there.values, here.values, atol=4e-3)  # of float16, up to 4


def test_a_batch_that_does_not_fit_is_told() -> None:
    told = told_by(64, 300_000, 300_000)
    assert "has not enough memory for batches of 300000 rows: lower --batch-size" in told
    assert "The GPU NVIDIA" in told or "The GPU Tesla" in told


@pytest.fixture
def held() -> Iterator[int]:
    """Let another process hold the GPU's memory but for a little; return how many MB are left."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(free_megabytes() - 700)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield free_megabytes()
    finally:
        process.kill()
        process.wait()


def test_a_busy_gpu_is_told(held: int) -> None:
    told = told_by(0, 100_000, 100_000)
    assert told.startswith("told: The GPU "), f"{held} MB were free"
    assert "nvidia-smi shows that" in told
    assert "--batch-size" in told


def test_two_devices_of_a_gpu_make_the_weights_of_one(tmp_path: Path) -> None:
    weights, told = [], []
    for name in ("one", "mirrored"):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, str(tmp_path / f"{name}.npz")],
            cwd=ROOT,
            env=os.environ | {"TF_CONFIG": "{}"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        told.append(result.stdout.splitlines()[-1].split("|"))
        file = np.load(tmp_path / f"{name}.npz")
        weights.append([file[key] for key in file.files])
    assert [each[0] for each in told] == ["None", "2 devices on this host"]
    np.testing.assert_allclose(json.loads(told[0][3]), json.loads(told[1][3]), atol=1e-4)
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)
