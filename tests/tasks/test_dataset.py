"""An epoch has every row once, in batches of rows of one length."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset import batches, number_of_batches
from tasks.tokens import Tokens

Batch = tuple[np.ndarray, np.ndarray]


def tokens(lengths: list[int]) -> Tokens:
    """Rows of the given lengths; all ids of row i are i + 1, so that a row is known wherever it goes."""
    counts = np.array(lengths, np.int32)
    return Tokens(np.repeat(np.arange(1, len(lengths) + 1, dtype=np.int32), counts), counts)


def epoch(lengths: list[int], size: int, seed: int | None = None) -> list[Batch]:
    labels = np.arange(len(lengths)) % 3
    return [(ids.numpy(), targets.numpy()) for ids, targets in dataset(lengths, labels, size, seed)]


def dataset(lengths: list[int], labels: np.ndarray, size: int, seed: int | None = None) -> Any:
    return batches(tokens(lengths), np.eye(3, dtype=np.float32)[labels], size, seed)


def order(batch_list: list[Batch]) -> list[int]:
    return [int(row[0]) - 1 for ids, _ in batch_list for row in ids]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5) | st.just(128), min_size=1, max_size=60),
    size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 9),
)
def test_each_row_once_in_a_batch_of_its_length(lengths: list[int], size: int, seed: int | None) -> None:
    found = epoch(lengths, size, seed)
    assert sorted(order(found)) == list(range(len(lengths)))
    assert len(found) == number_of_batches(tokens(lengths), size)
    for ids, targets in found:
        rows, width = ids.shape
        assert (ids.dtype, targets.dtype, targets.shape) == (np.int32, np.float32, (rows, 3))
        assert 1 <= rows <= size
        for row, target in zip(ids, targets, strict=True):
            index = row[0] - 1
            assert width == lengths[index]
            assert target.tolist() == np.eye(3)[index % 3].tolist()
            assert row.tolist() == [index + 1] * width


def test_only_the_last_batch_of_a_length_is_short() -> None:
    found = epoch([5] * 10 + [20] * 7, 4)
    assert sorted(ids.shape for ids, _ in found) == [(2, 5), (3, 20), (4, 5), (4, 5), (4, 20)]


def test_keras_knows_how_long_an_epoch_is() -> None:
    lengths = [5] * 10 + [20] * 7
    assert (
        int(dataset(lengths, np.zeros(17, int), 4).cardinality())
        == 5
        == number_of_batches(tokens(lengths), 4)
    )


def test_without_a_seed_the_order_is_that_of_the_rows() -> None:
    assert order(epoch([5] * 30, 4)) == list(range(30))


def test_equal_seeds_give_equal_orders_and_others_another() -> None:
    lengths = [3, 12] * 40
    first = order(epoch(lengths, 4, seed=1))
    assert first == order(epoch(lengths, 4, seed=1))
    assert first != order(epoch(lengths, 4, seed=2))
    assert first != order(epoch(lengths, 4))


def test_the_batches_of_a_length_do_not_follow_one_another() -> None:
    widths = [ids.shape[1] for ids, _ in epoch([3] * 80 + [12] * 80, 4, seed=1)]
    assert sorted(widths) != widths != sorted(widths, reverse=True)


@pytest.mark.parametrize(("lengths", "size", "count"), [([8] * 8, 8, 1), ([8] * 9, 8, 2), ([8, 7], 8, 2)])
def test_batches_are_counted_by_length(lengths: list[int], size: int, count: int) -> None:
    assert number_of_batches(tokens(lengths), size) == count
