"""The way back, on a real Prefect API, a real registry and an endpoint that answers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from prefect.client.orchestration import get_client

import tasks.rollback as steps
from blocks.endpoint import Endpoint
from blocks.images import Images
from blocks.process import LocalEndpoint
from blocks.tracking import LocalTracking, Tracking, TrackingError
from flows.benchmark import benchmark
from flows.deploy import deploy
from flows.rollback import rollback, show
from tasks import registry
from tasks.gate import Verdict
from tasks.registry import RegistryError, Version
from tasks.rollback import RollbackError, RollbackParameters, RollbackResult
from tasks.runs import log_model
from tests.bundles import build_bundle


@pytest.fixture
def promote(blocks: None, tracking: LocalTracking, tmp_path: Path) -> Callable[..., str]:
    """Make versions that a benchmark has promoted."""

    def made(name: str, flipped: bool = False, judged: bool = True) -> str:
        folder = tmp_path / name / "bundle"
        digest = build_bundle(folder, flipped=flipped, made_for=name)
        with tracking.connected() as experiment, mlflow.start_run(experiment_id=experiment) as run:
            model = log_model(folder)
        tags = {registry.FINGERPRINT: name, "digest": digest}
        number = registry.register(tracking, model, run.info.run_id, tags).number
        if judged:
            now = registry.aliased(tracking, registry.PRODUCTION)
            verdict = Verdict(
                decision="promote",
                challenger=number,
                production=now.number if now else None,
                reasons=("Better.",),
            )
            registry.apply(tracking, verdict, {registry.RUN: run.info.run_id})
        return number

    return made


def run(**parameters: object) -> RollbackResult:
    return rollback(RollbackParameters.model_validate(parameters))


def state(tracking: LocalTracking, endpoint: LocalEndpoint) -> tuple[str | None, str | None]:
    """Return the versions in production and at the endpoint."""
    found, serving = registry.aliased(tracking, registry.PRODUCTION), endpoint.serving()
    return found and found.number, serving and serving.version


def test_the_previous_version_is_put_back_and_answers(
    promote: Callable[..., str],
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
    capsys: pytest.CaptureFixture[str],
) -> None:
    promote("first"), promote("second")
    deploy()
    assert state(tracking, endpoint) == ("2", "2")
    shown = run(list=True)
    assert (shown.deployment, [reign.version for reign in shown.history]) == (None, ["1", "2"])
    assert state(tracking, endpoint) == ("2", "2")

    result = run(reason="Complaints.")
    assert state(tracking, endpoint) == ("1", "1")
    assert result.said == f"Version 1 is in the place of version 2, and answers at {endpoint.serving().url}."  # type: ignore[union-attr]
    assert result.deployment == endpoint.serving()
    last = result.history[-1]
    assert (last.version, last.by, last.why, last.until) == ("1", "rollback", "Complaints.", None)
    assert last.who is not None and last.who.startswith("rollback ")
    with get_client(sync_client=True) as api:
        flow_run = api.read_flow_run(last.who.split("(")[1].removesuffix(")"))
        [table] = [found for found in api.read_latest_artifacts() if found.key == "production-history"]
    assert flow_run.name == last.who.split()[1]
    assert table.type == "table" and '"version": "1"' in str(table.data) and "Complaints." in str(table.data)

    # there is none before, and 2 is not one to go back to by itself
    with pytest.raises(RegistryError, match=r"none was in production before.*--version N.*are: 1, 2\."):
        run()
    assert state(tracking, endpoint) == ("1", "1")
    again = run(version="2")
    assert state(tracking, endpoint) == ("2", "2")
    assert [reign.version for reign in again.history] == ["1", "2", "1", "2"]

    # and a terminal shows it
    show(again.history)
    shown_there = capsys.readouterr().out
    assert shown_there.count("rollback: ") == 2 and shown_there.count("Complaints.") == 1


def test_a_version_that_is_in_production_is_served_if_it_is_not(
    promote: Callable[..., str], tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    promote("first")
    assert run(version="1").said == "Version 1 is in production already, and answers again."
    serving = endpoint.serving()
    assert run(version="1").said == "Version 1 is in production already, and answers: nothing to do."
    assert endpoint.serving() == serving
    assert len(registry.history(tracking)) == 1


def test_a_version_that_does_not_serve_changes_nothing(
    promote: Callable[..., str], tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    promote("wrong", flipped=True), promote("good")
    deploy()
    before = registry.history(tracking), endpoint.serving()
    with pytest.raises(RollbackError) as failed:
        run()
    said = str(failed.value)
    assert said.startswith("Version 1 was not put back: ") and "must be positive" in said
    assert "Version 2 is in production and answers at http" in said
    assert (registry.history(tracking), endpoint.serving()) == before


def test_what_comes_into_production_meanwhile_stays_there(
    promote: Callable[..., str],
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote("first"), promote("second")
    real = steps.deploy_version

    def slowly(version: Version, tracking: Tracking, images: Images, endpoint: Endpoint) -> object:
        monkeypatch.setattr(steps, "deploy_version", real)
        promote("third")
        return real(version, tracking, images, endpoint)

    monkeypatch.setattr(steps, "deploy_version", slowly)
    with pytest.raises(
        RollbackError, match="from version 2 to version 3 meanwhile.*Version 3 is in production"
    ):
        run()
    assert state(tracking, endpoint) == ("3", "3")


@pytest.mark.parametrize("down", [False, True])
def test_a_registry_that_fails_at_the_end_leaves_both_alike_or_says_so(
    down: bool,
    promote: Callable[..., str],
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote("first"), promote("second")
    deploy()

    def fail(*_: object) -> None:
        raise TrackingError("The registry fails.", transient=False)

    with monkeypatch.context() as broken:
        broken.setattr(registry, "restore", fail)
        if down:
            broken.setattr(steps, "agree", steps.agree.with_options(retries=0))
            broken.setattr(
                registry, "settle", lambda tracking: 1 if endpoint.serving().version == "2" else fail()
            )  # type: ignore[union-attr]
        with pytest.raises(RollbackError) as failed:
            run()
    said = str(failed.value)
    if down:
        assert "could not be served: The registry fails. At the endpoint, version 1 answers. Run this" in said
        assert state(tracking, endpoint) == ("2", "1")
        run()
        assert state(tracking, endpoint) == ("1", "1")
    else:
        assert "put back: The registry fails. Version 2 is in production and answers" in said
        assert state(tracking, endpoint) == ("2", "2")


def test_an_endpoint_that_cannot_be_asked_is_no_reason_to_stay(
    promote: Callable[..., str],
    tracking: LocalTracking,
    endpoint: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote("first"), promote("second")
    deploy()

    def fail(_: LocalEndpoint) -> None:
        raise TimeoutError("the model never answers")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEndpoint, "serving", fail)
        run(reason="see [/issues/12]")
    assert state(tracking, endpoint) == ("1", "1")
    show(registry.history(tracking))


def test_a_deleted_production_version_is_repaired(
    promote: Callable[..., str], tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    promote("first"), promote("second")
    deploy()
    tracking.client().delete_model_version(tracking.model, "2")
    for flow in (deploy, benchmark):
        with pytest.raises(RegistryError, match=r"Version 2 .*deleted.*flows\.rollback --version 1"):
            flow()
    result = run()
    assert state(tracking, endpoint) == ("1", "1")
    assert "Version 1 is in production, where there was none" in result.said
    assert deploy().deployment == result.deployment


def test_what_cannot_be_put_back_is_named(
    promote: Callable[..., str], tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    with pytest.raises(RegistryError, match=r"none was in production before.*Registered are: none\."):
        run()
    promote("first"), promote("second")
    with pytest.raises(RegistryError, match=r"has no version 7. Registered are: 1, 2\."):
        run(version="7")
    with pytest.raises(ValueError, match="version"):
        run(version="production")
    found = registry.versions(tracking)["1"]
    shutil.rmtree(registry.bundle_folder(tracking, found).parent.parent)
    with pytest.raises(
        RollbackError, match=r"files of version 1 .* are gone.*Version 2 is in production and"
    ):
        run()
    assert state(tracking, endpoint) == ("2", "2")


def test_a_version_that_no_benchmark_promoted_has_to_be_named(
    promote: Callable[..., str], tracking: LocalTracking, endpoint: LocalEndpoint
) -> None:
    promote("first"), promote("second")
    promote("unjudged", judged=False)
    result = run(version="3")
    assert result.said.endswith("No benchmark ever promoted it.")
    assert state(tracking, endpoint) == ("3", "3")
    with pytest.raises(RegistryError, match=r"Version 3 .* no benchmark has judged it .*flows\.train"):
        benchmark()
    assert "ever promoted" not in run().said
    assert state(tracking, endpoint) == ("1", "1")
