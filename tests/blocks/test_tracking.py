"""MLflow on this machine's files, and what the block of a server does without one."""

import os
import re

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from pydantic import SecretStr, ValidationError

from blocks.tracking import LocalTracking, ServerTracking, TrackingError, one_attempt


def test_the_experiment_is_made_once(tracking: LocalTracking) -> None:
    assert tracking.prepare() == tracking.prepare()
    (experiment,) = [e for e in tracking.client().search_experiments() if e.name == "sentiment"]
    assert experiment.artifact_location.startswith("file://")
    assert tracking.folder in experiment.artifact_location


def test_what_docker_says_is_none_of_mlflows_troubles() -> None:
    import requests
    from docker.errors import APIError, DockerException

    server = ServerTracking(address="https://mlflow.example.com")
    away = DockerException("no engine")
    away.__cause__ = refused = requests.ConnectionError("Max retries exceeded: connection refused")
    full = APIError("500 Server Error: no space left on device")
    assert (server.explain(away), server.explain(full)) == (None, None)
    assert server.explain(refused) is not None


def test_a_connection_ends_where_it_began(tracking: LocalTracking) -> None:
    before = mlflow.get_tracking_uri()
    with tracking.connected() as experiment:
        assert mlflow.get_tracking_uri() == tracking.uri()
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.log_metric("loss", 1.0, step=1)
    assert mlflow.get_tracking_uri() == before
    assert tracking.client().get_run(run.info.run_id).data.metrics == {"loss": 1.0}


@pytest.mark.parametrize(
    "address",
    [
        "https://trainer:planted-secret@mlflow.example.com",
        "https://planted-secret@mlflow.example.com",
        "mlflow.example.com",
        "sqlite:///mlflow.db",
        "https://",
        "https://mlflow.example.com?password=planted-secret",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="address"):
        ServerTracking(address=address)


def test_an_address_has_no_slash_at_its_end() -> None:
    assert ServerTracking(address="https://example.com/mlflow/").uri() == "https://example.com/mlflow"


def test_variables_are_set_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    tracking = ServerTracking(
        address="http://127.0.0.1:9", user="trainer", password=SecretStr("planted-secret")
    )
    with tracking.opened(), one_attempt():
        found = {name: os.environ[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD")}
        assert found == {"USERNAME": "trainer", "PASSWORD": "planted-secret"}
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    with tracking.opened():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7", "the environment's own"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "4"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "somebody"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert "planted-secret" not in repr(tracking)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MlflowException("API request to endpoint / failed with error code 413 != 200."), r"\(413\)"),
        (MlflowException("Failures: ##### File a #####\n503 Server Error: away for url: x"), r"\(5xx\)"),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), r"\(403\)"),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}), r"\(5xx\)"),
        (
            MlflowException("API request to x failed with exception Connection reset by peer"),
            "breaks connect",
        ),
    ],
)
def test_errors_that_servers_seldom_give(error: Exception, message: str) -> None:
    explanation = ServerTracking(address="http://127.0.0.1:9").explain(error)
    assert isinstance(explanation, TrackingError)
    assert re.search(message, str(explanation))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("error code 503 != 200"),
        ConnectionRefusedError("Connection refused"),
        RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}),
        MlflowException("Invalid model name"),
    ],
)
def test_errors_of_others_are_left_to_them(error: Exception) -> None:
    assert ServerTracking(address="http://127.0.0.1:9").explain(error) is None
