"""Search for a better recipe: trials in processes of their own, each a nested run of MLflow."""

from concurrent.futures.process import BrokenProcessPool
from time import monotonic

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner

from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from tasks import report, tuning
from tasks import search as steps
from tasks.progress import progress
from tasks.search import Search, SearchError, SearchParameters, SearchResult
from tasks.tuning import Choice, Trial


@flow(name="search")
def search(parameters: SearchParameters = SearchParameters()) -> SearchResult:
    """Try recipes and return the best; a search that was cut short goes on.

    Raises:
        SearchError: No trial was completed, or the process of one was killed.
    """
    warehouse, tracking = Warehouse.current(), Tracking.current()
    identity = steps.identify(parameters, warehouse)
    found = steps.resume(identity, parameters, tracking, str(flow_run.get_id()))
    try:
        trials = _try(found, parameters, warehouse, tracking)
        result = steps.conclude(found, trials, tracking)
    except Exception:
        steps.give_up(found, tracking)
        raise
    create_markdown_artifact(report.search(result), key="search", description=result.command)
    return result


def _try(
    search: Search, parameters: SearchParameters, warehouse: Warehouse, tracking: Tracking
) -> list[Trial]:
    """Return the trials of a search, those that ended before among them."""
    began = monotonic()
    trials = list(search.trials)
    ended = {trial.number for trial in trials}
    left = [number for number in range(parameters.trials) if number not in ended]
    running: dict[PrefectFuture[Trial], tuple[Choice, str]] = {}
    with get_client(sync_client=True) as client:
        api = str(client.api_url)
    with (
        # Without a server to go to, each process would start its own instead of using this one's.
        temporary_settings({PREFECT_API_URL: api}),
        progress("Searching", parameters.trials, "trials") as advance,
        ProcessPoolTaskRunner(parameters.parallel, initializer=steps.end_with_parent) as runner,
    ):
        advance(len(trials))
        while True:
            in_time = parameters.seconds is None or monotonic() - began < parameters.seconds
            while left and len(running) < parameters.parallel and (in_time or not trials):
                number = left.pop(0)
                tried = [choice for choice, _ in running.values()]
                choice = tuning.propose(search.recipe, number, trials, tried)
                run = steps.begin(search, number, choice, tracking)
                task = steps.attempt.with_options(task_run_name=f"trial-{number}")
                given = {"recipe": search.recipe, "number": number, "choice": choice, "past": tuple(trials)}
                running[runner.submit(task, {**given, "warehouse": warehouse})] = choice, run
            if not running:
                return trials
            future = next(as_completed(list(running)))
            try:
                trial = future.result()
            except BrokenProcessPool as error:
                raise SearchError(
                    "The process of a trial was killed, most likely for want of memory: lower --parallel "
                    "or --batch-size. Run again, and the search goes on."
                ) from error
            steps.record(trial, running.pop(future)[1], tracking)
            trials.append(trial)
            advance(1)


if __name__ == "__main__":
    result = cli.run(search, SearchParameters, "flows.search")
    print(f"The best of {len(result.trials)} trials has a macro recall of {result.best.macro_recall:.3f}:")
    print(result.command)
