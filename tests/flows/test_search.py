"""The flow `search` finds a recipe, keeps what it tried in MLflow, and goes on from there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL

from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from flows.search import search
from tasks import search as steps
from tasks import series, tuning
from tasks.parameters import narrow
from tasks.rows import RowsError
from tasks.search import SearchParameters
from tasks.series import PARENT, SeriesError
from tasks.training import TrainParameters
from tasks.tuning import STARTUP, Trial
from tests.flows.test_train import ROOT, artifacts, runs, versions
from tests.tweets import tiny_tokenizer, tweets


def parameters(tmp_path: Path, **changes: Any) -> SearchParameters:
    values = {"tokenizer": tiny_tokenizer(tmp_path / "words"), "epochs": 2, "learning_rate": 0.003}
    return SearchParameters.model_validate(values | changes)


def split(tracking: LocalTracking) -> tuple[list[Any], list[Any]]:
    """Return the runs of series and those of their fits, the latter as they were begun."""
    found = runs(tracking)
    trials = [run for run in found if PARENT in run.data.tags]
    return [run for run in found if run not in trials], sorted(trials, key=lambda run: run.info.start_time)


def test_rows_that_cannot_be_searched_on(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="flows.etl"):
        search(parameters(tmp_path))
    warehouse.merge([tweets(validation=0)])
    with pytest.raises(RowsError, match="validation split.*flows.etl"):
        search(parameters(tmp_path))
    assert runs(tracking) == []


@pytest.mark.slow
def test_it_finds_a_recipe_and_goes_on_with_more_trials(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    first = search(parameters(tmp_path, trials=3, parallel=2))
    recalls = [trial.macro_recall or 0 for trial in first.trials]
    assert [trial.number for trial in first.trials] == [0, 1, 2]
    assert first.best.macro_recall == max(recalls) > min(recalls)
    assert first.trials[0].choice.learning_rate == 0.003
    assert f"--learning-rate {first.best.choice.learning_rate:g}" in first.command

    (parent,), trials = split(tracking)
    assert (parent.info.run_id, parent.info.status) == (first.run_id, "FINISHED")
    assert parent.data.metrics["best_macro_recall"] == first.best.macro_recall
    figures = {f"{name}.png" for name in ("history", "importances", "parallel_coordinates", "slices")}
    assert artifacts(tracking, parent.info.run_id) == figures | {"search.json"}
    assert [run.data.tags[PARENT] for run in trials] == [first.run_id] * 3
    for run, trial in zip(trials, first.trials, strict=True):
        assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "complete")
        assert run.data.params == {name: str(value) for name, value in trial.choice}
        assert run.data.metrics["macro_recall"] == trial.macro_recall
        history = tracking.client().get_metric_history(run.info.run_id, "val_loss")
        assert [point.value for point in history] == [epoch["val_loss"] for epoch in trial.epochs]
    assert versions(tracking) == []

    assert search(parameters(tmp_path, trials=3)) == first, "nothing was left to try"
    more = search(parameters(tmp_path, trials=4))
    assert more.trials[:3] == first.trials and len(more.trials) == 4
    assert len(split(tracking)[0]) == 1
    assert [run.info.run_id for run in split(tracking)[1]][:3] == [run.info.run_id for run in trials]

    with pytest.raises(SeriesError, match="None of the 2 trials.*not a number.*lower --learning-rate"):
        search(parameters(tmp_path, trials=2, learning_rate=1e30))
    parents, trials = split(tracking)
    assert sorted(run.info.status for run in parents) == ["FAILED", "FINISHED"]
    failed = [run.data.tags["reason"] for run in trials if run.info.status == "FAILED"]
    assert failed == ["the loss was not a number in epoch 1"] * 2


@flow
def record_trials(asked: SearchParameters, warehouse: DuckDBWarehouse, tracking: LocalTracking) -> None:
    """Leave trials of low loss behind, as many as it takes for others to be cut short."""
    recipe = narrow(TrainParameters, asked)
    found = steps.resume(steps.identify(recipe, warehouse), recipe, tracking, "no flow run")
    for number in range(STARTUP):
        choice = tuning.propose(recipe, number, ())
        epochs = ({"val_loss": 1e-9},) * choice.epochs
        trial = Trial(number=number, choice=choice, state="complete", macro_recall=0.1, epochs=epochs)
        run = series.begin(found, f"trial-{number}", choice, tracking)
        series.record(trial, f"trial-{number}", run, tracking)


def test_a_trial_that_is_cut_short_is_kept_and_never_the_best(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    asked = parameters(tmp_path, trials=STARTUP + 1, epochs=4)
    record_trials(asked, warehouse, tracking)
    found = search(asked)
    *past, cut = found.trials
    assert [trial.state for trial in found.trials] == ["complete"] * STARTUP + ["pruned"]
    assert (len(cut.epochs), cut.macro_recall) == (-(-cut.choice.epochs // 4), None), "after a quarter"
    assert found.best == past[0]
    run = split(tracking)[1][-1]
    assert (run.info.run_name, run.info.status) == (f"trial-{STARTUP}", "FINISHED")
    assert (run.data.tags["state"], run.data.tags["reason"]) == ("pruned", cut.reason)
    assert "validation loss was above the median" in cut.reason
    history = tracking.client().get_metric_history(run.info.run_id, "val_loss")
    assert [point.value for point in history] == [epoch["val_loss"] for epoch in cut.epochs]
    assert search(asked) == found, "it is not made again"
    assert len(split(tracking)[1]) == STARTUP + 1


@pytest.mark.slow
def test_no_trial_is_begun_when_the_time_is_over(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    first = search(parameters(tmp_path, trials=3, seconds=1e-6, parallel=2))
    assert [(trial.number, trial.state) for trial in first.trials] == [(0, "complete")], "one at least"
    (parent,), _ = split(tracking)
    assert (first.best, parent.info.status) == (first.trials[0], "FINISHED")
    assert search(parameters(tmp_path, trials=3, seconds=1e-6)) == first, "there is one"
    rest = search(parameters(tmp_path, trials=3))
    assert (rest.run_id, [trial.number for trial in rest.trials]) == (first.run_id, [0, 1, 2])
    assert rest.trials[0] == first.trials[0]
    assert len(split(tracking)[1]) == 3


@contextmanager
def started(folder: Path, module: str, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a flow in a process group of its own, which does not outlive the block; yields its log, too."""
    log = folder / "log"
    common = ["--tokenizer", tiny_tokenizer(folder / "words"), "--epochs", "2", "--learning-rate", "0.003"]
    command = [sys.executable, "-m", module, *common, *flags]
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fitting(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes of trials."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def killed_and_started_again(
    tracking: LocalTracking, folder: Path, module: str, *flags: str
) -> tuple[list[Any], str]:
    """Kill a flow in its third fit, let it go on, and return the runs of the fits and what it said then."""
    with started(folder, module, *flags) as (process, log):
        deadline = time.monotonic() + 240
        while log.read_text().count(" complete in ") < 2 or len(split(tracking)[1]) < 3:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        children = fitting(process)
        assert children
        process.kill()
        assert psutil.wait_procs(children, timeout=20)[1] == [], "a fit outlives its series"
    (parent,), before = split(tracking)
    assert parent.info.status == "RUNNING"
    assert [run.info.status for run in before] == ["FINISHED", "FINISHED", "RUNNING"]

    with started(folder, module, *flags) as (process, log):
        assert process.wait(300) == 0, log.read_text()
    assert "has ended 2 fits before: it goes on" in log.read_text()
    (again,), after = split(tracking)
    assert (again.info.run_id, again.info.status) == (parent.info.run_id, "FINISHED")
    assert [run.info.end_time for run in after[:2]] == [run.info.end_time for run in before[:2]]
    assert [run.info.status for run in after] == ["FINISHED", "FINISHED", "KILLED", "FINISHED", "FINISHED"]
    assert after[2].data.params == after[3].data.params, "as if it had not been killed"
    return after, log.read_text()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_trial_it_goes_on(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    fits, said = killed_and_started_again(tracking, tmp_path, "flows.search", "--trials", "4")
    assert [fit.info.run_name for fit in fits] == ["trial-0", "trial-1", "trial-2", "trial-2", "trial-3"]
    assert "python -m flows.train --tokenizer" in said
