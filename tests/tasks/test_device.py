"""What a device cannot do is told with its name and a remedy; 16 bits learn as 32 do and leave 32."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tasks import device, teacher, workers
from tasks.bundle import to_onnx
from tasks.device import (
    TrainingError,
    explained,
    for_large_products,
    policy,
    unfit_for_cudnn,
    use_cudnn,
)
from tasks.encoder import encoder_config
from tasks.network import NetworkName, build_network
from tasks.teacher import Course
from tasks.tokens import OFFLINE, tokenizer_folder
from tasks.training import TrainParameters, fit
from tests.tasks.test_training import EMBEDDINGS, RECIPE, VOCABULARY, balanced, predicted


class Card:
    """Let TensorFlow see a GPU that this machine has not."""

    name = "/physical_device:GPU:0"
    device_type = "GPU"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    details: dict[str, Any] = {"device_name": "Tesla K80", "compute_capability": (3, 7)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [Card()])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    return details


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nmore"),
            r"The GPU Tesla K80 has not enough memory for batches of 48 rows: lower --batch-size, or free it"
            r".*TensorFlow says: OOM when allocating tensor$",
        ),
        (
            tf.errors.InternalError(None, None, "CUDA_ERROR_DEVICE_UNAVAILABLE: failed to create context"),
            r"The GPU Tesla K80 cannot start work on batches of 48 rows: free it.*CUDA_ERROR_DEVICE_UNAVAIL",
        ),
        (  # what an H100 said whose memory another process held
            tf.errors.InternalError(None, None, "cudaSetDevice() on GPU:0 failed. Status: out of memory"),
            r"The GPU Tesla K80 cannot start work on batches of 48 rows: free it.*cudaSetDevice\(\) on GPU:0",
        ),
    ],
)
@pytest.mark.parametrize("place", ["keras.Model.train_step", "tasks.training.build_network"])
def test_a_gpu_that_is_too_small_or_busy_is_named_with_the_remedy(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, place: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    monkeypatch.setattr(device, "use_cudnn", lambda model: None)
    parameters = TrainParameters.model_validate(RECIPE | {"batch_size": 48, "epochs": 1})
    with pytest.raises(TrainingError, match=re.compile(said, re.DOTALL)):
        fit(parameters, balanced(60, 1), balanced(30, 2), VOCABULARY, EMBEDDINGS)


BUSY = tf.errors.InternalError(None, None, "cudaSetDevice() on GPU:0 failed. Status: out of memory")


def busy(*arguments: Any) -> None:
    raise BUSY


def test_a_busy_gpu_is_told_while_a_teacher_is_built(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "build_encoder", busy)
    folder = tokenizer_folder(OFFLINE)
    config = encoder_config(folder)
    assert config is not None
    course = Course(folder, config, balanced(6, 1), balanced(6, 2), balanced(6, 3).tokens)
    said = "The GPU Tesla K80 cannot start work on the teacher: free it.* or use --teacher off; "
    for _ in range(2):
        with pytest.raises(TrainingError, match=said):
            teacher.teach(course)


def test_a_busy_gpu_is_told_while_devices_are_sought(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "prepare_device", lambda require_gpu: "Tesla K80")
    monkeypatch.setattr(workers, "gather", busy)
    with pytest.raises(TrainingError, match="cannot start work on a network: free it.* or try again later; "):
        workers.devices(TrainParameters())


def test_other_errors_of_tensorflow_stay_as_they_are() -> None:
    with pytest.raises(tf.errors.InternalError), explained("a network", "wait"):
        raise tf.errors.InternalError(None, None, "something else")


def test_gpus_give_memory_as_it_is_needed(card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    grown: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu.name, on))
    )
    assert device.prepare_device(require_gpu=True) == "Tesla K80"
    assert grown == [(Card.name, True)]


@pytest.mark.parametrize("name", ["pooled", "stacked"])
def test_cudnn_runs_the_lstms_of_each_network(name: NetworkName, card: dict[str, Any]) -> None:
    use_cudnn(build_network(name, 50))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"activation": "relu"}, "its activation is not tanh"),
        ({"recurrent_activation": "hard_sigmoid"}, "its recurrent_activation is not sigmoid"),
        ({"recurrent_dropout": 0.1}, "it has a recurrent_dropout"),
        ({"unroll": True}, "it is unrolled"),
        ({"use_bias": False}, "it has no bias"),
        ({"use_cudnn": False}, "its use_cudnn is off"),
    ],
)
def test_a_layer_that_cudnn_cannot_run_is_named(
    setting: dict[str, Any], reason: str, card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(9, 3, mask_zero=True)(ids)
    hidden = layers.Bidirectional(layers.LSTM(2, name="odd", **setting))(hidden)
    model = keras.Model(ids, layers.Dense(3)(hidden), name="own")
    assert unfit_for_cudnn(model) == [("forward_odd", reason), ("backward_odd", reason)]
    with pytest.raises(TrainingError, match=f"the layer forward_odd of the own network.*{reason}"):
        use_cudnn(model)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    use_cudnn(model)  # is nobody's concern on a CPU


def test_a_mask_that_may_have_holes_is_refused() -> None:
    values = keras.Input((4, 3))
    hidden = layers.LSTM(2, name="late")(layers.Masking()(values))
    [(name, reason)] = unfit_for_cudnn(keras.Model(values, hidden))
    assert (name, "Masking" in reason) == ("late", True)


def test_mixed_is_float16_on_gpus_that_gain_by_it_and_bfloat16_on_a_cpu(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrainingError, match="compute capability 7.0 or higher, and Tesla K80 has 3.7"):
        policy("mixed")
    card["compute_capability"] = (7, 0)
    assert (policy("mixed"), policy("float32")) == ("mixed_float16", "float32")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert policy("mixed") == "mixed_bfloat16"


@pytest.mark.parametrize("kind", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bits_learn_and_leave_weights_of_thirty_two(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "policy", lambda precision: kind)
    built: list[keras.Model] = []

    def noted(*arguments: Any) -> keras.Model:
        built.append(build_network(*arguments))
        return built[-1]

    monkeypatch.setattr("tasks.training.build_network", noted)
    train, validation = balanced(300, 1), balanced(60, 2)
    parameters = TrainParameters.model_validate(RECIPE | {"precision": "mixed"})
    model, state, _ = fit(parameters, train, validation, VOCABULARY, EMBEDDINGS)
    fitted, exported = built
    assert exported is model
    assert (fitted.dtype_policy.name, model.dtype_policy.name) == (kind, "float32")
    scaled = isinstance(fitted.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (kind == "mixed_float16")
    assert {str(layer.compute_dtype) for layer in fitted.layers if "dense" in layer.name} == {
        kind.removeprefix("mixed_"),
        "float32",
    }, "the logits have 32 bits"
    assert np.mean(predicted(model, validation) == validation.targets) > 0.9
    assert state.history[-1]["loss"] < 0.7 * state.history[0]["loss"]
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype("float32")}
    numbers = [tensor for tensor in to_onnx(model).graph.initializer if tensor.data_type in (1, 10, 16)]
    assert {tensor.data_type for tensor in numbers} == {1}
    assert keras.config.dtype_policy().name == "float32"


def test_an_encoder_reckons_with_sixteen_bits_where_the_cpu_is_faster_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPU", cpu)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert for_large_products("auto") == "float32", "there is no such file on a Mac"
    cpu.write_text("model name : Old\nflags : sse avx512f\n")
    assert for_large_products("auto") == "float32"
    for flag in ("avx512_bf16", "amx_bf16"):
        cpu.write_text(f"model name : New\nflags : sse avx512f {flag}\n")
        assert (for_large_products("auto"), for_large_products("float32")) == ("mixed", "float32")
    assert policy("auto") == "float32", "other networks do not"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    assert (for_large_products("auto"), for_large_products("mixed")) == ("float32", "mixed")
