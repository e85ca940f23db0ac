"""Training: the reference graph, `stacked` and `pooled` on the same tweets, and their use of the machine."""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.dataset import batches
from tasks.device import prepare_device
from tasks.labelling import LABELS
from tasks.tokens import Tokens, encode
from tasks.training import Examples, Recipe, compile_network
from tests.measures.figures import Figure, Rounds, Size, timed
from tests.measures.made_up import offline_tokenizer, texts, untrained

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

PART = "training"
WARM_UP = 1
LARGER = 4
"""So many times more rows and columns have matrices that keep a GPU busy."""


def measure(size: Size) -> list[Figure]:
    """Return tweets/s of the three, their ratio, and the share of the machine's peak that two of them use."""
    device = prepare_device(require_gpu=False)
    encoded = encode(offline_tokenizer(), texts(size.rows, 1))
    labels = np.random.default_rng(1).integers(0, len(LABELS), size.rows).astype(np.int8)
    examples = Examples(encoded, labels)
    answers = examples.distributions()
    names = ("reference", "stacked", "pooled")
    datasets = [
        _padded(encoded, answers, size.batches[0], size.padded),
        batches(encoded, answers, size.batches[1], 1),
        batches(encoded, answers, size.batches[2], 1),
    ]
    courses = []
    for name, dataset, steps, rows in zip(names, datasets, size.steps, size.batches, strict=True):
        model = untrained("pooled" if name == "pooled" else "stacked")
        compile_network(model, Recipe(1, rows, learning_rate=1e-3, seed=1), examples.log_prior(), 1000)
        course = Course(model, dataset.take(steps + WARM_UP))
        course.run()
        courses.append(course)
    work = {name: _work(course) for name, course in zip(names[1:], courses[1:], strict=True)}
    side = size.side * (1 if device == "CPU" else LARGER)
    products = {"TensorFlow": _by_tensorflow(side), "NumPy": _by_numpy(size.side)}
    sides = {"TensorFlow": side, "NumPy": size.side}
    found = Rounds()
    for _ in range(size.rounds):
        for name, course in zip(names, courses, strict=True):
            found.add(name, course.rows / course.run())
        for name, operations in work.items():
            found.add(f"{name}, useful", found[name][-1] * operations / 1e9)
        for name, product in products.items():
            found.add(name, 2 * 2 * sides[name] ** 3 / min(timed(product) for _ in range(3)) / 1e9)

    def shares(name: str, product: str) -> list[float]:
        return [100 * share for share in found.ratio(f"{name}, useful", product)]

    return [
        Figure(PART, f"reference graph, padded to {size.padded}", "tweets/s", found["reference"]),
        Figure(PART, f"stacked, batches of {size.batches[1]}", "tweets/s", found["stacked"]),
        Figure(PART, f"pooled, batches of {size.batches[2]}", "tweets/s", found["pooled"]),
        Figure(PART, "stacked against the reference", "×", found.ratio("stacked", "reference"), least=15),
        Figure(PART, "pooled against the reference", "×", found.ratio("pooled", "reference")),
        Figure(PART, "stacked, useful work", "GFLOP/s", found["stacked, useful"]),
        Figure(PART, "pooled, useful work", "GFLOP/s", found["pooled, useful"]),
        Figure(PART, "peak: large products by TensorFlow", "GFLOP/s", found["TensorFlow"]),
        Figure(PART, "peak: large products by NumPy", "GFLOP/s", found["NumPy"]),
        Figure(PART, "stacked, share of TensorFlow's peak", "%", shares("stacked", "TensorFlow")),
        Figure(PART, "pooled, share of TensorFlow's peak", "%", shares("pooled", "TensorFlow"), least=50),
        Figure(PART, "pooled, share of NumPy's peak", "%", shares("pooled", "NumPy")),
    ]


