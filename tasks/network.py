"""The networks: stacked and pooled biLSTMs over wordpieces, as Keras graphs that give logits."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.labelling import LABELS
from tasks.tokens import WIDTH

if TYPE_CHECKING:
    import keras

HEADS = 4

NetworkName = Literal["pooled", "stacked"]


def build_network(
    name: NetworkName, vocabulary_size: int, embeddings: NDArray[np.float32] | None = None
) -> "keras.Model":
    """Return an untrained network: ids int32 (B, T) to logits float32 (B, 3).

    There is no mask, so the texts of a batch must have one length: masks cost a sixth of the time.

    Args:
        name: `stacked`, the Airflow project's graph, or `pooled`, one biLSTM over pretrained embeddings.
        vocabulary_size: Number of wordpieces.
        embeddings: float32 (vocabulary, width) that `pooled` starts from; None starts from random ones.
    """
    import keras

    ids = keras.Input((None,), dtype="int32", name="input_ids")
    graph = {"pooled": _pooled, "stacked": _stacked}[name]
    return keras.Model(ids, graph(ids, vocabulary_size, embeddings), name=name)


def _stacked(
    ids: "keras.KerasTensor", vocabulary_size: int, embeddings: NDArray[np.float32] | None
) -> "keras.KerasTensor":
    from keras import layers

    hidden = layers.Embedding(vocabulary_size, 128)(ids)
    hidden = layers.Bidirectional(layers.LSTM(128, return_sequences=True))(hidden)
    hidden = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(hidden)
    hidden = layers.Bidirectional(layers.LSTM(32))(hidden)
    hidden = layers.Dropout(0.3)(layers.Dense(128, activation="relu")(hidden))
    hidden = layers.Dropout(0.3)(layers.Dense(64, activation="relu")(hidden))
    return layers.Dense(len(LABELS), dtype="float32")(hidden)


def _pooled(
    ids: "keras.KerasTensor", vocabulary_size: int, embeddings: NDArray[np.float32] | None
) -> "keras.KerasTensor":
    from keras import initializers, layers

    width, start = (
        (WIDTH, "uniform") if embeddings is None else (embeddings.shape[1], initializers.Constant(embeddings))
    )
    hidden = layers.Embedding(vocabulary_size, width, embeddings_initializer=start)(ids)
    hidden = layers.Dropout(0.15, noise_shape=(None, None, 1))(hidden)  # whole words
    hidden = layers.SpatialDropout1D(0.05)(hidden)
    hidden = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(hidden)
    hidden = layers.Dropout(0.4)(_pool(layers.Dropout(0.3)(hidden)))
    hidden = layers.Dropout(0.2)(layers.Dense(64, activation="relu")(hidden))
    return layers.Dense(len(LABELS), dtype="float32")(hidden)


def _pool(hidden: "keras.KerasTensor") -> "keras.KerasTensor":
    """Pool (B, T, D) over the tokens: mean, maximum and what each head looks for.

    Source of the heads: Lin et al., A Structured Self-attentive Sentence Embedding (ICLR 2017).
    """
    from keras import layers, ops

    looked = layers.Dense(64, activation="tanh", name="attention")(hidden)
    scores = ops.cast(layers.Dense(HEADS, name="heads")(looked), "float32")
    weights = ops.cast(ops.softmax(scores, axis=1), hidden.dtype)  # (B, T, HEADS)
    found = ops.matmul(ops.transpose(weights, (0, 2, 1)), hidden)  # (B, HEADS, D)
    mean, highest = layers.GlobalAveragePooling1D()(hidden), layers.GlobalMaxPooling1D()(hidden)
    return ops.concatenate([mean, highest, layers.Flatten()(found)], axis=-1)
