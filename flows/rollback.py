"""Put an earlier version back into production, in the registry and at the endpoint."""

from prefect import flow
from prefect.artifacts import create_table_artifact

from blocks.endpoint import Endpoint
from blocks.images import Images
from blocks.tracking import Tracking
from flows import cli
from tasks import rollback as steps
from tasks.reigns import COLUMNS, Reign
from tasks.rollback import RollbackError, RollbackParameters, RollbackResult


@flow(name="rollback")
def rollback(parameters: RollbackParameters = RollbackParameters()) -> RollbackResult:
    """Put a version back into production and serve it, or show who was in production when.

    The endpoint first: a version that will not do changes nothing in the registry.

    Raises:
        RollbackError: It was not put back.
    """
    tracking = Tracking.current()
    if parameters.list:
        result = RollbackResult(said="Nothing was changed.", deployment=None, history=steps.history(tracking))
    else:
        images, endpoint = Images.current(), Endpoint.current()
        change = steps.choose(parameters.version, tracking)
        before = steps.answering(endpoint)
        try:
            deployment = steps.serve(change, tracking, images, endpoint)
            steps.record(change, parameters.reason, tracking)
        except Exception as error:
            state = steps.agree(tracking, images, endpoint)
            raise RollbackError(f"Version {change.version} was not put back: {error} {state}") from error
        said = change.told(deployment, touched=before != deployment)
        result = RollbackResult(said=said, deployment=deployment, history=steps.history(tracking))
    rows = [dict(zip(COLUMNS, reign.row(), strict=True)) for reign in result.history]
    create_table_artifact(rows, key="production-history", description=result.said)
    return result


def show(history: tuple[Reign, ...]) -> None:
    """Show in a terminal who was in production when."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("version", "from, until", "put there by", title="In production", title_justify="left")
    for reign in history:
        version, since, until, by, why, who, run, after = reign.row()
        ended = f"{until}, then {after}" if after else ""
        source = [f"{by}: {why}", who, run and f"MLflow run {run}"]
        table.add_row(version, f"{since}\n{ended}", escape("\n".join(filter(None, source))))
    Console().print(table)


if __name__ == "__main__":
    result = cli.run(rollback, RollbackParameters, "flows.rollback")
    show(result.history)
    print(result.said)
