"""Where a fit stands goes into the lake and comes back as it was, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from blocks.lake import LocalLake
from tasks.checkpoint import find_checkpoint, write_checkpoint
from tasks.training import State

KEY = "trained/aaaa/unfinished/network.npz"
EPOCH = {"loss": 0.5, "accuracy": 0.1, "val_loss": 0.25, "val_accuracy": 1 / 3}


def state(count: int) -> State:
    variables = tuple(np.full((number, 2), number, np.float32) for number in range(count))
    return State((EPOCH,), (*variables, np.array(7, np.int64)), variables[::-1])


@pytest.mark.parametrize("count", [1, 12])
def test_it_comes_back_as_it_was(lake: LocalLake, count: int) -> None:
    assert find_checkpoint(lake, KEY) is None
    written = state(count)
    write_checkpoint(lake, KEY, written, '{"a": "note"}')
    found = find_checkpoint(lake, KEY)
    assert found is not None
    read, note = found
    assert (read.history, note) == (written.history, '{"a": "note"}')
    for ours, theirs in ((read.variables, written.variables), (read.best, written.best)):
        assert [value.dtype for value in ours] == [value.dtype for value in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    assert find_checkpoint(lake, "trained/bbbb/unfinished/network.npz") is None


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "of another version"])
def test_one_that_cannot_be_read_is_none(lake: LocalLake, damage: str) -> None:
    write_checkpoint(lake, KEY, state(3))
    path = Path(lake.uri(KEY))
    if damage == "of another version":
        np.savez(path, told=np.frombuffer(b'{"epoch": 3}', np.uint8))
    else:
        path.write_bytes({"cut": path.read_bytes()[:-100], "garbage": b"garbage", "empty": b""}[damage])
    assert find_checkpoint(lake, KEY) is None
