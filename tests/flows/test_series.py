"""A series keeps what its fits found, whatever becomes of the others."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from pydantic import BaseModel

from blocks.tracking import LocalTracking
from flows.series import Attempt, carry_out
from tasks import series as steps
from tasks.outcome import Outcome
from tasks.series import Series, SeriesError
from tasks.step import step
from tasks.training import FitParameters
from tests.flows.test_train import runs

WELL = Outcome(state="complete", macro_recall=0.5, epochs=({"val_loss": 1.0},))


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
    return WELL


@step
def attempt_in_little_memory(number: int, meeting: Path) -> Outcome:
    """Be killed as the second, but only once, as the kernel kills what takes too much memory."""
    if number == 1 and not meeting.exists():
        meeting.mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    return WELL


def opened(tracking: LocalTracking) -> Series[Outcome]:
    return steps.open_series("search", "identity", FitParameters(), Outcome, tracking, "no flow run")


@flow
def series(fit: Task[..., Outcome], meeting: Path, parallel: int, tracking: LocalTracking) -> list[Outcome]:
    """Make those of three fits that have not ended."""
    found = opened(tracking)
    left = iter(range(len(found.ended), 3))

    def plan(ended: Sequence[Outcome], running: Sequence[Point]) -> Attempt | None:
        number = next(left, None)
        if number is None:
            return None
        return Attempt(f"fit-{number}", Point(number=number), {"number": number, "meeting": meeting})

    return carry_out(found, fit, plan, parallel, tracking, lambda count: None)


def nested(tracking: LocalTracking) -> list[tuple[str, str]]:
    """Return names and states of the fits' runs, as they were begun."""
    fits: list[Any] = [run.info for run in runs(tracking) if steps.PARENT in run.data.tags]
    return [(fit.run_name, fit.status) for fit in sorted(fits, key=lambda fit: fit.start_time)]


def test_what_others_find_is_kept_when_one_fails(
    blocks: None, tracking: LocalTracking, tmp_path: Path
) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    with pytest.raises(ValueError, match="the first is not well"):
        series(attempt, meeting, 2, tracking)
    assert nested(tracking) == [("fit-0", "RUNNING"), ("fit-1", "FINISHED")], "and no third was begun"
    assert opened(tracking).ended == (WELL,)


def test_a_process_that_is_killed_is_told_and_its_fit_made_again(
    blocks: None, tracking: LocalTracking, tmp_path: Path
) -> None:
    meeting = tmp_path / "meeting"
    with pytest.raises(SeriesError, match="was killed.*want of memory.*Run again, and the search goes on"):
        series(attempt_in_little_memory, meeting, 1, tracking)
    assert nested(tracking) == [("fit-0", "FINISHED"), ("fit-1", "RUNNING")]
    assert series(attempt_in_little_memory, meeting, 1, tracking) == [WELL] * 3
    assert nested(tracking) == [
        *(("fit-0", "FINISHED"), ("fit-1", "KILLED")),
        *(("fit-1", "FINISHED"), ("fit-2", "FINISHED")),
    ]
