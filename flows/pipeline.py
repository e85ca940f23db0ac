"""The main job: ETL, training, benchmark and deployment in a row."""

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, field_validator

from blocks.tracking import Tracking
from flows import cli
from flows.benchmark import benchmark
from flows.deploy import DeployParameters, deploy
from flows.etl import etl
from flows.summary import Stage, Summary
from flows.train import train
from tasks import page
from tasks.benchmark import BenchmarkParameters
from tasks.etl import EtlParameters
from tasks.parameters import narrow
from tasks.strategy import StrategyName
from tasks.training import TrainParameters

STAGES: tuple[tuple[Stage, Callable[[Any], BaseModel | None], type[BaseModel]], ...] = (
    ("etl", etl, EtlParameters),
    ("train", train, TrainParameters),
    ("benchmark", benchmark, BenchmarkParameters),
    ("deploy", deploy, DeployParameters),
)


class PipelineParameters(EtlParameters, TrainParameters, BenchmarkParameters):
    """Run the whole job: tweets, model, verdict, endpoint."""

    @field_validator("strategy")
    @classmethod
    def _one_host(cls, strategy: StrategyName) -> StrategyName:
        if strategy == "workers":
            raise ValueError("workers only train: run `python -m flows.train` in each of them")
        return strategy


class PipelineError(RuntimeError):
    """Raised when a stage fails; carries the summary of what was done until then."""

    def __init__(self, summary: Summary) -> None:
        super().__init__(f"The stage {summary.failed_stage} failed. {summary.error}")
        self.summary = summary


@flow(name="pipeline")
def pipeline(parameters: PipelineParameters = PipelineParameters()) -> Summary:
    """Run the four flows; the first that fails ends the job and leaves in place what was there.

    Raises:
        PipelineError: A stage failed.
    """
    summary = Summary(mlflow_ui=Tracking.current().where())
    for stage, run, kind in STAGES:
        began = monotonic()
        try:
            result = run(narrow(kind, parameters))
            assert result is not None  # of a worker that only helps
        except Exception as error:
            raise PipelineError(summary.failed(stage, monotonic() - began, error)) from error
        summary = summary.passed(stage, monotonic() - began, result)
    summary = summary.model_copy(update={"status": "completed"})
    create_markdown_artifact(summary.markdown(), key="pipeline", description="The main job, stage by stage")
    return summary


def main() -> None:
    """Run the job from the command line, show its summary and leave it in the run file."""
    from rich.console import Console

    parameters = cli.parse(PipelineParameters, "python -m flows.pipeline")
    cli.prepare()
    try:
        summary = pipeline(parameters)
    except PipelineError as error:
        summary = error.summary
    path = summary.write()
    console = Console()
    console.print(summary.rich())
    console.print(f"The same facts: {path}", soft_wrap=True)
    if summary.benchmark is not None:
        shown = page.write(summary.benchmark, page.PAGE)
        console.print(f"The benchmark's report: {shown}", soft_wrap=True)
    sys.exit(0 if summary.status == "completed" else 1)


if __name__ == "__main__":
    main()
