"""A step is a Prefect task that explains the errors of its blocks and sits out their outages."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import get_current_settings

from blocks.role import BlockError, Role, causes

P = ParamSpec("P")
R = TypeVar("R")

JITTER = 0.5  # share of the delay that is added at random, so that runs do not come back all at once


def step(function: Callable[P, R]) -> Task[P, R]:
    """Make a function a Prefect task.

    An error that one of the blocks among the arguments can explain is raised as that explanation. If it is
    transient, the task is tried again, as often and as late as Prefect's settings for tasks say
    (`[tool.prefect.tasks]` in pyproject.toml; PREFECT_TASKS_DEFAULT_RETRIES and
    PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS overrule them). Other errors fail at once.
    """

    @wraps(function)
    def explained(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            for block in (value for value in (*args, *kwargs.values()) if isinstance(value, Role)):
                explanation = block.explain(error)
                if explanation is not None:
                    raise explanation from error
            raise

    return Task(
        explained,
        cache_policy=NO_CACHE,
        retry_delay_seconds=_delays(),
        retry_jitter_factor=JITTER,
        retry_condition_fn=_may_pass,
    )


def _delays() -> float | list[float] | None:
    """Return Prefect's setting, the shortest first: workers hand lists to their containers in no order."""
    delays: Any = get_current_settings().tasks.default_retry_delay_seconds
    return sorted(delays) if isinstance(delays, list) else delays


def _may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return any(isinstance(cause, BlockError) and cause.transient for cause in causes(error))
