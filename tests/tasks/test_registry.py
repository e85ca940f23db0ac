"""The registry moves production once, leaves nothing half-done, and says what became of each version."""

import getpass
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import mlflow
import pytest
from mlflow import MlflowClient

import tasks.benchmark as steps
import tasks.rollback as rollback
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from containers.serve.predictor import Predictor
from tasks import registry, reigns
from tasks.benchmark import BenchmarkParameters, BenchmarkResult
from tasks.gate import Verdict
from tasks.registry import RegistryError
from tasks.runs import log_model
from tests.bundles import build_bundle
from tests.policies import policy
from tests.race import race
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


def promoted(tracking: LocalTracking, *fingerprints: str) -> list[str]:
    """Register versions that go to production one after the other, and return their numbers."""
    numbers: list[str] = []
    for fingerprint in fingerprints:
        numbers.append(register(tracking, fingerprint))
        former = numbers[-2] if len(numbers) > 1 else None
        registry.apply(tracking, verdict("promote", numbers[-1], former), {registry.RUN: fingerprint})
    return numbers


def test_history_tells_who_was_in_production_when_and_why(tracking: LocalTracking) -> None:
    first, second = promoted(tracking, "a", "b")
    registry.restore(tracking, first, second, "Complaints.")
    one, two, three = registry.history(tracking)
    assert [(r.version, r.by, r.why, r.run, r.replaced_by) for r in (one, two, three)] == [
        (first, "benchmark", "One reason. Another.", "a", second),
        (second, "benchmark", "One reason. Another.", "b", first),
        (first, "rollback", "Complaints.", None, None),
    ]
    assert one.who == getpass.getuser() and one.until == two.since and three.until is None
    assert one.since is not None and datetime.now(UTC) - one.since < timedelta(minutes=5)
    former, now = tags(tracking, second), tags(tracking, first)
    assert (former["status"], former["replaced.by"], former["rolled.back"]) == (
        *("archived", first),
        "Complaints.",
    )
    assert now["status"] == "production" and not {"replaced.by", "rolled.back"} & now.keys()
    assert not any(key.startswith(reigns.PREFIX) for key in now)
    # what was gone back from does not ask again, unless it is put back itself
    assert not registry.name_challenger(tracking, second)
    assert aliases(tracking) == {"production": first}
    registry.restore(tracking, second, first, "It was not the model.")
    assert "rolled.back" in tags(tracking, first) and "rolled.back" not in tags(tracking, second)


def test_a_promotion_is_told_before_nobody_would_tell_it_again(tracking: LocalTracking) -> None:
    number = register(tracking, "a")
    registry.name_challenger(tracking, number)
    seen: list[dict[str, str]] = []
    registry.apply(tracking, verdict("promote", number, None), {}, lambda: seen.append(aliases(tracking)))
    assert seen == [{"challenger": number, "production": number}]
    assert aliases(tracking) == {"production": number}


def test_a_version_that_still_challenges_can_be_put_back(tracking: LocalTracking) -> None:
    promoted(tracking, "a")
    asking = register(tracking, "b")
    registry.name_challenger(tracking, asking)
    registry.restore(tracking, asking, "1", "We know better.")
    assert aliases(tracking) == {"production": asking}


def test_what_is_gone_back_from_does_not_challenge_although_its_benchmark_was_killed(
    tracking: LocalTracking,
) -> None:
    first, second = promoted(tracking, "a", "b")
    # as a benchmark leaves it that dies after the promotion
    tracking.client().set_registered_model_alias(tracking.model, registry.CHALLENGER, second)
    registry.restore(tracking, first, second, "Complaints.")
    assert aliases(tracking) == {"production": first}


def test_of_two_promotions_at_once_one_wins(tracking: LocalTracking) -> None:
    models = [tracking.model_copy(update={"model": f"race-{number}"}) for number in range(3)]
    for own in models:
        promoted(own, "a")
        register(own, "b"), register(own, "c")
        registry.name_challenger(own, "3")
    for own, outcomes in zip(models, race(models), strict=True):
        assert sorted(outcomes)[1] == "won", outcomes
        winner, loser = ("2", "3") if outcomes[0] == "won" else ("3", "2")
        said = next(outcome for outcome in outcomes if outcome != "won")
        assert said == (
            f"Production moved from version 1 to version {winner} meanwhile: version {loser} was not put "
            "there. Its verdict is void: run the benchmark again."
        )
        assert aliases(own)["production"] == winner
        assert [(r.version, r.replaced_by) for r in registry.history(own)] == [("1", winner), (winner, None)]
        assert (tags(own, winner)["status"], tags(own, "1")["replaced.by"]) == ("production", winner)
        assert not {"status", "verdict"} & tags(own, loser).keys()
        if loser == "3":
            assert aliases(own)["challenger"] == "3"
        assert len(own.client().search_model_versions(f"name = '{own.model}-production'")) == 3


