"""Predict the texts of a file with the production model."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import CliPositionalArg

from blocks.tracking import Tracking
from containers.serve.predictor import Predictor
from flows import cli
from tasks import registry, scoring
from tasks.progress import logger, progress
from tasks.step import step


class ScoreParameters(BaseModel):
    """Write the rows of a file, in their order, with label and probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: CliPositionalArg[str] = Field(
        description="A .parquet, .csv, .jsonl or .ndjson file with a column text."
    )
    output: CliPositionalArg[str] = Field(description="File to write; its suffix tells its kind.")
    prefix: str = Field(default="", description="Of the new columns' names, should they be taken.")


class ScoreResult(BaseModel):
    """What was scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="Model version that predicted.")
    rows: int = Field(description="Rows written.")
    output: str = Field(description="File that was written.")


@step
def predict(parameters: ScoreParameters, tracking: Tracking) -> ScoreResult:
    """Score the file with the production model.

    Raises:
        RegistryError: There is no version in production.
        ScoringError: The file cannot be read or written.
    """
    source, target = Path(parameters.input), Path(parameters.output)
    scoring.check_target(source, target)
    version = registry.production(tracking)
    predictor = Predictor(registry.bundle_folder(tracking, version))
    total = scoring.count_rows(source)
    with progress("Scoring", total) as advance:
        rows = scoring.score_file(predictor, source, target, parameters.prefix, advance)
    logger().info("Version %s scored %s rows into %s", version.number, rows, target)
    return ScoreResult(version=version.number, rows=rows, output=str(target))


@flow(name="score")
def score(parameters: ScoreParameters) -> ScoreResult:
    """Score a file with the production model."""
    result = predict(parameters, Tracking.current())
    text = f"Version {result.version} scored {result.rows:,} rows into `{result.output}`."
    create_markdown_artifact(text, key="score", description="Batch scoring")
    return result


if __name__ == "__main__":
    cli.run(score, ScoreParameters, "flows.score")
