"""Judge the challenger against production; the better one serves."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from tasks import benchmark as steps
from tasks import reigns, report
from tasks.benchmark import BenchmarkParameters, BenchmarkResult
from tasks.rollback import history


@flow(name="benchmark")
def benchmark(parameters: BenchmarkParameters = BenchmarkParameters()) -> BenchmarkResult:
    """Benchmark the newest version; it becomes production if the gate says so, else it is archived."""
    warehouse, tracking = Warehouse.current(), Tracking.current()
    result = steps.find(tracking)
    if result is None:
        result = steps.gather(parameters, warehouse, tracking)
        steps.apply(result, tracking)
    page = report.benchmark(result.verdict, result.challenger, result.production)
    create_markdown_artifact(
        f"{page}\n\n{reigns.page(history(tracking))}", key="benchmark", description=result.verdict.reasons[0]
    )
    return result


if __name__ == "__main__":
    cli.run(benchmark, BenchmarkParameters, "flows.benchmark")
