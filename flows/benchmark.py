"""Judge the challenger against production; the better one serves."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from flows import cli
from tasks import benchmark as steps
from tasks import page, reigns, report
from tasks.benchmark import BenchmarkParameters, BenchmarkResult
from tasks.policy import read_policy
from tasks.rollback import history


@flow(name="benchmark")
def benchmark(parameters: BenchmarkParameters = BenchmarkParameters()) -> BenchmarkResult:
    """Benchmark the newest version; it becomes production if the gate says so, else it is archived."""
    policy = read_policy(parameters.policy)
    warehouse, tracking = Warehouse.current(), Tracking.current()
    result = steps.find(tracking)
    if result is None:
        result = steps.gather(parameters, policy, warehouse, tracking)
        steps.apply(result, tracking)
    text = f"{report.benchmark(result)}\n\n{reigns.page(history(tracking))}"
    create_markdown_artifact(text, key="benchmark", description=result.verdict.headline())
    return result


def main() -> None:
    """Run the benchmark from the command line, and leave its page beside the local state."""
    result = cli.run(benchmark, BenchmarkParameters, "flows.benchmark")
    print(f"The report: {page.write(result, page.PAGE)}")


if __name__ == "__main__":
    main()
