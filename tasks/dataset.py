"""Datasets: unpadded tokens as batches of texts of one length."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.tokens import Tokens

if TYPE_CHECKING:
    import tensorflow as tf


def batches(
    tokens: Tokens, targets: NDArray[np.float32], batch_size: int, seed: int | None = None
) -> "tf.data.Dataset":
    """Return batches (ids int32 (B, T), targets float32 (B, 3)) without any padding.

    A tweet has about 30 wordpieces and the longest over 100: one length for all would be mostly padding.

    Args:
        tokens: n encoded texts.
        targets: float32 (n, 3).
        batch_size: Texts in a full batch.
        seed: See `groups`.
    """
    import tensorflow as tf

    parts = groups(tokens.lengths, batch_size, seed)

    def made() -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        for rows in parts:
            yield tokens.block(rows), targets[rows]

    signature = (
        tf.TensorSpec((None, None, *tokens.values.shape[1:]), tokens.dtype),
        tf.TensorSpec((None, targets.shape[1]), tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(made, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(parts))).prefetch(tf.data.AUTOTUNE)


def groups(lengths: NDArray[np.int32], size: int, seed: int | None = None) -> list[NDArray[np.int64]]:
    """Return the rows of each batch; those of a batch have one length.

    Args:
        lengths: int32 (n,), of each text; there may be none.
        size: Texts in a full batch; of each length, the last one may be short.
        seed: Shuffles the texts of a length, and the batches; None leaves both in order.
    """
    if not len(lengths):
        return []
    order = np.arange(len(lengths))
    random = np.random.default_rng(seed)
    if seed is not None:
        random.shuffle(order)
    order = order[np.argsort(lengths[order], kind="stable")]
    starts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    parts = [
        batch
        for same in np.split(order, starts[1:])
        for batch in np.split(same, range(size, len(same), size))
    ]
    if seed is not None:
        random.shuffle(parts)
    return parts


def number_of_batches(tokens: Tokens, batch_size: int) -> int:
    """Return how many batches an epoch has: the texts of each length are cut on their own."""
    return int(np.ceil(np.bincount(tokens.lengths) / batch_size).sum())
