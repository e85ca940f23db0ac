"""The main job, on a labelled file of the user's."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from prefect.settings import PREFECT_API_URL

from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from flows.deploy import DeployParameters, deploy
from flows.pipeline import PipelineError, PipelineParameters, pipeline
from flows.summary import Summary
from tasks import registry
from tests.policies import write_policy
from tests.tweets import tiny_tokenizer, tweets

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("etl", "train", "benchmark", "deploy")

pytestmark = pytest.mark.slow


@pytest.fixture
def parameters(tmp_path: Path) -> PipelineParameters:
    path = tmp_path / "tweets.csv"
    rows = tweets(train=900, validation=0, test=0).unique("text", maintain_order=True)
    # "it's" gives the behavioural tests a contraction to expand.
    rows.select(pl.lit("it's ").add(pl.col("text")).alias("text"), "label").write_csv(path)
    return PipelineParameters(
        source="file",
        path=str(path),
        label_mapping={"0": "neutral", "1": "negative", "2": "positive"},
        labels="human",
        tokenizer=tiny_tokenizer(tmp_path / "words"),
        policy=write_policy(tmp_path / "policy.toml", minimum_rows=20, minimum_class_rows=1, ceilings={}),
        epochs=6,
        learning_rate=0.01,
    )


def test_the_whole_job_and_again(
    blocks: None, parameters: PipelineParameters, tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    first = pipeline(parameters)
    assert isinstance(first, Summary)
    assert (first.status, first.failed_stage, set(first.seconds)) == ("completed", None, set(STAGES))
    assert first.etl and first.train and first.benchmark and first.deploy and first.deploy.deployment
    assert first.etl.loaded.inserted == first.etl.rows_in - sum(first.etl.rejected.values())
    assert [scores.labels for scores in first.benchmark.challenger.scores] == ["textblob", "human"]
    assert first.benchmark.verdict.decision == "promote"
    assert first.deploy.deployment.version == first.train.version == "1"
    assert endpoint.predict(["love great"])[0]["label"] == "positive"
    assert Summary.model_validate_json(first.model_dump_json()) == first
    table = first.markdown()
    for said in ("Version 1 goes to production", endpoint.serving().url, "Epoch 1", "macro recall"):  # type: ignore[union-attr]
        assert said in table

    again = pipeline(parameters)
    assert again.etl and again.train and again.benchmark and again.deploy
    assert again.etl.loaded.unchanged == first.etl.loaded.inserted
    assert again.train.reused
    assert again.benchmark.verdict.decision == "keep"
    assert again.deploy.deployment == first.deploy.deployment
    assert list(registry.versions(tracking)) == ["1"]

    stopped = deploy(DeployParameters(stop=True))
    assert stopped.deployment is None
    assert endpoint.serving() is None


def test_the_first_stage_that_fails_ends_the_job_and_a_rerun_finishes_it(
    blocks: None, parameters: PipelineParameters, tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    with pytest.raises(PipelineError, match="The stage train failed. TrainingError: require_gpu") as failed:
        pipeline(parameters.model_copy(update={"require_gpu": True}))
    summary = failed.value.summary
    assert (summary.status, summary.failed_stage) == ("failed", "train")
    assert summary.etl is not None
    assert summary.train is None
    assert "train: TrainingError" in summary.markdown()
    assert tracking.client().search_model_versions() == []
    assert endpoint.serving() is None
    assert pipeline(parameters).status == "completed"


def test_a_first_version_under_the_floor_is_not_served(
    blocks: None, parameters: PipelineParameters, tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    strict = write_policy(Path(parameters.policy), minimum_macro_recall=1.0)
    with pytest.raises(PipelineError, match="The stage deploy failed.*no version in production"):
        pipeline(parameters.model_copy(update={"policy": strict, "epochs": 1}))
    assert registry.aliased(tracking, registry.PRODUCTION) is None
    assert endpoint.serving() is None


def test_a_job_killed_in_each_stage_is_finished_by_the_next(
    blocks: None,
    parameters: PipelineParameters,
    warehouse: DuckDBWarehouse,
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
) -> None:
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONUNBUFFERED": "1"}
    flags = f"--source file --path {parameters.path} --labels human --tokenizer {parameters.tokenizer}"
    flags += " --label-mapping 0=neutral,1=negative,2=positive"
    flags += f" --policy {parameters.policy}"
    flags += " --epochs 6 --learning-rate 0.01"
    command = [sys.executable, "-m", "flows.pipeline", *flags.split()]
    moments = [r"labelled/\w+: ", r"Epoch 2 of", r"subflow run .* 'benchmark'", r"subflow run .* 'deploy'"]
    for moment in moments:
        assert _killed_at(moment, command, environment), f"{moment} was never said"

    written = [run_file, page] = [ROOT / ".local" / name for name in ("run.json", "benchmark.html")]
    kept = {path: path.read_bytes() for path in written if path.exists()}
    try:
        last = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert last.returncode == 0, last.stderr[-3000:]
        assert json.loads(run_file.read_text())["status"] == "completed"
        assert "<h1>Version 1 " in page.read_text()
    finally:
        for path in written:
            path.unlink(missing_ok=True)
            if path in kept:
                path.write_bytes(kept[path])
    (rows,) = warehouse.query("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM {table}")
    wanted = len(Path(str(parameters.path)).read_text().splitlines()) - 1
    assert rows.row(0) == (wanted, wanted)
    assert list(registry.versions(tracking)) == ["1"]
    production = registry.production(tracking)
    assert (production.number, production.tags[registry.STATUS]) == ("1", registry.PRODUCTION)
    assert registry.aliased(tracking, registry.CHALLENGER) is None
    runs = tracking.client().search_runs([tracking.prepare()])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED"]
    serving = endpoint.serving()
    assert serving is not None
    assert serving.version == "1"
    assert len(endpoint._servers()) == 1


def _killed_at(moment: str, command: list[str], environment: dict[str, str]) -> bool:
    """Run a command, and kill it and what it started as soon as it says something; tells if it did."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(moment, line):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    process.wait()
    return False
