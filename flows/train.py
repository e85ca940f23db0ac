"""Train a network on the warehouse's rows and register it as challenger."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from blocks.lake import Lake
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from tasks import report, workers
from tasks import train as steps
from tasks.strategy import is_helper
from tasks.train import TrainResult
from tasks.training import TrainParameters


@flow(name="train")
def train(parameters: TrainParameters = TrainParameters()) -> TrainResult | None:
    """Make a model version; the same rows, recipe and code make no second one.

    Returns:
        None in a worker that is not the chief: it helps to fit, and the chief does all the rest.
    """
    warehouse, lake, tracking = Warehouse.current(), Lake.current(), Tracking.current()
    identity = steps.identify(parameters, warehouse)
    if is_helper(parameters.strategy):
        steps.help_chief(identity, parameters, warehouse)
        return None
    result = steps.find(identity, tracking)
    if result is None:
        trained = steps.find_trained(identity, lake)
        if trained is None:
            lesson = steps.teach(parameters, warehouse, lake)
            run = str(flow_run.get_id())
            fitted = steps.fit(identity, lesson, parameters, warehouse, lake, tracking, run)
            trained = steps.keep(fitted, lake)
        result = steps.publish(trained, lake, tracking)
    workers.dismiss_helpers(identity, parameters)
    steps.challenge(result, tracking)
    create_markdown_artifact(report.training(result), key="training", description=f"Version {result.version}")
    return result


if __name__ == "__main__":
    cli.run(train, TrainParameters, "flows.train")
