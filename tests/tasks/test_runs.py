"""What MLflow is told of a fit."""

import logging
import time

import mlflow
import pytest

from blocks.tracking import LocalTracking, ServerTracking
from tasks import runs
from tests.cloud import free_ports
from tests.tasks.test_trained import fit

EPOCH = {"loss": 0.1 + 0.2, "val_loss": 1 / 3}


def test_a_fit_has_one_run_and_killed_ones_like_it_are_closed(tracking: LocalTracking) -> None:
    with tracking.connected() as experiment:
        first = runs.open_run(tracking, experiment, fit("first"))
        assert runs.open_run(tracking, experiment, fit("first")) == first
        second = runs.open_run(tracking, experiment, fit("second"))
        found = {run.info.run_id: run.info for run in tracking.client().search_runs([experiment])}
    assert {run: info.status for run, info in found.items()} == {first: "KILLED", second: "RUNNING"}
    assert found[second].start_time == fit().began
    assert found[second].run_name == "pooled-textblob"


def test_metrics_that_are_logged_again_are_not_doubled(tracking: LocalTracking) -> None:
    client = tracking.client()
    with runs.Live(tracking, fit()) as live:
        live.log(1, 2_000, EPOCH)
        live.log(1, 2_000, EPOCH)
        live.log(2, 3_000, EPOCH)
    (run,) = client.search_runs([tracking.prepare()])
    for name, value in EPOCH.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [(p.step, p.timestamp, p.value) for p in history] == [(1, 2_000, value), (2, 3_000, value)]


def test_a_fit_that_fails_ends_its_run(tracking: LocalTracking) -> None:
    with pytest.raises(ZeroDivisionError), runs.Live(tracking, fit()):
        raise ZeroDivisionError
    (run,) = tracking.client().search_runs([tracking.prepare()])
    assert run.info.status == "FAILED"


def test_a_server_that_is_away_holds_nothing_up_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    away = ServerTracking(address=f"http://127.0.0.1:{free_ports(1)[0]}")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "sentiment"), runs.Live(away, fit()) as live:
        for number in range(1, 6):
            live.log(number, 1_000 * number, EPOCH)
    assert time.monotonic() - began < 5
    (told,) = [record.getMessage() for record in caplog.records if record.name == "sentiment"]
    assert told.startswith("Training goes on, and its metrics are logged at the end. ")
    assert f"{away.address} is not running" in told


def test_a_half_of_a_model_is_not_taken_for_one(tracking: LocalTracking) -> None:
    client = tracking.client()
    with tracking.connected() as experiment:
        run = runs.open_run(tracking, experiment, fit())
        half = client.create_logged_model(experiment, name="model", source_run_id=run)
        assert runs._logged_model(client, experiment, run) is None
        assert client.search_logged_models([experiment]) == []
        whole = client.create_logged_model(experiment, name="model", source_run_id=run)
        client.finalize_logged_model(whole.model_id, "READY")
        assert runs._logged_model(client, experiment, run) == whole.model_uri != half.model_uri
        other = runs.open_run(tracking, experiment, fit("second"))
        assert runs._logged_model(client, experiment, other) is None
    assert mlflow.active_run() is None
