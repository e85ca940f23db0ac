"""Training and benchmark on a real MLflow server, which may be away for a while."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest

from blocks.lake import LocalLake
from blocks.tracking import ServerTracking, TrackingError
from blocks.warehouse import DuckDBWarehouse
from flows.train import train
from tasks import registry
from tasks import train as steps
from tasks.trained import find_trained
from tasks.training import TrainParameters
from tests.cloud.gateway import Request
from tests.cloud.mlflow_server import MlflowServer
from tests.flows.test_benchmark import Registry, held_out
from tests.tweets import tiny_tokenizer, tweets

EPOCHS = 3


@pytest.fixture
def server(blocks: None, mlflow_server: MlflowServer) -> ServerTracking:
    """Save the server's block in place of the local one."""
    tracking = mlflow_server.tracking()
    tracking.appoint()
    return tracking


@pytest.fixture
def recipe(warehouse: DuckDBWarehouse, tmp_path: Path) -> TrainParameters:
    warehouse.merge([tweets()])
    return TrainParameters(tokenizer=tiny_tokenizer(tmp_path / "words"), epochs=EPOCHS, learning_rate=0.01)


def whole_run(tracking: ServerTracking, losses: list[float]) -> Any:
    """Return the only run, after a look at whether it has all that it should, once."""
    with tracking.connected() as experiment:
        client = tracking.client()
        (run,) = client.search_runs([experiment])
        history = client.get_metric_history(run.info.run_id, "loss")
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        (logged,) = client.search_logged_models([experiment])
        model = mlflow.pyfunc.load_model(f"models:/{tracking.model}@challenger")
        assert len(model.predict([{"text": "I love it"}, {"text": ""}])) == 2
    assert run.info.status == "FINISHED"
    assert sorted((point.step, point.value) for point in history) == list(enumerate(losses, start=1))
    assert len({point.timestamp for point in history}) == len(losses)
    assert run.data.params["network"] == "pooled"
    assert run.data.metrics.keys() >= {"val_loss", "validation_human_macro_recall", "fit_seconds"}
    assert {entry.tags[0].value for entry in run.inputs.dataset_inputs} == {"training", "validation"}
    figures = {"learning_curve.png", "confusion_matrix_textblob.png", "confusion_matrix_human.png"}
    assert artifacts == figures | {"train.json"}
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert logged.artifact_location.startswith("mlflow-artifacts:/") and str(logged.status) == "READY"
    return run


