"""The benchmark on a real Prefect API, a real registry and bundles that do answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker

from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse, WarehouseError
from containers.serve.predictor import Predictor
from flows.benchmark import benchmark, main
from tasks import behaviour, page, registry, report
from tasks.behaviour import PredictionError
from tasks.benchmark import PROMOTED, BenchmarkParameters, BenchmarkResult
from tasks.policy import PolicyError
from tasks.registry import RegistryError
from tasks.runs import log_model
from tests.bundles import build_bundle
from tests.policies import policy, write_policy
from tests.tweets import TELLING, tweets

LENIENT: dict[str, Any] = {"minimum_rows": 20, "minimum_class_rows": 5, "minimum_cases": 10, "ceilings": {}}


def held_out(human: bool = True) -> pl.DataFrame:
    """Return rows whose weak labels the good bundle meets; people call every tenth row neutral.

    The texts are short, for the tiny bundle averages over its words, and have a contraction to write out.
    """
    rows = tweets(train=3, validation=3, test=120)
    texts = [f"{TELLING[row % 3][row % 2]} it's {'there' if row % 5 else 'here'}" for row in range(len(rows))]
    people = pl.when(pl.int_range(pl.len()) % 10 == 0).then(0).otherwise("label").cast(pl.Int8)
    labels = pl.when(pl.int_range(pl.len()) % 2 == 0).then(people) if human else pl.lit(None, pl.Int8)
    return rows.with_columns(text=pl.Series(texts), human_label=labels)


class Registry:
    """The registry of a test: makes versions and tells what became of them."""

    def __init__(self, tracking: LocalTracking, folder: Path) -> None:
        self.tracking, self.folder = tracking, folder

    def challenge(self, name: str, flipped: bool = False) -> str:
        """Register a version as training does, good or wrong, and return its number."""
        folder = self.folder / name / "bundle"
        build_bundle(folder, flipped=flipped, made_for=name)
        with self.tracking.connected() as experiment:
            with mlflow.start_run(experiment_id=experiment, run_name=name) as run:
                model = log_model(folder)
            tags = {registry.FINGERPRINT: name}
            version = registry.register(self.tracking, model, run.info.run_id, tags)
        registry.name_challenger(self.tracking, version.number)
        return version.number

    def run(self, **changes: Any) -> BenchmarkResult:
        """Run the flow with a lenient policy, or with one that is not in a key."""
        self.folder.mkdir(exist_ok=True)
        path = write_policy(self.folder / "policy.toml", **LENIENT | changes)
        return benchmark(BenchmarkParameters(policy=path, behaviour_rows=60, behaviour_sentences=10))

    def at(self, alias: str) -> str | None:
        found = registry.aliased(self.tracking, alias)
        return found and found.number

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.tracking.client().get_model_version(self.tracking.model, version).tags)

    def runs(self) -> list[str]:
        """Return the names of the benchmark runs, all of which have ended."""
        with self.tracking.connected() as experiment:
            found = self.tracking.client().search_runs([experiment], order_by=["attributes.start_time ASC"])
        assert {run.info.status for run in found} <= {"FINISHED", "FAILED"}
        return [run.info.run_name for run in found if run.info.run_name.startswith("benchmark-")]


@pytest.fixture(scope="module", autouse=True)
def build_once() -> Iterator[None]:
    """Build each suite of behavioural tests once: equal arguments give equal ones, see tests/tasks."""
    built: dict[str, behaviour.Suite] = {}
    build = behaviour.build_suite

    def known(*arguments: Any) -> behaviour.Suite:
        key = repr(arguments)
        return built[key] if key in built else built.setdefault(key, build(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "build_suite", known)
        yield


@pytest.fixture
def models(blocks: None, tracking: LocalTracking, tmp_path: Path) -> Registry:
    return Registry(tracking, tmp_path / "bundles")


@pytest.fixture
def rows(warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([held_out()])


def recalls(result: BenchmarkResult) -> dict[str, float]:
    return {scores.labels: scores.macro_recall for scores in result.challenger.scores}


def test_good_then_wrong_then_nothing(rows: None, models: Registry, tracking: LocalTracking) -> None:
    first = models.challenge("first")
    promoted = models.run()
    assert promoted.verdict.decision == "promote"
    assert (promoted.verdict.challenger, promoted.verdict.production) == (first, None)
    assert (models.at("production"), models.at("challenger")) == (first, None)
    assert models.tags(first)["status"] == "production"
    assert models.tags(first)["benchmark.run"] == promoted.run_id

    # scores of both kinds, never mixed: the good bundle meets all weak labels, and people differ
    weak, human = promoted.challenger.scores
    assert (weak.labels, weak.rows, weak.macro_recall) == ("textblob", 120, 1.0)
    assert (human.labels, human.rows) == ("human", 60)
    assert 0.8 < human.macro_recall < 1
    assert "on 60 rows with human labels" in promoted.verdict.reasons[0]

    # a wrong one loses, and says why
    wrong = models.challenge("wrong", flipped=True)
    kept = models.run()
    assert kept.verdict.decision == "keep"
    assert (models.at("production"), models.at("challenger")) == (first, None)
    tags = models.tags(wrong)
    assert (tags["status"], tags["verdict"], tags["verdict.against"]) == ("archived", "keep", first)
    reasons = tags["verdict.reasons"]
    assert f"under the floor of {policy().minimum_macro_recall:.3f}" in reasons
    assert f"against version {first}" in reasons
    assert kept.gain is not None and kept.gain.high < 0
    assert models.tags(first)["status"] == "production" and "replaced.by" not in models.tags(first)

    # the same version asks again: the evidence is there
    assert models.runs() == [f"benchmark-{first}", f"benchmark-{wrong}-{first}"]
    registry.name_challenger(tracking, wrong)
    assert models.run() == kept
    assert len(models.runs()) == 2
    assert (models.at("production"), models.at("challenger")) == (first, None)

    # nothing challenges
    standing = models.run()
    assert standing.verdict.decision == "keep"
    assert standing.verdict.headline() == f"Version {first} stays in production"
    assert standing.challenger == promoted.challenger
    assert standing.run_id == promoted.run_id
    assert len(models.runs()) == 2

    # another bundle under the same number is another model
    tracking.client().set_model_version_tag(tracking.model, wrong, "digest", "another")
    registry.name_challenger(tracking, wrong)
    assert models.run().run_id != kept.run_id
    assert len(models.runs()) == 3


def test_a_good_one_replaces_a_wrong_one(rows: None, models: Registry, tracking: LocalTracking) -> None:
    wrong = models.challenge("wrong", flipped=True)
    assert models.run(minimum_macro_recall=0).verdict.decision == "promote"
    good = models.challenge("good")
    # the tiny bundle averages over words, so more words do cost it some certainty
    result = models.run(maximum_loss=1, maximum_test_loss=1)
    assert (result.verdict.decision, result.verdict.production) == ("promote", wrong)
    assert (models.at("production"), models.at("challenger")) == (good, None)
    old, new = models.tags(wrong), models.tags(good)
    assert (old["status"], old["replaced.by"]) == ("archived", good)
    assert (new["status"], new["verdict"], new["verdict.against"]) == ("production", "promote", wrong)
    assert result.gain is not None and result.gain.low > 0.6
    assert result.production is not None and result.production.version == wrong
    assert recalls(result)["textblob"] == 1.0
    # the bundle in production is the one that was judged
    bundle = registry.bundle_folder(tracking, registry.production(tracking))
    assert '"made_for": "good"' in (bundle / "bundle.json").read_text()


def test_promotions_alone_are_told_as_events(
    rows: None, models: Registry, tracking: LocalTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = EventsWorker.instance(AssertingEventsClient)
    monkeypatch.setattr(EventsWorker, "instance", lambda *_: worker)
    first = models.challenge("first")
    models.run()
    models.run()  # nothing challenges
    models.challenge("wrong", flipped=True)
    models.run()
    # as a run leaves it that dies after the alias has moved
    tracking.client().set_registered_model_alias(tracking.model, registry.CHALLENGER, first)
    models.run()
    worker.drain()
    sent = [event for client in AssertingEventsClient.all for event in client.events]
    told = [event.resource.id for event in sent if event.event == PROMOTED]
    assert told == [f"sentiment.model.{tracking.model}.{first}"] * 2


def test_what_was_rolled_back_is_not_promoted_again(
    rows: None, models: Registry, tracking: LocalTracking
) -> None:
    wrong = models.challenge("wrong", flipped=True)
    judged = models.run(minimum_macro_recall=0)
    good = models.challenge("good")
    assert models.run(maximum_loss=1, maximum_test_loss=1).verdict.decision == "promote"
    registry.restore(tracking, wrong, good, "For a test.")
    for _ in range(2):
        standing = models.run(maximum_loss=1, maximum_test_loss=1)
        assert (standing.verdict.decision, standing.verdict.production) == ("keep", wrong)
        assert (standing.run_id, standing.challenger) == (judged.run_id, judged.challenger)
        assert not registry.name_challenger(tracking, good)  # as a training that finds it again does
    assert (models.at("production"), models.at("challenger")) == (wrong, None)
    # the next one is judged against the version that came back
    newer = models.challenge("newer")
    result = models.run(maximum_loss=1, maximum_test_loss=1)
    assert (result.verdict.decision, result.verdict.production) == ("promote", wrong)
    with get_client(sync_client=True) as api:
        [artifact] = [found for found in api.read_latest_artifacts() if found.key == "benchmark"]
    assert [reign.version for reign in registry.history(tracking)] == [wrong, good, wrong, newer]
    told = str(artifact.data).split("## Who was in production when")[1]
    assert told.count("| benchmark |") == 3 and told.count("| rollback | For a test. |") == 1


def test_an_equal_one_does_not_replace_production(rows: None, models: Registry) -> None:
    first = models.challenge("first")
    models.run()
    models.challenge("twin")
    result = models.run()
    assert result.verdict.decision == "keep" and models.at("production") == first
    assert result.gain is not None
    assert (result.gain.difference, result.gain.low, result.gain.high) == (0, 0, 0)
    assert "Macro recall changes by +0.000" in result.verdict.reasons[0]


@pytest.mark.slow
def test_another_policy_or_other_rows_are_judged_anew(
    rows: None, models: Registry, tracking: LocalTracking, warehouse: DuckDBWarehouse
) -> None:
    number = models.challenge("one")
    assert (
        models.run(minimum_rows=61, minimum_macro_recall=1.0).verdict.decision == "promote"
    )  # weak labels decide
    models.challenge("two")
    assert models.run().verdict.decision == "keep"
    more = held_out()[6:36].with_columns(id=pl.concat_str(pl.lit("more:"), "id"), split=pl.lit("test"))
    warehouse.merge([more])
    registry.name_challenger(tracking, "2")
    result = models.run()
    assert [scores.rows for scores in result.challenger.scores] == [150, 75]
    registry.name_challenger(tracking, "2")
    models.run(minimum_gain=0.02)
    assert models.runs() == [f"benchmark-{number}", *["benchmark-2-1"] * 3]


def test_too_few_rows_promote_nothing(models: Registry, warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([held_out()])
    models.challenge("first")
    result = models.run(minimum_rows=121)
    assert result.verdict.decision == "keep" and models.at("production") is None
    assert "not tested on 121 labelled rows" in result.verdict.reasons[0]
    assert result.verdict.headline() == "Version 1 is archived, nothing is in production"


def test_without_held_out_rows_nothing_is_promoted(models: Registry, warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([held_out().filter(pl.col("split") == "train")])
    models.challenge("first")
    result = models.run()
    assert result.verdict.decision == "keep" and models.at("production") is None
    assert result.challenger.scores == ()


def test_without_human_labels_the_weak_ones_decide(models: Registry, warehouse: DuckDBWarehouse) -> None:
    warehouse.merge([held_out(human=False)])
    models.challenge("first")
    result = models.run()
    assert result.verdict.decision == "promote"
    assert recalls(result) == {"textblob": 1.0}
    assert "on 120 rows with textblob labels" in result.verdict.reasons[0]


def test_a_registry_without_models_names_the_remedy(rows: None, models: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no version in production: .*python -m flows\.pipeline"):
        models.run()
    assert models.runs() == []


def test_a_warehouse_without_rows_names_the_remedy(models: Registry) -> None:
    version = models.challenge("first")
    with pytest.raises(WarehouseError, match=r"python -m flows\.etl"):
        models.run()
    assert (models.at("production"), models.at("challenger")) == (None, version)


def test_the_report_is_in_prefect_and_in_mlflow(
    rows: None, models: Registry, tracking: LocalTracking
) -> None:
    models.challenge("first")
    result = models.run()
    client = tracking.client()
    logged = {item.path for item in client.list_artifacts(result.run_id)}
    figures = {f"confusion_matrix_1_{kind}.png" for kind in ("human", "textblob")}
    assert logged >= {"report.md", "report.html", "benchmark.json", *figures}
    metrics = client.get_run(result.run_id).data.metrics
    assert metrics["v1_textblob_macro_recall"] == 1.0
    assert metrics["v1_human_macro_recall"] == pytest.approx(recalls(result)["human"])
    assert "v1_negation_mft_failure_rate" in metrics and "v1_typos_inv_failure_rate" in metrics
    stored = registry.load_result(tracking, result.run_id, "benchmark.json")
    assert BenchmarkResult.model_validate(stored) == result
    with get_client(sync_client=True) as api:
        [artifact] = [found for found in api.read_latest_artifacts() if found.key == "benchmark"]
    assert str(artifact.data).startswith("# Version 1 goes to production\n")
    assert f"`report.html` in the MLflow run `{result.run_id}`" in str(artifact.data)
    with tracking.opened():
        assert mlflow.artifacts.load_text(f"runs:/{result.run_id}/report.html") == page.benchmark_page(result)
    assert "| challenger 1 | human | 60 |" in str(artifact.data)
    assert "| challenger 1 | TextBlob (weak) | 120 | 1.000 (1.000 to 1.000) |" in str(artifact.data)


def test_the_command_line_leaves_the_page(
    rows: None,
    models: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    models.challenge("first")
    policy = write_policy(tmp_path / "policy.toml", **LENIENT)
    monkeypatch.setattr("sys.argv", ["benchmark", "--policy", policy, "--behaviour-rows", "60"])
    monkeypatch.setattr(page, "PAGE", str(tmp_path / "made" / "benchmark.html"))
    main()
    assert capsys.readouterr().out.endswith(f"The report: {page.PAGE}\n")
    assert "<h1>Version 1 goes to production</h1>" in Path(page.PAGE).read_text()


# Bad input


def test_rows_that_were_learned_from_do_not_judge(models: Registry, warehouse: DuckDBWarehouse) -> None:
    rows = held_out().with_columns(cleaned_text=pl.concat_str(pl.lit("row "), "id"))
    seen = rows.filter(pl.col("split") == "train").with_columns(
        id=pl.lit("x:") + pl.col("id"), split=pl.lit("test")
    )
    warehouse.merge([rows, seen])
    models.challenge("first")
    result = models.run()
    assert result.excluded == {"rows whose text is among the training or validation rows": 3}
    assert result.challenger.scores[0].rows == 120
    assert "Left out: 3 rows whose text" in report.benchmark(result)


def test_a_model_that_answers_nonsense_never_promotes(
    rows: None, models: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promote on exception: what could not be judged replaces what serves."""
    first = models.challenge("first", flipped=True)
    assert models.run(minimum_macro_recall=0).verdict.decision == "promote"
    second = models.challenge("second")
    with monkeypatch.context() as patched:
        nonsense = lambda _, texts: np.full((len(texts), 3), np.nan, np.float32)  # noqa: E731
        patched.setattr(Predictor, "probabilities", nonsense)
        with pytest.raises(PredictionError, match="Version 2 cannot be judged.*NaN comes from the weights"):
            models.run()
    assert (models.at("production"), models.at("challenger")) == (first, second)
    assert "verdict" not in models.tags(second)
    assert (
        models.run(minimum_macro_recall=0, maximum_loss=1, maximum_test_loss=1).verdict.decision == "promote"
    ), "it is judged again"


