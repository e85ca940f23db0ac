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
    tokens: Tokens,
    targets: NDArray[np.float32],
    batch_size: int,
    shuffle_seed: int | None = None,
    bucket_width: int = BUCKET_WIDTH,
) -> "tf.data.Dataset":
    """Return batches (ids int32 (B, T), targets float32 (B, 3)), T a multiple of the bucket's width.

    A tweet has about 30 wordpieces and the longest over 100: one length for all would be mostly padding.

    Args:
        tokens: n encoded texts.
        targets: float32 (n, 3).
        batch_size: Texts in a full batch.
        shuffle_seed: Shuffles before every epoch; None keeps the order within each length.
        bucket_width: Greatest difference of lengths in a batch, plus one; 1 leaves no padding at all.
    """
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_lengths(tokens.values, tokens.lengths)
    dataset = tf.data.Dataset.from_tensor_slices((ragged, targets))
    dataset = dataset.map(lambda ids, target: (ids, target))  # a row of a ragged tensor becomes a tensor
    if shuffle_seed is not None:
        dataset = dataset.shuffle(min(len(targets), SHUFFLE_ROWS), seed=shuffle_seed)
    longest = int(tokens.lengths.max())
    boundaries = list(range(bucket_width + 1, longest + bucket_width + 1, bucket_width))
    dataset = dataset.bucket_by_sequence_length(
        lambda ids, target: tf.shape(ids)[0],
        bucket_boundaries=boundaries,
        bucket_batch_sizes=[batch_size] * (len(boundaries) + 1),
        padded_shapes=([None], [targets.shape[1]]),
        padding_values=(PADDING, 0.0),
        pad_to_bucket_boundary=True,
    )
    count = number_of_batches(tokens, batch_size, bucket_width)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def number_of_batches(tokens: Tokens, batch_size: int, bucket_width: int = BUCKET_WIDTH) -> int:
    """Return how many batches an epoch has: each bucket of lengths is cut on its own."""
    buckets = np.bincount((np.maximum(tokens.lengths, 1) - 1) // bucket_width)
    return int(np.ceil(buckets / batch_size).sum())
