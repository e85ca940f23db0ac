"""What a step does about the errors of its blocks."""

import pytest
from prefect import flow
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS, temporary_settings

from blocks.lake import LakeError, LocalLake
from blocks.role import BlockError
from tasks.step import step


class Moody(LocalLake):
    """A lake whose trouble with ConnectionError passes, and whose trouble with KeyError does not."""

    _block_type_name = "Moody Lake"
    _block_type_slug = "moody-lake"

    def explain(self, error: BaseException) -> BlockError | None:
        if isinstance(error, ConnectionError):
            return LakeError("The lake is away.", transient=True)
        return LakeError("No such bucket: make it.") if isinstance(error, KeyError) else None


def outcome(error: Exception, failures: int) -> tuple[int, object]:
    """Run a step that raises `error` so many times; return how often it ran and what came of it."""
    calls: list[int] = []

    @step
    def work(lake: LocalLake) -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise error
        return "done"

    @flow
    def run() -> str:
        return work.with_options(retry_delay_seconds=0)(Moody())

    result = run(return_state=True).result(raise_on_failure=False)
    return len(calls), result


def test_an_outage_is_sat_out(prefect_api: None) -> None:
    assert outcome(ConnectionError("refused"), failures=3) == (4, "done")


def test_an_outage_without_end_is_explained(prefect_api: None) -> None:
    calls, error = outcome(ConnectionError("refused"), failures=99)
    assert calls == 6
    assert isinstance(error, LakeError)
    assert str(error) == "The lake is away."
    assert isinstance(error.__cause__, ConnectionError)


@pytest.mark.parametrize(
    ("error", "message"), [(KeyError("b"), "No such bucket"), (ValueError("own"), "own")]
)
def test_what_does_not_pass_fails_at_once(prefect_api: None, error: Exception, message: str) -> None:
    calls, raised = outcome(error, failures=1)
    assert calls == 1
    assert message in str(raised)


def test_an_error_of_no_block_keeps_its_type(prefect_api: None) -> None:
    _, raised = outcome(ValueError("own"), failures=1)
    assert type(raised) is ValueError


def test_delays_grow_in_whatever_order_they_come() -> None:
    settings = {PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS: [16, 32, 4]}
    with temporary_settings(settings):
        assert step(print).retry_delay_seconds == [4, 16, 32]