def steps_taken(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the names of the steps that were taken since this was asked last."""
    runs = [record for record in caplog.records if record.name == "prefect.task_runs"]
    caplog.clear()
    return {str(record.__dict__["task_run_name"]).rsplit("-", 1)[0] for record in runs}


def test_two_versions_and_no_path_of_this_machine(
    server: ServerTracking, recipe: TrainParameters, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    result = train(recipe)
    assert (result.version, result.reused) == ("1", False)
    sent = [request for request in mlflow_server.gateway.requests if request.path.endswith("runs/log-batch")]
    assert sum(b'"val_loss"' in request.body for request in sent) == EPOCHS + 1, "live, and once again"
    run = whole_run(server, [epoch["loss"] for epoch in result.epochs])
    keys = [key for key in mlflow_server.artifacts() if "/check" not in key]
    assert any(key.endswith(f"{run.info.run_id}/artifacts/learning_curve.png") for key in keys)
    assert any(key.endswith("artifacts/bundle/model.onnx") for key in keys)

    again = train(recipe)
    assert again == result.model_copy(update={"reused": True})
    other = train(recipe.model_copy(update={"seed": 2}))
    assert other.version == "2"
    with server.connected() as experiment:
        client = server.client()
        found = [str(run.to_dictionary()) for run in client.search_runs([experiment])]
        found += [str(dict(version)) for version in client.search_model_versions(f"name = '{server.model}'")]
    assert len(found) == 4
    for text in found:
        assert mlflow_server.password not in text and mlflow_server.admin not in text
        assert str(tmp_path / "lake") not in text


def test_the_benchmark_moves_the_alias(
    blocks: None, mlflow_server: MlflowServer, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    tracking = mlflow_server.tracking()
    tracking.appoint()
    warehouse.merge([held_out()])
    models = Registry(tracking, tmp_path / "bundles")
    wrong = models.challenge("wrong", flipped=True)
    lenient = {"minimum_macro_recall": 0, "maximum_loss": 1, "maximum_test_loss": 1}
    assert models.run(**lenient).verdict.decision == "promote"
    assert (models.at("production"), models.at("challenger")) == (wrong, None)
    good = models.challenge("good")
    result = models.run(**lenient)
    assert (result.verdict.decision, result.verdict.production) == ("promote", wrong)
    assert (models.at("production"), models.at("challenger")) == (good, None)
    with tracking.opened() as client:
        assert client.get_model_version(tracking.model, wrong).tags["replaced.by"] == good
    assert models.run(**lenient).verdict.decision == "keep"


@contextmanager
def back_when_trained(server: MlflowServer, lake: LocalLake) -> Iterator[None]:
    """Let the gateway come back some seconds after a fit was put into the lake."""

    def wait() -> None:
        folder = Path(lake.folder) / "trained"
        deadline = time.monotonic() + 120
        while not list(folder.glob("*/manifest.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        server.gateway.up()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def test_an_outage_while_it_trains_costs_nothing(
    server: ServerTracking, recipe: TrainParameters, lake: LocalLake, mlflow_server: MlflowServer
) -> None:
    gateway, gone = mlflow_server.gateway, threading.Event()

    def vanish(request: Request) -> None:
        if b'"val_loss"' in request.body and not gone.is_set():
            gone.set()
            gateway.down()

    gateway.before = vanish
    with back_when_trained(mlflow_server, lake):
        result = train(recipe)
    assert gone.is_set()
    assert result.version == "1"
    whole_run(server, [epoch["loss"] for epoch in result.epochs])


def test_an_outage_while_it_publishes_leaves_one_of_each(
    server: ServerTracking, recipe: TrainParameters, mlflow_server: MlflowServer
) -> None:
    # Half a model and half a version: each is found, and made whole or anew.
    gateway = mlflow_server.gateway
    gateway.fail(403, times=1, path="bundle/model.onnx", body=b"<Error/>")
    with pytest.raises(TrackingError, match=r"\(403\)"):
        train(recipe)
    gateway.cut("model-versions/create", answered=True)
    result = train(recipe)
    assert result.version == "1"
    whole_run(server, [epoch["loss"] for epoch in result.epochs])


def test_a_server_that_stays_away_costs_no_training(
    server: ServerTracking,
    recipe: TrainParameters,
    lake: LocalLake,
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "prefect.task_runs")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(steps.publish, "retries", 1)
    monkeypatch.setattr(steps.publish, "retry_delay_seconds", 1)
    gateway = mlflow_server.gateway

    def vanish(request: Request) -> None:
        if request.path.endswith("runs/create"):
            gateway.down()

    gateway.before = vanish
    failed = train(recipe, return_state=True)
    assert failed.is_failed()
    error = failed.result(raise_on_failure=False)
    assert isinstance(error, TrackingError) and error.transient
    assert f"The MLflow server {mlflow_server.url} is not running: it refuses connections" in str(error)
    assert mlflow_server.password not in f"{failed.message} {error}"
    flow_run = failed.state_details.flow_run_id
    assert {"fit", "keep", "publish"} <= steps_taken(caplog)
    identities = [path.name for path in (Path(lake.folder) / "trained").iterdir()]
    made = find_trained(lake, identities[0])
    assert made is not None and len(identities) == 1

    gateway.mend()
    gateway.up()
    done = train(recipe, return_state=True)
    result = done.result()
    assert result.version == "1" and result.epochs == made.epochs
    assert steps_taken(caplog) == {"identify", "find", "find_trained", "publish", "challenge"}, "no fit"
    run = whole_run(server, [epoch["loss"] for epoch in made.epochs])
    assert run.data.tags["fit"] == made.fit.key
    assert run.data.tags["prefect.flow_run"] == str(flow_run)
    version = registry.aliased(server, registry.CHALLENGER)
    assert version is not None and version.tags["digest"] == made.digest
    for path in Path(lake.folder).rglob("*"):
        assert path.is_dir() or mlflow_server.password.encode() not in path.read_bytes()
