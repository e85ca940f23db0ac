"""The registry moves production once, leaves nothing half-done, and says what became of each version."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

import tasks.benchmark as steps
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from containers.serve.predictor import Predictor
from tasks import registry
from tasks.benchmark import BenchmarkParameters, BenchmarkResult
from tasks.gate import Verdict
from tasks.registry import RegistryError
from tasks.runs import log_model
from tests.bundles import build_bundle
from tests.tasks.test_gate import evidence
from tests.tweets import tweets


class Crashed(BaseException):
    """The process is killed: no `except Exception` helps."""


def register(tracking: LocalTracking, fingerprint: str) -> str:
    """Make a version with a run of its own; what it serves does not matter here."""
    with tracking.connected() as experiment:
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.log_dict({"made": fingerprint}, "train.json")
        uri = f"{run.info.artifact_uri}/train.json"
        tags = {registry.FINGERPRINT: fingerprint}
        return registry.register(tracking, uri, run.info.run_id, tags).number


def verdict(decision: str, challenger: str, production: str | None) -> Verdict:
    reasons = ("One reason.", "Another.")
    values = {"decision": decision, "challenger": challenger, "production": production, "reasons": reasons}
    return Verdict.model_validate(values)


def tags(tracking: LocalTracking, version: str) -> dict[str, str]:
    return dict(tracking.client().get_model_version(tracking.model, version).tags)


def aliases(tracking: LocalTracking) -> dict[str, str]:
    """Return where the aliases point to."""
    found = tracking.client().get_registered_model(tracking.model).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_a_version_is_found_by_its_fingerprint(tracking: LocalTracking) -> None:
    assert registry.find_version(tracking, "aaaa") is None  # not even a model is there
    numbers = [register(tracking, fingerprint) for fingerprint in ("aaaa", "bbbb")]
    found = registry.find_version(tracking, "aaaa")
    assert found is not None
    assert (found.number, found.tags[registry.FINGERPRINT]) == (numbers[0], "aaaa")
    assert registry.load_result(tracking, found.run_id, "train.json") == {"made": "aaaa"}
    assert registry.find_version(tracking, "aaa") is None


def test_the_newest_of_equal_versions_is_found_by_number(tracking: LocalTracking) -> None:
    numbers = [register(tracking, "aaaa") for _ in range(11)]
    found = registry.find_version(tracking, "aaaa")
    assert numbers[-1] == "11" and found is not None and found.number == "11"


def test_versions_of_other_models_are_not_found(tracking: LocalTracking) -> None:
    register(tracking, "aaaa")
    assert registry.find_version(tracking.model_copy(update={"model": "other"}), "aaaa") is None


def test_aliases_of_nothing_are_nothing(tracking: LocalTracking) -> None:
    assert registry.aliased(tracking, "production") is None
    register(tracking, "aaaa")
    assert registry.aliased(tracking, "production") is None


def test_no_production_names_the_remedy(tracking: LocalTracking) -> None:
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"'sentiment' has no version .*python -m flows\.pipeline"):
            registry.production(tracking)
        register(tracking, "aaaa")


def test_a_version_put_into_production_by_hand_was_not_judged(tracking: LocalTracking) -> None:
    tracking.client().set_registered_model_alias(tracking.model, "production", register(tracking, "aaaa"))
    with pytest.raises(RegistryError, match=r"Version 1 .*no benchmark has judged.*python -m flows\.train"):
        steps.find.fn(tracking)


def test_a_registry_out_of_reach_is_no_missing_version(
    tracking: LocalTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: Any) -> None:
        raise MlflowException("database is locked")

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(MlflowException, match="locked"):
        registry.production(tracking)


def test_the_challenger_is_named_unless_it_serves(tracking: LocalTracking) -> None:
    first, second = register(tracking, "aaaa"), register(tracking, "bbbb")
    registry.name_challenger(tracking, first)
    assert aliases(tracking) == {"challenger": first}
    registry.name_challenger(tracking, second)
    assert aliases(tracking) == {"challenger": second}
    registry.apply(tracking, verdict("promote", second, None), {})
    registry.name_challenger(tracking, second)
    assert aliases(tracking) == {"production": second}


def test_promotion_moves_production_once_and_archives_the_former(
    tracking: LocalTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = register(tracking, "aaaa"), register(tracking, "bbbb")
    moves: list[tuple[str, str]] = []
    real = MlflowClient.set_registered_model_alias

    def watched(client: MlflowClient, name: str, alias: str, version: str) -> None:
        moves.append((alias, version))
        real(client, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", watched)
    registry.name_challenger(tracking, first)
    registry.apply(tracking, verdict("promote", first, None), {"benchmark.run": "r1"})
    assert aliases(tracking) == {"production": first}
    said = tags(tracking, first)
    assert (said["status"], said["verdict"], said["verdict.against"]) == ("production", "promote", "nothing")
    assert (said["verdict.reasons"], said["benchmark.run"]) == ("One reason. Another.", "r1")
    assert said["verdict.at"].endswith("+00:00") and said[registry.FINGERPRINT] == "aaaa"

    registry.name_challenger(tracking, second)
    registry.apply(tracking, verdict("promote", second, first), {"benchmark.run": "r2"})
    assert aliases(tracking) == {"production": second}
    assert moves == [(a, v) for v in (first, second) for a in ("challenger", "production")]
    former = tags(tracking, first)
    assert (former["status"], former["replaced.by"], former["benchmark.run"]) == ("archived", second, "r1")
    assert former["replaced.at"].endswith("+00:00")
    assert (tags(tracking, second)["status"], registry.production(tracking).number) == ("production", second)


def test_a_challenger_that_loses_is_archived_and_production_untouched(tracking: LocalTracking) -> None:
    first, second = register(tracking, "aaaa"), register(tracking, "bbbb")
    registry.apply(tracking, verdict("promote", first, None), {})
    before = tags(tracking, first)
    registry.name_challenger(tracking, second)
    registry.apply(tracking, verdict("keep", second, first), {})
    assert aliases(tracking) == {"production": first}
    assert tags(tracking, first) == before
    said = tags(tracking, second)
    assert (said["status"], said["verdict"], said["verdict.against"]) == ("archived", "keep", first)


def test_a_version_that_comes_back_is_not_said_to_be_replaced(tracking: LocalTracking) -> None:
    first, second = register(tracking, "aaaa"), register(tracking, "bbbb")
    registry.apply(tracking, verdict("promote", first, None), {})
    registry.apply(tracking, verdict("promote", second, first), {})
    registry.apply(tracking, verdict("promote", first, second), {})
    said = tags(tracking, first)
    assert said["status"] == "production" and not {"replaced.by", "replaced.at"} & said.keys()
    assert tags(tracking, second)["replaced.by"] == first


def test_applying_twice_changes_nothing_but_the_time(tracking: LocalTracking) -> None:
    first, second = register(tracking, "aaaa"), register(tracking, "bbbb")
    registry.apply(tracking, verdict("promote", first, None), {})
    registry.name_challenger(tracking, second)
    states = []
    for _ in range(2):
        registry.apply(tracking, verdict("promote", second, first), {"benchmark.run": "r"})
        states.append(state(tracking))
    assert states[0] == states[1]


def test_a_version_that_came_during_the_benchmark_still_challenges(tracking: LocalTracking) -> None:
    judged, newer = register(tracking, "a"), register(tracking, "b")
    registry.name_challenger(tracking, newer)
    registry.apply(tracking, verdict("promote", judged, None), {})
    assert aliases(tracking) == {"production": judged, "challenger": newer}


def test_a_logged_model_is_registered_whatever_server_mlflow_points_to(
    tracking: LocalTracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_bundle(tmp_path / "bundle")
    with tracking.connected() as experiment, mlflow.start_run(experiment_id=experiment) as run:
        model = log_model(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)  # where MLflow would make its default database
    version = registry.register(tracking, model, run.info.run_id, {})
    assert Predictor(registry.bundle_folder(tracking, version)).predict(["love"])[0]["label"] == "positive"
    assert not (tmp_path / "mlflow.db").exists()


def test_orphans_of_the_same_fingerprint_are_closed(tracking: LocalTracking) -> None:
    client = tracking.client()
    experiment = tracking.prepare()
    runs = [client.create_run(experiment, tags={registry.FINGERPRINT: f}).info.run_id for f in "aab"]
    client.set_terminated(runs[1])
    registry.close_orphans(tracking, experiment, "a")
    status = [client.get_run(run).info.status for run in runs]
    assert status == ["KILLED", "FINISHED", "RUNNING"]
    assert registry.find_run(tracking, experiment, "a") == runs[1]
    assert registry.find_run(tracking, experiment, "b") is None


# A crash between any two calls.
MUTATING = ("create_", "set_", "log_", "delete_", "update_", "rename_", "transition_", "restore_")
POLICY = BenchmarkParameters(ceilings={})


def state(tracking: LocalTracking) -> dict[str, Any]:
    """Return aliases and tags as they are, less what no two runs have in common."""
    versions = tracking.client().search_model_versions(f"name = '{tracking.model}'")
    times = {"verdict.at", "replaced.at", "benchmark.run", registry.FINGERPRINT}
    kept = {
        str(v.version): {key: value for key, value in v.tags.items() if key not in times} for v in versions
    }
    return {"aliases": aliases(tracking), "tags": kept}


class Crash:
    """From the k-th call on that would change something in MLflow, the process is dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.at, self.depth = 0, 0, 0
        for name, real in vars(MlflowClient).items():
            if name.startswith(MUTATING) and callable(real):
                monkeypatch.setattr(MlflowClient, name, self._guarded(real))

    def arm(self, at: int) -> None:
        self.calls, self.at = 0, at

    def _guarded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.depth == 0:
                self.calls += 1
                if self.at and self.calls >= self.at:
                    raise Crashed
            self.depth += 1
            try:
                return real(*args, **kwargs)
            finally:
                self.depth -= 1

        return call


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crash]:
    yield Crash(monkeypatch)
    mlflow.end_run()


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge at once: a version beats those with lower numbers, but for number 3, which loses."""

    def judge(_: Any, __: Any, bundles: dict[str, Path], run_id: str) -> BenchmarkResult:
        challenger, production = [*bundles, None][:2]
        assert challenger is not None
        decision = "keep" if challenger == "3" else "promote"
        return BenchmarkResult(
            verdict=verdict(decision, challenger, production),
            challenger=evidence(challenger).model_copy(update={"scores": ()}),
            production=None,
            gain=None,
            run_id=run_id,
        )

    monkeypatch.setattr(steps, "judge", judge)
    monkeypatch.setattr(registry, "bundle_folder", lambda *_: Path())


def benchmark(tracking: LocalTracking, warehouse: DuckDBWarehouse, seed: int) -> BenchmarkResult:
    """Do what the flow does; the seed keeps the evidence of different models apart."""
    result = steps.find.fn(tracking)
    if result is None:
        parameters = POLICY.model_copy(update={"seed": seed})
        result = steps.gather.fn(parameters, warehouse, tracking)
        steps.apply.fn(result, tracking)
    return result


def contest(
    tracking: LocalTracking, warehouse: DuckDBWarehouse, challengers: int, seed: int
) -> LocalTracking:
    """Return another model of the registry: its newest version challenges, the others are settled."""
    own = tracking.model_copy(update={"model": f"model-{challengers}-{seed}"})
    for number in range(1, challengers + 1):
        registry.name_challenger(own, register(own, f"{seed}-{number}"))
        if number < challengers:
            benchmark(own, warehouse, seed)
    return own


@pytest.mark.parametrize(
    ("challengers", "production", "everything"),
    [
        pytest.param(2, "2", False, id="essential calls"),
        pytest.param(1, "1", True, id="first version", marks=pytest.mark.slow),
        pytest.param(2, "2", True, id="better one", marks=pytest.mark.slow),
        pytest.param(3, "2", True, id="worse one", marks=pytest.mark.slow),
    ],
)
def test_a_crash_between_any_two_calls_changes_nothing_in_the_end(
    challengers: int,
    production: str,
    everything: bool,
    tracking: LocalTracking,
    warehouse: DuckDBWarehouse,
    judged: None,
    crash: Crash,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not everything:  # the metrics and figures of a run decide nothing
        monkeypatch.setattr(steps, "_log", lambda result: mlflow.log_dict(result.model_dump(), steps.RESULT))
    warehouse.merge([tweets(train=0, validation=0, test=6)])
    whole = contest(tracking, warehouse, challengers, seed=0)
    crash.arm(0)
    benchmark(whole, warehouse, seed=0)
    calls, expected = crash.calls, state(whole)
    assert expected["aliases"] == {"production": production}
    assert calls >= 14
    for k in range(1, calls + 1):
        own = contest(tracking, warehouse, challengers, seed=k)
        crash.arm(k)
        with pytest.raises(Crashed):
            benchmark(own, warehouse, seed=k)
        while mlflow.active_run() is not None:  # this process lives on, the killed one would not
            with pytest.raises(Crashed):
                mlflow.end_run()
        serving = aliases(own).get("production")
        before = {1: None, 2: "1", 3: "2"}[challengers]
        assert serving in (before, production)
        crash.arm(0)
        result = benchmark(own, warehouse, seed=k)
        assert state(own) == expected, f"crash before call {k} of {calls}"
        run = tracking.client().get_run(tags(own, str(challengers))["benchmark.run"])
        assert run.info.status == "FINISHED" and run.info.run_id == result.run_id
        assert not tracking.client().search_runs([tracking.prepare()], "attributes.status = 'RUNNING'")
        assert benchmark(own, warehouse, seed=k).verdict.decision == "keep"
        assert aliases(own) == expected["aliases"]
