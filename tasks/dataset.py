"""Datasets: unpadded tokens as batches of texts of like length."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.tokens import PADDING, Tokens

if TYPE_CHECKING:
    import tensorflow as tf

BUCKET_WIDTH = 8
SHUFFLE_ROWS = 100_000


def batches(
    tokens: Tokens, labels: NDArray[np.int8], batch_size: int, shuffle_seed: int | None = None
) -> "tf.data.Dataset":
    """Return batches (ids int32 (B, T), labels int32 (B,)), T a multiple of 8 that fits the batch.

    A tweet has about 30 wordpieces and the longest over 100: one length for all would be mostly padding.

    Args:
        tokens: n encoded texts.
        labels: int8 (n,).
        batch_size: Texts in a full batch.
        shuffle_seed: Shuffles before every epoch; None keeps the order within each length.
    """
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_lengths(tokens.values, tokens.lengths)
    dataset = tf.data.Dataset.from_tensor_slices((ragged, labels.astype(np.int32)))
    dataset = dataset.map(lambda ids, label: (ids, label))  # a row of a ragged tensor becomes a tensor
    if shuffle_seed is not None:
        dataset = dataset.shuffle(min(len(labels), SHUFFLE_ROWS), seed=shuffle_seed)
    longest = int(tokens.lengths.max())
    boundaries = list(range(BUCKET_WIDTH + 1, longest + BUCKET_WIDTH + 1, BUCKET_WIDTH))
    dataset = dataset.bucket_by_sequence_length(
        lambda ids, label: tf.shape(ids)[0],
        bucket_boundaries=boundaries,
        bucket_batch_sizes=[batch_size] * (len(boundaries) + 1),
        padded_shapes=([None], []),
        padding_values=(PADDING, 0),
        pad_to_bucket_boundary=True,
    )
    count = number_of_batches(tokens, batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def number_of_batches(tokens: Tokens, batch_size: int) -> int:
    """Return how many batches an epoch has: each bucket of lengths is cut on its own."""
    buckets = np.bincount((np.maximum(tokens.lengths, 1) - 1) // BUCKET_WIDTH)
    return int(np.ceil(buckets / batch_size).sum())
