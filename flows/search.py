"""Search for a better recipe: trials in processes of their own, each a nested run of MLflow."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from flows.series import Attempt, carry_out
from tasks import report, tuning
from tasks import search as steps
from tasks import series as fits
from tasks.parameters import narrow
from tasks.progress import progress
from tasks.search import SearchParameters, SearchResult
from tasks.series import Series
from tasks.train import teach
from tasks.training import TrainParameters
from tasks.tuning import Choice, Trial


@flow(name="search")
def search(parameters: SearchParameters = SearchParameters()) -> SearchResult:
    """Try recipes and return the best; a search that was cut short goes on.

    Raises:
        SeriesError: No trial was completed, or the process of one was killed.
    """
    warehouse, lake, tracking = Warehouse.current(), Lake.current(), Tracking.current()
    recipe = narrow(TrainParameters, parameters)
    identity = steps.identify(recipe, warehouse)
    found = steps.resume(identity, recipe, tracking, str(flow_run.get_id()))
    try:
        lesson = teach(recipe, warehouse, lake)
        given = {"recipe": recipe, "warehouse": warehouse, "lesson": lesson, "lake": lake}
        trials = _try(found, parameters, recipe, given, tracking)
        result = steps.conclude(found, recipe, trials, tracking)
    except Exception:
        fits.give_up(found, tracking)
        raise
    create_markdown_artifact(report.search(result), key="search", description=result.command)
    return result


def _try(
    search: Series[Trial],
    parameters: SearchParameters,
    recipe: TrainParameters,
    given: dict[str, Any],
    tracking: Tracking,
) -> list[Trial]:
    """Return the trials of a search, those that ended before among them."""
    began = monotonic()
    before = {trial.number for trial in search.ended}
    left = iter([number for number in range(parameters.trials) if number not in before])

    def plan(ended: Sequence[Trial], running: Sequence[Choice]) -> Attempt | None:
        late = parameters.seconds is not None and monotonic() - began >= parameters.seconds
        if late and (ended or running):
            return None
        number = next(left, None)
        if number is None:
            return None
        choice = tuning.propose(recipe, number, ended, running)
        own = {"identity": search.identity, "number": number, "choice": choice, "past": tuple(ended)}
        return Attempt(f"trial-{number}", choice, given | own)

    with progress("Searching", parameters.trials, "trials") as advance:
        advance(len(before))
        return carry_out(search, steps.attempt, plan, parameters.parallel, tracking, advance)


if __name__ == "__main__":
    result = cli.run(search, SearchParameters, "flows.search")
    print(f"The best of {len(result.trials)} trials has a macro recall of {result.best.macro_recall:.3f}:")
    print(result.command)
