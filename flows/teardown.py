"""Take down what the project runs, and say what is left."""

from prefect import flow
from prefect.artifacts import create_table_artifact

from blocks.endpoint import Endpoint
from blocks.images import Images
from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from tasks import teardown as steps
from tasks.deploy import stop
from tasks.teardown import COLUMNS, TeardownError, TeardownParameters, TeardownResult


@flow(name="teardown")
def teardown(parameters: TeardownParameters = TeardownParameters()) -> TeardownResult:
    """List what the project has made, or delete all of it but the data.

    The endpoint first: while there is one, it may need its image. What was deleted before a failure is found
    to be gone by the next run, which goes on with the rest.

    Raises:
        TeardownError: Not all was deleted.
    """
    endpoint, images = Endpoint.current(), Images.current()
    roles = (endpoint, images, Lake.current(), Warehouse.current(), Tracking.current())
    before = tuple(found for role in roles for found in steps.find(role))
    result = report(TeardownResult.of(before, before))
    if not parameters.yes:
        return result
    try:
        stop(endpoint)
        steps.remove(images)
    except Exception as error:
        raise TeardownError(f"{error} The same command goes on with what is left.") from error
    after = tuple(found for role in roles for found in steps.find(role))
    return report(TeardownResult.of(before, after))


def report(result: TeardownResult) -> TeardownResult:
    """Keep it as an artifact of the run."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in result.rows()]
    create_table_artifact(rows, key="teardown", description=result.said())
    return result


def show(result: TeardownResult) -> None:
    """Show in a terminal what was deleted, and what is left."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*COLUMNS, title="What the project has made", title_justify="left")
    for row in result.rows():
        table.add_row(*map(escape, row))
    Console().print(table)


if __name__ == "__main__":
    result = cli.run(teardown, TeardownParameters, "flows.teardown")
    show(result)
    print(result.said())
