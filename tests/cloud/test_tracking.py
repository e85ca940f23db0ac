"""The block of an MLflow server, against one with PostgreSQL, S3 and basic-auth."""

import json
import os
import time
from pathlib import Path

import mlflow
import pytest
import requests
from prefect.client.orchestration import get_client

from blocks.register import Check, CheckError
from blocks.role import BlockError
from blocks.tracking import ServerTracking, Tracking, TrackingError
from tasks import registry, runs
from tasks.gate import Verdict
from tasks.registry import RegistryError
from tasks.runs import log_model
from tasks.trained import Fit
from tasks.training import TrainParameters
from tests.bundles import build_bundle
from tests.cloud import free_ports
from tests.cloud.gateway import Request
from tests.cloud.mlflow_server import MlflowServer, add_user
from tests.race import race


def explained(tracking: ServerTracking) -> BlockError:
    """Return what the block says of the error that the doctor's check raises."""
    with pytest.raises(mlflow.MlflowException) as caught:
        tracking.check()
    explanation = tracking.explain(caught.value)
    assert isinstance(explanation, TrackingError), caught.value
    secret = tracking.password.get_secret_value() if tracking.password else "no password"
    assert secret not in str(explanation)
    return explanation


def lose_answer(server: MlflowServer, path: str) -> None:
    """Let the server carry out the next request with this path, of which the client only hears 503."""

    def carry_out(request: Request) -> None:
        if request.path.endswith(path):
            server.gateway.before = None
            url = f"http://127.0.0.1:{server.gateway.target}{request.path}"
            headers = {str(name): str(value) for name, value in request.headers.items()}
            requests.post(url, data=request.body, headers=headers, timeout=60).raise_for_status()
            server.gateway.fail(503, times=1, path=path)

    server.gateway.before = carry_out


