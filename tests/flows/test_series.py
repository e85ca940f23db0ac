"""A series keeps what its fits found, whatever becomes of the others."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect import flow
from pydantic import BaseModel

from blocks.tracking import LocalTracking
from flows.series import Attempt, carry_out
from tasks import series as steps
from tasks.outcome import Outcome
from tasks.series import Series
from tasks.step import step
from tasks.training import FitParameters
from tests.flows.test_train import runs


class Point(BaseModel):
    number: int


@step
def attempt(number: int, meeting: Path) -> Outcome:
    """Fail as the first, once the second is there, which takes longer and is well."""
    (meeting / str(number)).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.05)
    if number == 0:
        raise ValueError("the first is not well")
    time.sleep(2)
    return Outcome(state="complete", macro_recall=0.5, epochs=({"val_loss": 1.0},))


def test_what_others_find_is_kept_when_one_fails(
    blocks: None, tracking: LocalTracking, tmp_path: Path
) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()

    def opened() -> Series[Outcome]:
        return steps.open_series("search", "identity", FitParameters(), Outcome, tracking, "no flow run")

    @flow
    def series() -> None:
        left = iter(range(4))

        def plan(ended: Sequence[Outcome], running: Sequence[Point]) -> Attempt:
            number = next(left)
            return Attempt(f"fit-{number}", Point(number=number), {"number": number, "meeting": meeting})

        carry_out(opened(), attempt, plan, 2, tracking, lambda count: None)

    with pytest.raises(ValueError, match="the first is not well"):
        series()
    nested = {run.info.run_name: run.info.status for run in runs(tracking) if steps.PARENT in run.data.tags}
    assert nested == {"fit-0": "RUNNING", "fit-1": "FINISHED"}, "and no third was begun"
    assert [fit.macro_recall for fit in opened().ended] == [0.5]