def test_a_wrong_policy_is_told_before_anything_is_done(rows: None, models: Registry, tmp_path: Path) -> None:
    version = models.challenge("first")
    with pytest.raises(PolicyError, match=r"policy\.toml is wrong\. minimum_gian: there is no such key"):
        models.run(minimum_gian=0.1)
    with pytest.raises(PolicyError, match=r"none\.toml cannot be read"):
        benchmark(BenchmarkParameters(policy=str(tmp_path / "none.toml")))
    assert (models.at("production"), models.at("challenger")) == (None, version)
    assert models.runs() == []


def test_a_result_of_an_earlier_release_is_made_anew(
    rows: None, models: Registry, tracking: LocalTracking
) -> None:
    first = models.challenge("first")
    promoted = models.run()
    old = promoted.model_dump(exclude={"capabilities", "baselines", "excluded", "policy"})
    tracking.client().log_dict(promoted.run_id, old, "benchmark.json")
    with tracking.connected():
        tracking.client().delete_tag(promoted.run_id, registry.FINGERPRINT)  # another release, another one
    before = models.tags(first)
    result = models.run()
    assert result.verdict.headline() == f"Version {first} stays in production"
    assert result.challenger == promoted.challenger
    assert result.run_id != promoted.run_id
    after = models.tags(first)
    assert after == before | {"benchmark.run": result.run_id}
    assert (models.at("production"), models.at("challenger")) == (first, None)
    assert models.run() == result and len(models.runs()) == 2


# Mistakes that others made


def test_what_challenges_is_judged_and_not_the_newest_version(
    rows: None, models: Registry, tracking: LocalTracking
) -> None:
    """Alias newest: production follows the version that was registered last, whatever was judged."""
    good = models.challenge("good")
    models.challenge("newest", flipped=True)
    registry.name_challenger(tracking, good)
    assert models.run().verdict.challenger == good
    assert models.at("production") == good


def test_each_champion_is_a_version_of_its_own(rows: None, models: Registry, tracking: LocalTracking) -> None:
    """Registering every champion as the same version: the alias moves, and the same bundle is served."""
    wrong = models.challenge("wrong", flipped=True)
    models.run(minimum_macro_recall=0)
    served = {wrong: registry.bundle_folder(tracking, registry.production(tracking))}
    good = models.challenge("good")
    models.run(maximum_loss=1, maximum_test_loss=1)
    served[good] = registry.bundle_folder(tracking, registry.production(tracking))
    answers = {number: Predictor(folder).predict(["love"])[0]["label"] for number, folder in served.items()}
    assert answers == {wrong: "negative", good: "positive"}