class Course:
    """Some steps of training, repeatable: the same batches each time, in the pipeline that `fit` uses.

    Args:
        model: Compiled.
        dataset: Batches, the first of which warm up.
    """

    rows: int
    """Tweets in the steps that are measured."""
    tokens: int
    """Their wordpieces, without padding."""

    def __init__(self, model: "keras.Model", dataset: "tf.data.Dataset") -> None:
        self.model, self._dataset = model, dataset
        counted = [(len(ids), np.count_nonzero(ids)) for ids, _ in dataset.as_numpy_iterator()]
        self.rows, self.tokens = (int(sum(column)) for column in zip(*counted[WARM_UP:], strict=True))

    def run(self) -> float:
        """Train and return the seconds from the end of the warm-up."""
        import keras

        ends: list[float] = []

        def after(batch: int, logs: object) -> None:
            ends.append(perf_counter())

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=after)
        self.model.fit(self._dataset, verbose=0, shuffle=False, callbacks=[callback])
        return ends[-1] - ends[WARM_UP - 1]


def _padded(
    encoded: Tokens, answers: "NDArray[np.float32]", batch_size: int, length: int
) -> "tf.data.Dataset":
    """Return batches of tweets as they come, all of one length, as the Airflow project trains."""
    import tensorflow as tf

    count = min(len(answers), 32 * batch_size)
    ids = np.zeros((count, length), np.int32)
    ends = np.cumsum(encoded.lengths)
    for row, (end, kept) in enumerate(zip(ends[:count], encoded.lengths, strict=False)):
        kept = min(int(kept), length)
        ids[row, :kept] = encoded.values[end - encoded.lengths[row] :][:kept]
    dataset = tf.data.Dataset.from_tensor_slices((ids, answers[:count]))
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _work(course: Course) -> float:
    """Return a tweet's useful operations in training: two products backward for one forward, no padding."""
    token, text = flops(course.model)
    return 3 * (token * course.tokens / course.rows + text)


def flops(model: "keras.Model") -> tuple[int, int]:
    """Return the operations of a forward pass for each wordpiece and for each text: of matrix products alone.

    A multiplication and an addition are two operations. Looking up embeddings is none.

    Raises:
        ValueError: There is a kind of layer that is not counted.
    """
    import keras

    uncounted = (keras.layers.Embedding, keras.layers.Dropout)
    token = text = 0
    for operation in model.operations:
        if isinstance(operation, keras.layers.Bidirectional):
            for layer in (operation.forward_layer, operation.backward_layer):
                kernel, recurrent, _ = layer.get_weights()
                token += 2 * (kernel.size + recurrent.size)
        elif isinstance(operation, keras.layers.Dense):
            product = 2 * operation.get_weights()[0].size
            if len(operation.input.shape) == 3:  # (B, T, D)
                token += product
            else:
                text += product
        elif type(operation).__name__ == "Matmul":  # heads (B, HEADS, T) by states (B, T, D), summed over T
            left, right = operation.input
            token += 2 * left.shape[1] * right.shape[2]
        elif getattr(operation, "weights", ()) and not isinstance(operation, uncounted):
            raise ValueError(f"The operations of a layer {type(operation).__name__} are not counted.")
    return token, text


def _matrices(side: int) -> "list[NDArray[np.float32]]":
    draw = np.random.default_rng(1)
    return [draw.normal(size=(side, side)).astype(np.float32) for _ in range(4)]


def _by_tensorflow(side: int) -> Callable[[], None]:
    """Return a function that multiplies two pairs of matrices side by side.

    TensorFlow has one thread for a product here, and two for products that do not wait for each other.
    """
    import tensorflow as tf

    matrices = [tf.constant(matrix) for matrix in _matrices(side)]

    @tf.function
    def products(a: Any, b: Any, c: Any, d: Any) -> Any:
        return tf.reduce_sum(tf.matmul(a, b)), tf.reduce_sum(tf.matmul(c, d))

    def run() -> None:
        for value in products(*matrices):
            value.numpy()

    run()
    return run


def _by_numpy(side: int) -> Callable[[], object]:
    """Return a function that multiplies two pairs of matrices, each on all cores."""
    a, b, c, d = _matrices(side)
    return lambda: (a @ b, c @ d)
