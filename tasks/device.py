"""Device: what a network is trained on, how exactly it reckons there, and what can go wrong with it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras

Precision = Literal["auto", "float32", "mixed"]

CPU = Path("/proc/cpuinfo")
TENSOR_CORES = (7, 0)
"""Compute capability from which a GPU is faster with 16 bits."""


class TrainingError(RuntimeError):
    """Raised when a network cannot be trained; says why and what to do."""


def prepare_device(require_gpu: bool) -> str:
    """Make TensorFlow deterministic and modest, and return the name of the device that it will use.

    Raises:
        TrainingError: A GPU is required and there is none.
    """
    with native_silence():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if require_gpu and not gpus:
        raise TrainingError(
            "require_gpu is set, but TensorFlow sees no GPU: run where one is (the driver and CUDA libraries "
            "installed, the container started with --gpus all), or leave out --require-gpu."
        )
    tf.config.experimental.enable_op_determinism()
    # Or GPUs multiply with 10 bits after the point, and what is exported would not agree with ONNX.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        for gpu in gpus:  # or TensorFlow takes all of its memory, whatever it needs
            tf.config.experimental.set_memory_growth(gpu, True)
        if not gpus:
            # Two directions side by side beat one matrix product cut in two: the products are small.
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)
    except RuntimeError:
        pass  # TensorFlow runs already in this process and keeps what it has
    if not gpus:
        return "CPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


@contextmanager
def native_silence() -> Iterator[None]:
    """Drop what native code writes to stderr: TensorFlow's notices come before its log level is read."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def policy(precision: Precision) -> str:
    """Return Keras' name of a precision on this machine: `mixed` is float16 on GPUs, bfloat16 on a CPU.

    `auto` is float32, see `for_large_products`.

    Weights stay float32 with each of them. Source: Micikevicius et al., Mixed Precision Training (ICLR 2018).

    Raises:
        TrainingError: The GPU would only be slower with 16 bits.
    """
    if precision != "mixed":
        return "float32"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        if (found := details.get("compute_capability", TENSOR_CORES)) < TENSOR_CORES:
            raise TrainingError(
                f"--precision mixed needs a GPU of compute capability 7.0 or higher, and "
                f"{details.get('device_name', gpu.name)} has {'.'.join(map(str, found))}: leave it out."
            )
    return "mixed_float16" if gpus else "mixed_bfloat16"


def for_large_products(precision: Precision) -> Precision:
    """Return what `auto` is for an encoder: `mixed` on a CPU that multiplies matrices of 16 bits faster.

    For LSTMs it is not: their matrices are small.
    """
    import tensorflow as tf

    if precision != "auto":
        return precision
    faster = "avx512_bf16", "amx_bf16"
    found = CPU.read_text().split() if CPU.is_file() else []
    on_gpu = tf.config.list_physical_devices("GPU")
    return "mixed" if not on_gpu and any(flag in found for flag in faster) else "float32"


@contextmanager
def reckoning(precision: Precision) -> Iterator[None]:
    """Build networks that reckon with a precision.

    Raises:
        TrainingError: See `policy`.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy(precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def use_cudnn(model: "keras.Model") -> None:
    """Make sure that cuDNN runs a network's LSTMs where there is a GPU: without it, each step is a loop.

    Args:
        model: Without masks, as texts of one length need none.

    Raises:
        TrainingError: cuDNN knows no such layer; names it and says why.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        for layer, reason in unfit_for_cudnn(model):
            raise TrainingError(
                f"cuDNN cannot run the layer {layer} of the {model.name} network, which would be many times "
                f"slower on the GPU: {reason}. Change the layer in tasks/network.py."
            )


def unfit_for_cudnn(model: "keras.Model") -> list[tuple[str, str]]:
    """Return the LSTMs that cuDNN cannot run, by name, with the reason.

    Source: Keras' own conditions, `cudnn_ok` in its TensorFlow backend and `LSTM.inner_loop`.
    """
    from keras import activations, layers

    def reason(layer: "keras.layers.LSTM") -> str | None:
        if layer.activation is not activations.tanh:
            return "its activation is not tanh"
        if layer.recurrent_activation is not activations.sigmoid:
            return "its recurrent_activation is not sigmoid"
        if layer.recurrent_dropout:
            return "it has a recurrent_dropout"
        if layer.unroll:
            return "it is unrolled"
        if not layer.use_bias:
            return "it has no bias"
        if layer.use_cudnn is False:
            return "its use_cudnn is off"
        if any(isinstance(other, layers.Masking) for other in model.layers):
            return "a layer Masking may hide tokens that are not at the end"
        return None

    found: list[Any] = []
    for layer in model.layers:
        both = isinstance(layer, layers.Bidirectional)
        found += [layer.forward_layer, layer.backward_layer] if both else [layer]
    reasons = [(layer.name, reason(layer)) for layer in found if isinstance(layer, layers.LSTM)]
    return [(name, why) for name, why in reasons if why]


_START = "CUDA", "cudaSetDevice", "cuDNN", "CUDNN", "cuBLAS", "CUBLAS", "DNN library", "BLAS"
"""What TensorFlow says of a GPU on which nothing can be started."""


@contextmanager
def explained(work: str, remedy: str) -> Iterator[None]:
    """Explain what TensorFlow raises when a device is too small or busy.

    Args:
        work: What is to be done on it.
        remedy: What would do with less of it, or without.

    Raises:
        TrainingError: Names the device, the work and the remedy.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"{_where()} has not enough memory for {work}: {remedy}, or free it of what else runs there "
            f"(nvidia-smi shows that). {first_line(error)}"
        ) from error
    except (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.FailedPreconditionError) as error:
        if not any(word in str(error) for word in _START):
            raise
        raise TrainingError(
            f"{_where()} cannot start work on {work}: free it of what else runs there (nvidia-smi shows "
            f"that) or {remedy}; if it is idle, its driver or CUDA libraries do not suit TensorFlow, see "
            f"docs/docker.md. {first_line(error)}"
        ) from error


def _where() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "The CPU"
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return "The GPU " + ", ".join(map(str, names))


def first_line(error: Exception) -> str:
    """Return how an error's message begins."""
    return f"TensorFlow says: {str(error).strip().splitlines()[0][:200]}" if str(error).strip() else ""
