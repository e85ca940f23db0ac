"""The flow `curve` fits each share with each seed once, and keeps the fits in MLflow."""

from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact

from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from flows.curve import curve
from tasks.curve import CurveParameters
from tasks.rows import RowsError
from tests.flows.test_search import killed_and_started_again, split
from tests.flows.test_train import artifacts, runs
from tests.tweets import tiny_tokenizer, tweets


def parameters(tmp_path: Path, **changes: Any) -> CurveParameters:
    values = {"tokenizer": tiny_tokenizer(tmp_path / "words"), "epochs": 2, "learning_rate": 0.003}
    return CurveParameters.model_validate(values | changes)


def test_rows_that_are_too_few(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="flows.etl"):
        curve(parameters(tmp_path))
    warehouse.merge([tweets()])
    with pytest.raises(RowsError, match="2 of share 0.01 with seed 1, none is .*: give --shares from 0.0"):
        curve(parameters(tmp_path, shares=(0.01, 1)))
    assert runs(tracking) == []


@pytest.mark.slow
def test_each_share_is_fitted_once_with_each_seed(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    first = curve(parameters(tmp_path, shares=(0.1, 1), seeds=(1, 2), parallel=2))
    low, high = first.levels
    assert [(fit.point.share, fit.point.seed, fit.rows) for fit in first.fits] == [
        *((0.1, 1, 24), (0.1, 2, 24), (1, 1, 240), (1, 2, 240))
    ]
    recalls = [fit.macro_recall or 0 for fit in first.fits]
    assert len(set(recalls)) > 1
    assert (low.rows, low.seeds, low.macro_recall.mean) == (24, 2, sum(recalls[:2]) / 2)
    assert (high.macro_recall.deviation or 0) == pytest.approx(abs(recalls[2] - recalls[3]) / 2**0.5)
    assert high.loss.mean < low.loss.mean, "ten times the rows, and ten times the steps"
    assert all(fit.cpu_seconds > 0 for fit in first.fits)

    (parent,), nested = split(tracking)
    assert (parent.info.run_id, parent.info.status) == (first.run_id, "FINISHED")
    assert artifacts(tracking, parent.info.run_id) == {"curve.png", "curve.md", "curve.json"}
    history = tracking.client().get_metric_history(parent.info.run_id, "macro_recall_mean")
    assert [(point.step, point.value) for point in history] == [
        (level.rows, level.macro_recall.mean) for level in first.levels
    ]
    by_name = {run.info.run_name: run for run in nested}
    for fit in first.fits:
        run = by_name.pop(f"share-{fit.point.share}-seed-{fit.point.seed}")
        assert (run.info.status, run.data.params["seed"]) == ("FINISHED", str(fit.point.seed))
        assert run.data.metrics["macro_recall"] == fit.macro_recall
        assert run.data.metrics["best_val_loss"] == fit.loss
    assert by_name == {}
    artifact = Artifact.get("curve")
    assert artifact is not None and f"| 0.1 | 24 | 2 | {low.macro_recall} |" in str(artifact.data)

    # One that was killed, as MLflow sees it, is made again; those that ended are not.
    client, lost = tracking.client(), next(run for run in nested if run.data.params["share"] == "0.1")
    client.update_run(lost.info.run_id, status="RUNNING")
    again = curve(parameters(tmp_path, shares=(0.1,), seeds=(1, 2)))
    assert again.run_id == first.run_id
    assert [fit.point for fit in again.fits] == [fit.point for fit in first.fits[:2]]
    assert again.levels[0].macro_recall == low.macro_recall, "equal seeds give equal weights"
    known = {run.info.run_id: run.info for run in split(tracking)[1]}
    assert len(known) == 5 and known[lost.info.run_id].status == "KILLED"
    assert all(known[r.info.run_id].end_time == r.info.end_time for r in nested if r is not lost)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_fit_it_goes_on(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    flags = "--shares", "0.5,1", "--seeds", "1,2"
    fits, said = killed_and_started_again(tracking, tmp_path, "flows.curve", *flags)
    made = "share-0.5-seed-1", "share-1.0-seed-1", "share-0.5-seed-2", "share-0.5-seed-2", "share-1.0-seed-2"
    assert tuple(fit.info.run_name for fit in fits) == made
    assert "| 0.5 | 120 | 2 | " in said and "| 1 | 240 | 2 | " in said