def test_the_doctor_and_what_is_saved(
    mlflow_server: MlflowServer, prefect_api: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.register.ROLES", (Tracking,))
    tracking = mlflow_server.tracking()
    tracking.appoint()
    loaded = Tracking.current()
    assert isinstance(loaded, ServerTracking) and loaded.password == tracking.password
    (_, line) = Check().run()
    assert f"MLflow {mlflow.__version__} at {mlflow_server.url}, user trainer, 0 versions" in line
    with tracking.opened() as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        assert experiment is not None and client.search_runs([experiment.experiment_id]) == []
        assert experiment.artifact_location == f"mlflow-artifacts:/{experiment.experiment_id}"
    assert any(key.endswith("check.txt") for key in mlflow_server.artifacts())

    with get_client(sync_client=True) as client:
        plain = client.read_block_document_by_name(Tracking.slot, "mlflow-server", include_secrets=False)
    for text in (plain.model_dump_json(), repr(loaded), str(loaded), line):
        assert mlflow_server.password not in text
    assert mlflow_server.password not in json.dumps(dict(os.environ))

    tracking.model_copy(update={"address": mlflow_server.url.replace("127.0.0.1", "localhost")}).appoint()
    with pytest.raises(CheckError, match=r"FAILED.*sentiment-tracking.*Invalid Host header.*--allowed-hosts"):
        Check().run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"password": "planted-wrong-password"},
            r"refuses the user 'trainer' \(401\): wrong user or password",
        ),
        ({"user": None, "password": None}, r"refuses requests without a user \(401\)"),
        ({"user": "nobody-there"}, r"refuses the user 'nobody-there' \(401\)"),
        ({"address": "http://no-such-host.invalid"}, "no-such-host.invalid has a name that nobody knows"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    message: str,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    explanation = explained(mlflow_server.tracking(**changes))
    assert str(explanation).startswith("The MLflow server http")
    with pytest.raises(TrackingError, match=message):
        raise explanation


def test_a_server_without_tls_is_not_trusted(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    explanation = explained(mlflow_server.tracking(address=mlflow_server.url.replace("http:", "https:")))
    assert "(TLS)" in str(explanation) and "http://" in str(explanation)
    assert not explanation.transient


def test_a_user_without_rights_is_told_what_to_ask_for(mlflow_server: MlflowServer) -> None:
    tracking = mlflow_server.tracking()
    tracking.check()
    add_user(mlflow_server, f"guest-{tracking.model}", "planted-guest-password")
    guest = tracking.model_copy(
        update={
            "user": f"guest-{tracking.model}",
            "password": type(tracking.password)("planted-guest-password"),
        }
    )
    explanation = explained(guest)
    assert f"denies the user 'guest-{tracking.model}' what is needed (403)" in str(explanation)
    assert f"EDIT on the experiment {tracking.experiment!r}" in str(explanation)
    assert not explanation.transient


@pytest.mark.parametrize("status", [429, 503])
def test_a_burst_is_ridden_out_and_more_is_not_waited_for(mlflow_server: MlflowServer, status: int) -> None:
    tracking, gateway = mlflow_server.tracking(), mlflow_server.gateway
    patience = {"Retry-After": "3600"}  # nobody waits an hour within a request
    gateway.fail(status, times=2, body=b"slow down", headers=patience)
    began = time.monotonic()
    tracking.check()
    first = [request.path for request in gateway.requests[:4]]
    assert first == [first[0]] * 3 + ["/api/2.0/mlflow/experiments/create"]
    assert time.monotonic() - began < 30

    gateway.fail(status, times=None, headers=patience)
    began = time.monotonic()
    explanation = explained(tracking)
    assert 13 < time.monotonic() - began < 30
    assert explanation.transient
    assert ("(429)" if status == 429 else "(5xx)") in str(explanation)
    assert mlflow_server.url in str(explanation)


def test_an_outage_is_an_error_soon_and_passes(mlflow_server: MlflowServer) -> None:
    tracking = mlflow_server.tracking()
    mlflow_server.gateway.down()
    began = time.monotonic()
    explanation = explained(tracking)
    assert time.monotonic() - began < 30
    assert explanation.transient and "is not running: it refuses connections" in str(explanation)
    mlflow_server.gateway.up()
    tracking.check()


def test_a_server_that_hangs_is_an_error(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    mlflow_server.gateway.before = lambda request: time.sleep(3)
    explanation = explained(mlflow_server.tracking())
    assert explanation.transient and "does not answer in time" in str(explanation)


def test_something_else_at_the_address(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow_server.gateway.fail(404, times=None, body=b"<html>nothing here</html>")
    assert "something else answers at this address" in str(explained(mlflow_server.tracking()))
    refused = mlflow_server.tracking(address=f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "refuses connections" in str(explained(refused))


def test_registry_aliases_and_bundle_over_http(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    tracking = mlflow_server.tracking()
    digest = build_bundle(tmp_path / "bundle")
    with tracking.connected() as experiment, mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_dict({"made": "here"}, "train.json")
        model = log_model(tmp_path / "bundle")
    tags = {registry.FINGERPRINT: "aaaa", "digest": digest}

    # The answer is lost after the version was made: it is found again, and not made twice.
    lose_answer(mlflow_server, "model-versions/create")
    with pytest.raises(mlflow.MlflowException) as caught:
        registry.register(tracking, model, run.info.run_id, tags)
    explanation = tracking.explain(caught.value)
    assert explanation is not None and explanation.transient
    version = registry.find_version(tracking, "aaaa")
    assert version is not None and version.number == "1" and version.tags == tags
    with tracking.opened() as client:
        assert len(client.search_model_versions(f"name = '{tracking.model}'")) == 1
        made = client.get_model_version(tracking.model, "1")
        logged = client.get_logged_model(made.source.removeprefix("models:/"))
        uris = [run.info.artifact_uri, logged.artifact_location, made.source, client.get_run(run.info.run_id)]

    registry.name_challenger(tracking, "1")
    found = registry.aliased(tracking, registry.CHALLENGER)
    assert found == version
    assert registry.load_result(tracking, version.run_id, "train.json") == {"made": "here"}
    fetched = registry.bundle_folder(tracking, version)
    assert (fetched / "model.onnx").read_bytes() == (tmp_path / "bundle" / "model.onnx").read_bytes()
    assert [str(uri).split(":")[0] for uri in uris[:3]] == ["mlflow-artifacts", "mlflow-artifacts", "models"]
    assert not any(str(tmp_path) in str(uri) for uri in uris)
    assert any(key.endswith("artifacts/bundle/model.onnx") for key in mlflow_server.artifacts())
    registry.withdraw_challenger(tracking, "1")
    assert registry.aliased(tracking, registry.CHALLENGER) is None


def test_a_run_whose_making_was_not_answered_is_found_again(mlflow_server: MlflowServer) -> None:
    tracking = mlflow_server.tracking()
    fit = Fit(
        identity="aaaa",
        key="first",
        parameters=TrainParameters(),
        device="CPU",
        flow_run="none",
        began=1,
        inputs={},
    )
    with tracking.connected() as experiment:
        lose_answer(mlflow_server, "runs/create")
        with pytest.raises(mlflow.MlflowException):
            runs.open_run(tracking, experiment, fit)
        run = runs.open_run(tracking, experiment, fit)
        second = runs.open_run(tracking, experiment, fit.model_copy(update={"key": "second"}))
        found = {run.info.run_id: run.info.status for run in tracking.client().search_runs([experiment])}
    assert found == {run: "KILLED", second: "RUNNING"}


def promoted(tracking: ServerTracking, versions: int) -> None:
    """Register versions with a bundle; the first one goes to production."""
    with tracking.connected() as experiment, mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_dict({"made": "here"}, "train.json")
    for number in range(1, versions + 1):
        uri = f"{run.info.artifact_uri}/train.json"
        registry.register(tracking, uri, run.info.run_id, {registry.FINGERPRINT: str(number)})
    verdict = Verdict(decision="promote", challenger="1", production=None, reasons=("First.",))
    registry.apply(tracking, verdict, {registry.RUN: run.info.run_id})


def test_of_two_promotions_at_once_one_wins(mlflow_server: MlflowServer) -> None:
    models = [mlflow_server.tracking() for _ in range(5)]
    for tracking in models:
        promoted(tracking, 3)
    for tracking, outcomes in zip(models, race(models), strict=True):
        assert sorted(outcomes)[1] == "won", outcomes
        winner, loser = ("2", "3") if outcomes[0] == "won" else ("3", "2")
        assert f"meanwhile: version {loser} was not" in min(outcomes)
        assert registry.production(tracking).number == winner
        history = registry.history(tracking)
        assert [(reign.version, reign.replaced_by) for reign in history] == [("1", winner), (winner, None)]


def test_a_lost_answer_to_a_promotion_is_found_out(mlflow_server: MlflowServer) -> None:
    tracking = mlflow_server.tracking()
    promoted(tracking, 2)
    verdict = Verdict(decision="promote", challenger="2", production="1", reasons=("Better.",))
    lose_answer(mlflow_server, "model-versions/create")
    with pytest.raises(mlflow.MlflowException) as caught:
        registry.apply(tracking, verdict, {})
    explanation = tracking.explain(caught.value)
    assert explanation is not None and explanation.transient  # so the step is tried again
    assert registry.unsettled(tracking) == "2" and registry.production(tracking).number == "1"
    registry.apply(tracking, verdict, {})
    assert registry.production(tracking).number == "2"
    assert [reign.version for reign in registry.history(tracking)] == ["1", "2"]


def test_a_deleted_production_version_and_lost_files_are_named(mlflow_server: MlflowServer) -> None:
    tracking = mlflow_server.tracking()
    promoted(tracking, 2)
    better = Verdict(decision="promote", challenger="2", production="1", reasons=("Better.",))
    registry.apply(tracking, better, {})
    with tracking.opened() as client:
        client.delete_model_version(tracking.model, "2")
    with pytest.raises(RegistryError, match=r"Version 2 .*deleted.*flows\.rollback --version 1"):
        registry.production(tracking)
    registry.restore(tracking, "1", None, "2 was deleted.")
    first = registry.production(tracking)
    assert first.number == "1"
    s3 = mlflow_server.s3.client()
    for key in mlflow_server.artifacts():
        s3.delete_object(Bucket=mlflow_server.bucket, Key=key)
    with pytest.raises(RegistryError, match=r"files of version 1 .* are gone"):
        registry.bundle_folder(tracking, first)
