"""The summary of the main job: what `.local/run.json` holds and the table that a person reads."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from blocks.role import local_path
from flows.etl import EtlResult
from tasks.benchmark import BenchmarkResult
from tasks.deploy import DeployResult
from tasks.report import KINDS, table
from tasks.train import TrainResult

if TYPE_CHECKING:
    from rich.console import RenderableType

RUN_FILE = ".local/run.json"

Stage = Literal["etl", "train", "benchmark", "deploy"]


class Summary(BaseModel):
    """What the main job did, stage by stage. A stage that was not reached is null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = Field(default=1, description="Version of this schema.")
    status: Literal["running", "completed", "failed"] = Field(default="running", description="How it ended.")
    failed_stage: Stage | None = Field(default=None, description="Stage that failed, if one did.")
    error: str | None = Field(default=None, description="What went wrong, and the remedy.")
    started: datetime = Field(default_factory=lambda: datetime.now(UTC), description="Start of the job, UTC.")
    seconds: dict[Stage, float] = Field(default={}, description="Time of each stage.")
    etl: EtlResult | None = Field(default=None, description="Rows in, rejected and loaded.")
    train: TrainResult | None = Field(default=None, description="Version, epochs and validation scores.")
    benchmark: BenchmarkResult | None = Field(default=None, description="Evidence and verdict.")
    deploy: DeployResult | None = Field(default=None, description="Endpoint and live predictions.")
    prefect_ui: str = Field(
        default="`make ui`, then http://127.0.0.1:4200", description="Where the runs are."
    )
    mlflow_ui: str = Field(default="", description="Where the models are.")

    def passed(self, stage: Stage, seconds: float, result: BaseModel) -> Self:
        """Return the summary with one stage more."""
        times = {**self.seconds, stage: round(seconds, 1)}
        return self.model_copy(update={stage: result, "seconds": times})

    def failed(self, stage: Stage, seconds: float, error: Exception) -> Self:
        """Return the summary of a job that ended in this stage."""
        times = {**self.seconds, stage: round(seconds, 1)}
        message = f"{type(error).__name__}: {error}"
        return self.model_copy(
            update={"status": "failed", "failed_stage": stage, "error": message, "seconds": times}
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as pairs of name and value."""
        return [
            *self._etl_rows(),
            *self._train_rows(),
            *self._benchmark_rows(),
            *self._deploy_rows(),
            ("Time", ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items())),
            ("Prefect UI", self.prefect_ui),
            ("MLflow UI", self.mlflow_ui),
            *([("Failed", f"{self.failed_stage}: {self.error}")] if self.error else []),
        ]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return table(("what", "result"), self.rows())

    def rich(self) -> "RenderableType":
        """Return the table for a terminal."""
        from rich.table import Table

        shown = Table("what", "result", title=f"sentiment-flows: {self.status}", title_justify="left")
        for name, value in self.rows():
            shown.add_row(name, value)
        return shown

    def write(self, path: str = RUN_FILE) -> Path:
        """Write the summary as JSON and return where."""
        target = local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_text(self.model_dump_json(indent=2) + "\n")
        return part.replace(target)

    def _etl_rows(self) -> list[tuple[str, str]]:
        if self.etl is None:
            return []
        loaded = self.etl.loaded
        reasons = "\n".join(f"{count} × {reason}" for reason, count in self.etl.rejected.items()) or "none"
        return [
            (f"Rows in ({self.etl.source})", f"{self.etl.rows_in:,}"),
            ("Rows rejected", reasons),
            (
                "Rows loaded",
                f"{loaded.inserted:,} new, {loaded.updated:,} updated, {loaded.unchanged:,} there before",
            ),
        ]

    def _train_rows(self) -> list[tuple[str, str]]:
        if self.train is None:
            return []
        made = "reused" if self.train.reused else f"trained on {self.train.device}"
        rows = [(f"Model version {self.train.version}", f"{self.train.network} network, {made}")]
        for number, epoch in enumerate(self.train.epochs, start=1):
            rows.append(
                (f"Epoch {number}", ", ".join(f"{name} {value:.3f}" for name, value in epoch.items()))
            )
        return rows

    def _benchmark_rows(self) -> list[tuple[str, str]]:
        if self.benchmark is None:
            return []
        rows: list[tuple[str, str]] = []
        models = {
            "challenger_failed": self.benchmark.challenger,
            "production_failed": self.benchmark.production,
        }
        for failed, evidence in models.items():
            if evidence is None:
                continue
            for scores in evidence.scores:
                name = f"Version {evidence.version}, {KINDS[scores.labels]} labels"
                values = f"macro recall {scores.macro_recall:.3f}, accuracy {scores.accuracy:.3f}"
                rows.append((name, f"{values} ({scores.rows:,} test rows)"))
            lines = (f"{c.name} {getattr(c, failed):,} of {c.cases:,}" for c in self.benchmark.capabilities)
            rows.append((f"Version {evidence.version}, failed cases", "\n".join(lines)))
        for baseline in self.benchmark.baselines:
            values = ", ".join(f"{s.macro_recall:.3f} on {KINDS[s.labels]} labels" for s in baseline.scores)
            rows.append(
                (f"Baseline {baseline.name}", f"macro recall {values}" if values else baseline.reason)
            )
        left_out = [f"{count:,} {reason}" for reason, count in self.benchmark.excluded.items()]
        if left_out:
            rows.append(("Left out of the benchmark", "\n".join(left_out)))
        verdict = self.benchmark.verdict
        return [*rows, ("Verdict", "\n".join([verdict.headline(), *verdict.reasons]))]

    def _deploy_rows(self) -> list[tuple[str, str]]:
        if self.deploy is None or self.deploy.deployment is None:
            return []
        answers = "\n".join(
            f"{answer.label} ({getattr(answer, f'p_{answer.label}'):.2f}): {answer.text}"
            for answer in self.deploy.predictions
        )
        deployment = self.deploy.deployment
        return [
            ("Endpoint", f"{deployment.url} serves version {deployment.version}"),
            ("Live predictions", answers),
        ]


def schema() -> dict[str, Any]:
    """Return the JSON schema of the run file."""
    return Summary.model_json_schema()