def test_a_verdict_against_a_version_that_no_longer_serves_is_void(tracking: LocalTracking) -> None:
    promoted(tracking, "a", "b")
    late = register(tracking, "c")
    before = registry.history(tracking)
    with pytest.raises(RegistryError, match="from version 1 to version 2 meanwhile: version 3 was not"):
        registry.apply(tracking, verdict("promote", late, "1"), {})
    assert registry.history(tracking) == before
    assert aliases(tracking) == {"production": "2", "challenger": late}  # for the next run
    with pytest.raises(RegistryError, match="from no version to version 2"):
        registry.restore(tracking, "1", None, "")


def test_a_run_that_was_held_up_does_not_write_over_what_came_after(
    tracking: LocalTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(tracking, "a")
    second, third = register(tracking, "b"), register(tracking, "c")
    real = MlflowClient.set_registered_model_alias

    def held_up(client: MlflowClient, name: str, alias: str, version: str) -> None:
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", real)
        registry.settle(tracking)  # others finish what it has begun, and go on
        registry.apply(tracking, verdict("promote", third, second), {})
        real(client, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", held_up)
    registry.apply(tracking, verdict("promote", second, "1"), {})
    assert aliases(tracking) == {"production": third}
    assert (tags(tracking, second)["status"], tags(tracking, third)["status"]) == ("archived", "production")
    assert tags(tracking, second)["replaced.by"] == third


def test_a_version_that_serves_is_not_archived_by_a_late_verdict(tracking: LocalTracking) -> None:
    promoted(tracking, "a", "b")
    registry.restore(tracking, "1", "2", "")
    registry.apply(tracking, verdict("keep", "1", "2"), {})
    assert tags(tracking, "1")["status"] == "production"


def test_a_production_version_that_was_deleted_is_named_with_the_remedy(tracking: LocalTracking) -> None:
    promoted(tracking, "a", "b")
    tracking.client().delete_model_version(tracking.model, "2")
    assert aliases(tracking) == {}  # MLflow has taken it with the version
    remedy = r"Version 2 .*deleted.*python -m flows\.rollback --version 1"
    for lost in (registry.production, steps.find.fn):
        with pytest.raises(RegistryError, match=remedy):
            lost(tracking)
    registry.restore(tracking, "1", None, "2 was deleted.")
    assert registry.production(tracking).number == "1"
    assert [(r.version, r.replaced_by) for r in registry.history(tracking)] == [
        ("1", "2"),
        ("2", "1"),
        ("1", None),
    ]


def test_after_the_only_version_was_deleted_the_next_one_may_come(tracking: LocalTracking) -> None:
    promoted(tracking, "a")
    tracking.client().delete_model_version(tracking.model, "1")
    assert registry.serving(tracking) is None
    next_one = register(tracking, "b")
    registry.apply(tracking, verdict("promote", next_one, None), {})
    assert aliases(tracking) == {"production": next_one}


def test_a_version_deleted_in_the_middle_of_its_promotion_stops_nobody(
    tracking: LocalTracking, crash: "Crash"
) -> None:
    promoted(tracking, "a")
    second, third = register(tracking, "b"), register(tracking, "c")
    crash.arm(3)  # after the entry, before the alias
    with pytest.raises(Crashed):
        registry.apply(tracking, verdict("promote", second, "1"), {})
    crash.arm(0)
    assert (registry.unsettled(tracking), aliases(tracking)["production"]) == (second, "1")
    tracking.client().delete_model_version(tracking.model, second)
    registry.settle(tracking)
    assert registry.unsettled(tracking) is None
    registry.apply(tracking, verdict("promote", third, "1"), {})
    assert aliases(tracking) == {"production": third}


def test_a_version_without_its_files_names_the_remedy(tracking: LocalTracking, tmp_path: Path) -> None:
    build_bundle(tmp_path / "bundle")
    with tracking.connected() as experiment, mlflow.start_run(experiment_id=experiment) as run:
        model = log_model(tmp_path / "bundle")
    version = registry.register(tracking, model, run.info.run_id, {})
    bundle = registry.bundle_folder(tracking, version)
    for folder in (bundle, bundle.parent.parent):
        shutil.rmtree(folder)
        with pytest.raises(
            RegistryError, match=r"files of version 1 .* are gone .*flows\.rollback --version N"
        ):
            registry.bundle_folder(tracking, version)


# A crash between any two calls.
MUTATING = ("create_", "set_", "log_", "delete_", "update_", "rename_", "transition_", "restore_")


def state(tracking: LocalTracking) -> dict[str, Any]:
    """Return aliases and tags as they are, less what no two runs have in common."""
    versions = tracking.client().search_model_versions(f"name = '{tracking.model}'")
    times = {"verdict.at", "replaced.at", "benchmark.run", registry.FINGERPRINT}
    kept = {
        str(v.version): {key: value for key, value in v.tags.items() if key not in times} for v in versions
    }
    times = {"number", "since", "until", "run"}
    told = [reign.model_dump(exclude=times) for reign in registry.history(tracking)]
    return {"aliases": aliases(tracking), "tags": kept, "history": told}


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

    def judge(*arguments: Any) -> BenchmarkResult:
        *_, models, run_id = arguments
        challenger, production = [*models, None][:2]
        assert challenger is not None
        decision = "keep" if challenger == "3" else "promote"
        return BenchmarkResult(
            verdict=verdict(decision, challenger, production),
            challenger=evidence(challenger).model_copy(update={"scores": ()}),
            production=None,
            gain=None,
            capabilities=(),
            tests=(),
            baselines=(),
            excluded={},
            policy=policy(),
            run_id=run_id,
        )

    monkeypatch.setattr(steps, "judge", judge)
    monkeypatch.setattr(registry, "bundle_folder", lambda *_: Path())
    monkeypatch.setattr(steps, "Predictor", MagicMock())


def benchmark(tracking: LocalTracking, warehouse: DuckDBWarehouse) -> BenchmarkResult:
    """Do what the flow does."""
    result = steps.find.fn(tracking)
    if result is None:
        result = steps.gather.fn(BenchmarkParameters(), policy(), warehouse, tracking)
        steps.apply.fn(result, tracking)
    return result


def snapshot(tracking: LocalTracking) -> Callable[[], None]:
    """Keep what MLflow's database holds, and return what brings it back, sooner than it is made anew."""
    path, kept = Path(tracking.folder) / "mlflow.db", sqlite3.connect(":memory:")

    def restore() -> None:
        with closing(sqlite3.connect(path)) as database:
            kept.backup(database)

    with closing(sqlite3.connect(path)) as database:
        database.backup(kept)
    return restore


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
    prefect_api: None,
    tracking: LocalTracking,
    warehouse: DuckDBWarehouse,
    judged: None,
    crash: Crash,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not everything:  # the metrics and figures of a run decide nothing
        monkeypatch.setattr(steps, "_log", lambda result: mlflow.log_dict(result.model_dump(), steps.RESULT))
    warehouse.merge([tweets(train=0, validation=0, test=6)])
    for number in range(1, challengers + 1):  # the newest challenges, the others are settled
        registry.name_challenger(tracking, register(tracking, str(number)))
        if number < challengers:
            benchmark(tracking, warehouse)
    restore = snapshot(tracking)
    crash.arm(0)
    benchmark(tracking, warehouse)
    calls, expected = crash.calls, state(tracking)
    assert expected["aliases"] == {"production": production}
    assert calls >= 14
    for k in range(1, calls + 1):
        restore()
        before = aliases(tracking).get("production")
        assert before == {1: None, 2: "1", 3: "2"}[challengers]
        crash.arm(k)
        with pytest.raises(Crashed):
            benchmark(tracking, warehouse)
        while mlflow.active_run() is not None:  # this process lives on, the killed one would not
            with pytest.raises(Crashed):
                mlflow.end_run()
        assert aliases(tracking).get("production") in (before, production)
        crash.arm(0)
        result = benchmark(tracking, warehouse)
        assert state(tracking) == expected, f"crash before call {k} of {calls}"
        run = tracking.client().get_run(tags(tracking, str(challengers))["benchmark.run"])
        assert run.info.status == "FINISHED" and run.info.run_id == result.run_id
        assert not tracking.client().search_runs([tracking.prepare()], "attributes.status = 'RUNNING'")
        assert benchmark(tracking, warehouse).verdict.decision == "keep"
        assert aliases(tracking) == expected["aliases"]


def go_back(tracking: LocalTracking) -> str:
    """Do what the flow does in the registry."""
    change = rollback.choose.fn(None, tracking)
    rollback.record.fn(change, "Complaints.", tracking)
    return change.version


def test_a_rollback_killed_between_any_two_calls_is_finished_by_the_next(
    tracking: LocalTracking, crash: Crash
) -> None:
    promoted(tracking, "a", "b")
    restore = snapshot(tracking)
    crash.arm(0)
    assert go_back(tracking) == "1"
    calls, expected = crash.calls, state(tracking)
    assert expected["aliases"] == {"production": "1"} and calls >= 10
    for k in range(1, calls + 1):
        restore()
        crash.arm(k)
        with pytest.raises(Crashed):
            go_back(tracking)
        assert aliases(tracking)["production"] in ("1", "2")
        crash.arm(0)
        if k % 2:  # another flow may come first: it brings alias and tags in line
            registry.settle(tracking)
            if registry.production(tracking).number == "1":
                assert state(tracking) == expected
                continue
        assert go_back(tracking) == "1", f"killed before call {k} of {calls}"
        assert state(tracking) == expected
    with pytest.raises(RegistryError, match=r"none was in production before.*Registered are: 1, 2\."):
        go_back(tracking)
