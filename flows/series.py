"""A series of fits, carried out side by side: each in a process of its own and a nested run of MLflow."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, TypeVar

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture, as_completed
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner
from pydantic import BaseModel

from blocks.tracking import Tracking
from tasks import series as steps
from tasks.outcome import Outcome
from tasks.progress import Advance
from tasks.series import Series, SeriesError

R = TypeVar("R", bound=Outcome)


class Attempt(NamedTuple):
    """A fit to be made.

    Args:
        name: Of its run, and of no other fit's.
        point: What sets it apart from the others.
        arguments: Of the task that makes it.
    """

    name: str
    point: BaseModel
    arguments: dict[str, Any]


Plan = Callable[[Sequence[R], Sequence[Any]], Attempt | None]
"""Takes the fits that have ended and the points being fitted; returns what is next, if there is any."""


def carry_out(
    series: Series[R],
    fit: Task[..., R],
    plan: Plan[R],
    parallel: int,
    tracking: Tracking,
    advance: Advance,
) -> list[R]:
    """Make the fits of a series and return all that have ended, those of earlier runs first.

    Args:
        series: What the fits belong to.
        fit: What makes one.
        plan: What to make, asked when there is a process for it.
        parallel: Processes.
        tracking: Where the runs are.
        advance: Told of each fit that has ended.

    Raises:
        SeriesError: A process was killed.
    """
    ended = list(series.ended)
    running: dict[PrefectFuture[R], tuple[Attempt, str]] = {}
    failed: Exception | None = None
    with get_client(sync_client=True) as client:
        api = str(client.api_url)
    with (
        # Without a server to go to, each process would start its own instead of using this one's.
        temporary_settings({PREFECT_API_URL: api}),
        ProcessPoolTaskRunner(parallel, initializer=steps.end_with_parent) as runner,
    ):
        while running or failed is None:
            try:
                points = [attempt.point for attempt, _ in running.values()]
                if failed is None and len(running) < parallel and (following := plan(ended, points)):
                    run = steps.begin(series, following.name, following.point, tracking)
                    task = fit.with_options(task_run_name=following.name)
                    running[runner.submit(task, following.arguments)] = following, run
                    continue
                if not running:
                    break
                future = next(as_completed(list(running)))
                attempt, run = running.pop(future)
                result = future.result()
                steps.record(result, attempt.name, run, tracking)
            except Exception as error:  # raised once the others have ended, so that they are not lost
                failed = failed or error
            else:
                ended.append(result)
                advance(1)
    if isinstance(failed, BrokenProcessPool):
        raise SeriesError(
            "The process of a fit was killed, most likely for want of memory: lower --parallel "
            f"or --batch-size. Run again, and the {series.kind} goes on."
        ) from failed
    if failed is not None:
        raise failed
    return ended
