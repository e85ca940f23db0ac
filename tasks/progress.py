"""Progress of long work: a bar in a terminal, log lines elsewhere, an artifact in the Prefect UI."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError

from blocks.log import logger as logger  # steps log where they show progress

Advance = Callable[[int], None]
"""Takes the number of steps done since the last call."""

SECONDS_BETWEEN_UPDATES = 5.0


@contextmanager
def progress(description: str, total: int, unit: str = "rows") -> Iterator[Advance]:
    """Show how far work has come, wherever a person may be looking.

    Args:
        description: What is being done, such as "Training".
        total: Number of steps.
        unit: What is counted.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    terminal = sys.stderr.isatty()
    artifact = _start_artifact(description)
    done, shown = 0, time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), disable=not terminal) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int) -> None:
            nonlocal done, shown
            done += steps
            bar.advance(task, steps)
            if done < total and time.monotonic() - shown > SECONDS_BETWEEN_UPDATES:
                shown = time.monotonic()
                _show(
                    artifact,
                    None if terminal else f"{description}: {done:,} of {total:,} {unit}",
                    done / total,
                )

        yield advance
    _show(artifact, None, 1.0)


def _start_artifact(description: str) -> UUID | None:
    try:
        get_run_context()
    except MissingContextError:
        return None
    key = "-".join(description.lower().split())
    artifact = create_progress_artifact(0.0, key=f"progress-{key}", description=description)
    assert isinstance(artifact, UUID)
    return artifact


def _show(artifact: UUID | None, line: str | None, share: float) -> None:
    if line is not None:
        logger().info(line)
    if artifact is not None:
        update_progress_artifact(artifact, progress=100 * min(share, 1.0))
