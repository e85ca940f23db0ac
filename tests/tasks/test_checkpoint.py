"""Where a fit stands goes into the lake and comes back as it was, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from blocks.lake import LocalLake
from tasks.checkpoint import Stand, find_checkpoint, remove_checkpoint, write_checkpoint
from tasks.trained import Fit
from tasks.training import State, TrainParameters

EPOCH = {"loss": 0.5, "accuracy": 0.1, "val_loss": 0.25, "val_accuracy": 1 / 3}
FIT = Fit(
    identity="aaaa",
    key="first",
    parameters=TrainParameters(),
    device="CPU",
    flow_run="none",
    began=1_000,
    inputs={"training": {"name": "rows"}},
)
STAND = Stand(fit=FIT, history=(EPOCH,), ends=(2_000,), seconds=1.5)


def state(count: int) -> State:
    variables = tuple(np.full((number, 2), number, np.float32) for number in range(count))
    return State((EPOCH,), (*variables, np.array(7, np.int64)), variables[::-1])


@pytest.mark.parametrize("count", [1, 12])
def test_it_comes_back_as_it_was(lake: LocalLake, count: int) -> None:
    assert find_checkpoint(lake, "aaaa") is None
    written = state(count)
    write_checkpoint(lake, STAND, written)
    found = find_checkpoint(lake, "aaaa")
    assert found is not None
    assert found[0] == STAND
    assert found[1].history == written.history
    for read, kept in ((found[1].variables, written.variables), (found[1].best, written.best)):
        assert [value.dtype for value in read] == [value.dtype for value in kept]
        for one, other in zip(read, kept, strict=True):
            np.testing.assert_array_equal(one, other)
    assert find_checkpoint(lake, "bbbb") is None
    remove_checkpoint(lake, "aaaa")
    remove_checkpoint(lake, "aaaa")
    assert find_checkpoint(lake, "aaaa") is None


@pytest.mark.parametrize("damage", ["cut", "garbage", "of another version"])
def test_one_that_cannot_be_read_is_none(lake: LocalLake, damage: str) -> None:
    write_checkpoint(lake, STAND, state(3))
    (path,) = Path(lake.folder).rglob("checkpoint.npz")
    if damage == "of another version":
        np.savez(path, stand=np.frombuffer(b'{"epoch": 3}', np.uint8))
    else:
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else b"garbage")
    assert find_checkpoint(lake, "aaaa") is None
