"""The steps of the flow `benchmark`: evidence, verdict, registry."""

from pathlib import Path

import polars as pl
from prefect.events import emit_event
from pydantic import BaseModel, ConfigDict, Field

import tasks.behaviour as behaviour
import tasks.capabilities as capabilities
import tasks.cases as cases
import tasks.evaluation as evaluation
import tasks.gate as gate
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from containers.serve.predictor import Predictor
from tasks import figures, registry, report, rows
from tasks.fingerprint import fingerprint
from tasks.gate import Evidence, Policy, Verdict
from tasks.parameters import narrow
from tasks.progress import logger, progress
from tasks.step import step
from tasks.train import score_kinds

RESULT = "benchmark.json"
PROMOTED = "sentiment.model.promoted"
"""Event of a version that has gone to production."""


class BenchmarkParameters(Policy):
    """Judge the challenger against production and promote the better one."""

    seed: int = Field(default=1, ge=0, description="Of the behavioural cases and of the resampling.")
    behaviour_rows: int = Field(
        default=500, gt=0, description="Held-out tweets, at most, that a behavioural test perturbs."
    )


class BenchmarkResult(BaseModel):
    """Evidence and verdict of a benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict = Field(description="Which version serves, and why.")
    challenger: Evidence = Field(description="What is known of the challenger.")
    production: Evidence | None = Field(description="What is known of the version in production, if any.")
    gain: evaluation.Gain | None = Field(description="Paired difference of the two, if there are two.")
    run_id: str = Field(description="MLflow run that holds the evidence.")


@step
def find(tracking: Tracking) -> BenchmarkResult | None:
    """Return the benchmark that put the production version where it is, if nothing challenges it.

    Raises:
        RegistryError: There is neither a challenger nor a version in production, or nobody judged the latter,
            or it was deleted.
    """
    registry.settle(tracking)
    challenger = registry.aliased(tracking, registry.CHALLENGER)
    serving = registry.serving(tracking)
    if challenger is not None and (serving is None or serving.number != challenger.number):
        return None
    production = registry.production(tracking)
    if registry.RUN not in production.tags:
        raise registry.RegistryError(
            f"Version {production.number} of the model {tracking.model!r} is in production, but no benchmark "
            "has judged it and nothing challenges it: train another one with `python -m flows.train`, then "
            "run this again."
        )
    stored = registry.load_result(tracking, production.tags[registry.RUN], RESULT)
    earlier = BenchmarkResult.model_validate(stored)
    if challenger is not None:  # the run that promoted it died before it had written everything down
        _settle(earlier, tracking)
    reason = f"Version {production.number} is in production already and nothing challenges it."
    standing = {"decision": "keep", "production": production.number, "reasons": (reason,)}
    return earlier.model_copy(update={"verdict": earlier.verdict.model_copy(update=standing)})


@step
def gather(parameters: BenchmarkParameters, warehouse: Warehouse, tracking: Tracking) -> BenchmarkResult:
    """Put challenger and production to the same rows and cases, and log evidence and verdict in MLflow.

    The same versions, rows, policy and code are judged once: what is found of an earlier run is returned.
    """
    import mlflow

    frame = rows.read_rows(warehouse, "test")
    challenger = registry.aliased(tracking, registry.CHALLENGER)
    assert challenger is not None
    production = registry.aliased(tracking, registry.PRODUCTION)
    versions = [version for version in (challenger, production) if version is not None]
    modules = behaviour, capabilities, cases, evaluation, gate
    numbers = [version.number for version in versions]
    judged = tracking.model, rows.digest(frame), numbers
    identity = fingerprint(judged, parameters, *modules, packages=("checklist",))
    with tracking.connected() as experiment:
        earlier = registry.find_run(tracking, experiment, identity)
        if earlier is not None:
            logger().info("The same versions were judged on the same evidence before: reused.")
            return BenchmarkResult.model_validate(registry.load_result(tracking, earlier, RESULT))
        registry.close_orphans(tracking, experiment, identity)
        name = f"benchmark-{'-'.join(version.number for version in versions)}"
        tags = {registry.FINGERPRINT: identity}
        with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags) as run:
            folders = {v.number: registry.bundle_folder(tracking, v) for v in versions}
            result = judge(parameters, frame, folders, run.info.run_id)
            _log(result)
    return result


def judge(
    parameters: BenchmarkParameters, frame: pl.DataFrame, bundles: dict[str, Path], run_id: str
) -> BenchmarkResult:
    """Return evidence and verdict.

    Args:
        parameters: Policy and seed.
        frame: Held-out rows, see `tasks.rows.read_rows`.
        bundles: Folder of each version's bundle: the challenger's first, then production's if there is one.
        run_id: Of the MLflow run that will hold the result.
    """
    texts = frame["text"].to_list()
    suite = behaviour.build_suite(texts, frame["label"].to_list(), parameters.seed, parameters.behaviour_rows)
    evidence, predictions = [], []
    with progress("Benchmarking", 2 * len(bundles), "stages") as advance:
        for version, folder in bundles.items():
            predictor = Predictor(folder)
            probabilities = predictor.probabilities(texts)
            predictions.append(probabilities.argmax(axis=1))
            advance(1)
            scores = score_kinds(probabilities, frame)
            results = tuple(suite.evaluate(predictor.probabilities))
            evidence.append(Evidence(version=version, scores=scores, behaviour=results))
            advance(1)
    challenger, production = evidence[0], evidence[1] if len(evidence) > 1 else None
    policy = narrow(Policy, parameters)
    gain = None
    decisive = challenger.judged_by(policy)
    if production is not None and decisive is not None:
        known = frame[rows.COLUMN[decisive.labels]].is_not_null()
        targets = frame[rows.COLUMN[decisive.labels]].filter(known).to_numpy()
        mine, theirs = (predicted[known.to_numpy()] for predicted in predictions)
        gain = evaluation.compare(targets, mine, theirs, parameters.seed)
    verdict = gate.decide(challenger, production, gain, policy)
    return BenchmarkResult(
        verdict=verdict, challenger=challenger, production=production, gain=gain, run_id=run_id
    )


@step
def apply(result: BenchmarkResult, tracking: Tracking) -> None:
    """Write the verdict into the registry; a promotion is told as the event PROMOTED."""
    _settle(result, tracking)
    logger().info("%s: %s", result.verdict.decision, " ".join(result.verdict.reasons))


def _settle(result: BenchmarkResult, tracking: Tracking) -> None:
    registry.apply(tracking, result.verdict, {registry.RUN: result.run_id})
    if result.verdict.decision == "promote":
        version = f"{tracking.model}.{result.verdict.challenger}"
        resource = {"prefect.resource.id": f"sentiment.model.{version}", "prefect.resource.name": version}
        emit_event(PROMOTED, resource=resource, payload={"reasons": result.verdict.reasons})


def _log(result: BenchmarkResult) -> None:
    """Log the evidence in the current MLflow run."""
    import mlflow

    for evidence in filter(None, (result.challenger, result.production)):
        for scores in evidence.scores:
            title = f"version {evidence.version}, {scores.labels} labels"
            figure = figures.confusion_matrix(scores, title)
            mlflow.log_figure(figure, f"confusion_matrix_{evidence.version}_{scores.labels}.png")
            mlflow.log_metric(f"v{evidence.version}_{scores.labels}_macro_recall", scores.macro_recall)
        for case in evidence.behaviour:
            if case.failure_rate is not None:
                mlflow.log_metric(f"v{evidence.version}_{case.name}_failure_rate", case.failure_rate)
    mlflow.set_tag("verdict", result.verdict.decision)
    mlflow.log_text(report.benchmark(result.verdict, result.challenger, result.production), "report.md")
    mlflow.log_dict(result.model_dump(), RESULT)
