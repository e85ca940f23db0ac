"""The steps of the flow `benchmark`: evidence, verdict, registry."""

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from prefect.events import emit_event
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import tasks.baselines as baselines
import tasks.behaviour as behaviour
import tasks.capabilities as capabilities
import tasks.cases as cases
import tasks.comparison as comparison
import tasks.evaluation as evaluation
import tasks.gate as gate
import tasks.lexicons as lexicons
import tasks.perturbations as perturbations
import tasks.slices as slices
from blocks.tracking import Tracking
from blocks.warehouse import Warehouse
from containers.serve.predictor import Predictor
from tasks import figures, page, registry, report, rows
from tasks.baselines import Baseline
from tasks.comparison import Capability, Gain
from tasks.fingerprint import fingerprint
from tasks.gate import Evidence, Verdict
from tasks.policy import DEFAULT, Policy
from tasks.progress import logger, progress
from tasks.rows import HeldOut
from tasks.step import step

RESULT = "benchmark.json"
PROMOTED = "sentiment.model.promoted"
"""Event of a version that has gone to production."""


class BenchmarkParameters(BaseModel):
    """Judge the challenger against production and promote the better one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(
        default=DEFAULT, min_length=1, description="TOML file with what a model must show before it serves."
    )
    seed: int = Field(default=1, ge=0, description="Of the behavioural cases and of the resampling.")
    behaviour_rows: int = Field(
        default=500, gt=0, description="Held-out tweets, at most, that a behavioural test perturbs."
    )
    behaviour_sentences: int = Field(
        default=300,
        gt=0,
        description="Sentences, at most, that a behavioural test draws from a template group.",
    )


class BenchmarkResult(BaseModel):
    """Evidence and verdict of a benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict = Field(description="Which version serves, and why.")
    challenger: Evidence = Field(description="What is known of the challenger.")
    production: Evidence | None = Field(description="What is known of the version in production, if any.")
    gain: Gain | None = Field(description="Paired difference of the two in macro recall, if there are two.")
    capabilities: tuple[Capability, ...] = Field(
        description="The behavioural cases by capability, challenger against production."
    )
    tests: tuple[Capability, ...] = Field(
        description="The same for each test by itself, in the order of the suite."
    )
    baselines: tuple[Baseline, ...] = Field(description="Simple methods on the same rows.")
    excluded: dict[str, int] = Field(
        description="Held-out rows, or labels, that did not judge: reason, count."
    )
    policy: Policy = Field(description="The policy that was applied.")
    run_id: str = Field(description="MLflow run that holds the evidence.")


@step
def find(tracking: Tracking) -> BenchmarkResult | None:
    """Return the benchmark that put the production version where it is, if nothing challenges it.

    None if something does, or if another release wrote what was found: then production is judged again.

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
    try:
        earlier = BenchmarkResult.model_validate(stored)
    except ValidationError:
        logger().info("The benchmark of version %s is of another release: anew.", production.number)
        return None
    if challenger is not None:  # the run that promoted it died before it had written everything down
        _settle(earlier, tracking)
    return _standing(earlier, production.number)


def _standing(result: BenchmarkResult, number: str) -> BenchmarkResult:
    """Return a result with the verdict that production stays, since nothing challenges it."""
    reason = f"Version {number} is in production already and nothing challenges it."
    standing = {"decision": "keep", "production": number, "reasons": (reason,)}
    return result.model_copy(update={"verdict": result.verdict.model_copy(update=standing)})


@step
def gather(
    parameters: BenchmarkParameters, policy: Policy, warehouse: Warehouse, tracking: Tracking
) -> BenchmarkResult:
    """Put challenger and production to the same rows and cases, and log evidence and verdict in MLflow.

    The same versions, rows, policy and code are judged once: what is found of an earlier run is returned.
    """
    import mlflow

    held_out, training = rows.read_held_out(warehouse), rows.read_rows(warehouse, "train")
    production = registry.aliased(tracking, registry.PRODUCTION)
    challenger = registry.aliased(tracking, registry.CHALLENGER) or production
    assert challenger is not None
    alone = production is None or production.number == challenger.number
    versions = [challenger, *([production] if production is not None and not alone else [])]
    numbers = [version.number for version in versions]
    # Numbers start anew where a registered model was deleted: its bundle tells a version from another.
    contestants = [(version.number, version.tags.get("digest")) for version in versions]
    judged = tracking.model, rows.digest(held_out.rows), held_out.excluded, rows.digest(training), contestants
    modules = (
        *(behaviour, capabilities, cases, lexicons, perturbations),
        *(baselines, comparison, evaluation, gate, slices, sys.modules[__name__]),
    )
    options = parameters.model_copy(update={"policy": ""}), policy
    packages = ("checklist", "nltk", "scikit-learn", "spacy")
    identity = fingerprint(judged, *options, *modules, packages=packages)
    with tracking.connected() as experiment:
        earlier = registry.find_run(tracking, experiment, identity)
        if earlier is not None:
            logger().info("The same versions were judged on the same evidence before: reused.")
            return BenchmarkResult.model_validate(registry.load_result(tracking, earlier, RESULT))
        registry.close_orphans(tracking, experiment, identity)
        name = f"benchmark-{'-'.join(numbers)}"
        tags = {registry.FINGERPRINT: identity}
        with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags) as run:
            folders = {v.number: registry.bundle_folder(tracking, v) for v in versions}
            models = {number: Predictor(folder).probabilities for number, folder in folders.items()}
            result = judge(parameters, policy, held_out, training, models, run.info.run_id)
            if production is not None and alone:
                result = _standing(result, production.number)
            _log(result)
    return result


class _Judged(NamedTuple):
    """What one model answered, and what came of it."""

    evidence: Evidence
    predicted: NDArray[np.int_]
    outcomes: list[behaviour.Outcome]


def judge(
    parameters: BenchmarkParameters,
    policy: Policy,
    held_out: HeldOut,
    training: pl.DataFrame,
    models: Mapping[str, behaviour.Predict],
    run_id: str,
) -> BenchmarkResult:
    """Return evidence and verdict.

    Args:
        parameters: Seed and number of tweets to perturb.
        policy: What a model must show.
        held_out: Rows that judge.
        training: Rows that the baselines learn from, see `tasks.rows.read_rows`.
        models: Each version's function from texts to probabilities: the challenger's first, then production's
            if there is one.
        run_id: Of the MLflow run that will hold the result.

    Raises:
        PredictionError: What a model answers are no probabilities.
    """
    labelled = held_out.rows.drop_nulls("label")
    with progress("Benchmarking", 2 + len(models), "stages") as advance:
        suite = behaviour.build_suite(
            labelled["text"].to_list(),
            labelled["label"].to_list(),
            parameters.seed,
            parameters.behaviour_rows,
            parameters.behaviour_sentences,
        )
        advance(1)
        judged = []
        for version, predict in models.items():
            judged.append(_judge_one(version, predict, held_out.rows, suite))
            advance(1)
        challenger, production = judged[0], judged[1] if len(judged) > 1 else None
        decisive = challenger.evidence.judged_by(policy)
        kind: rows.LabelKind = decisive.labels if decisive is not None else "textblob"
        simple = baselines.measure(held_out.rows, training, kind)
        advance(1)
    gain = None
    if production is not None and decisive is not None:
        known = held_out.rows[rows.COLUMN[kind]].is_not_null()
        targets = held_out.rows[rows.COLUMN[kind]].filter(known).to_numpy()
        mine, theirs = (found.predicted[known.to_numpy()] for found in (challenger, production))
        gain = comparison.compare(targets, mine, theirs, policy.significance, parameters.seed)
    compared, tests = comparison.compare_behaviour(challenger.outcomes, production and production.outcomes)
    against = production and production.evidence
    return BenchmarkResult(
        verdict=gate.decide(challenger.evidence, against, gain, compared, tests, policy),
        challenger=challenger.evidence,
        production=against,
        gain=gain,
        capabilities=compared,
        tests=tests,
        baselines=simple,
        excluded=held_out.excluded,
        policy=policy,
        run_id=run_id,
    )


def _judge_one(
    version: str, predict: behaviour.Predict, held_out: pl.DataFrame, suite: behaviour.Suite
) -> _Judged:
    """Let a model answer each distinct text once, and score the answers."""
    rows_texts = held_out["text"].to_list()
    texts = list(dict.fromkeys([*rows_texts, *suite.texts()]))
    try:
        answers = behaviour.checked(predict(texts), texts)
    except behaviour.PredictionError as error:
        raise behaviour.PredictionError(f"Version {version} cannot be judged. {error}") from error
    place = {text: i for i, text in enumerate(texts)}

    def known(asked: Sequence[str]) -> NDArray[np.float32]:
        return answers[[place[text] for text in asked]]

    probabilities = known(rows_texts)
    outcomes = suite.evaluate(known)
    evidence = Evidence(
        version=version,
        scores=evaluation.score_kinds(probabilities, held_out),
        slices=slices.score_slices(probabilities, held_out),
        behaviour=tuple(outcome.result for outcome in outcomes),
    )
    return _Judged(evidence, probabilities.argmax(axis=1), outcomes)


@step
def apply(result: BenchmarkResult, tracking: Tracking) -> None:
    """Write the verdict into the registry; a promotion is told as the event PROMOTED."""
    verdict = result.verdict
    if verdict.challenger == verdict.production:  # judged again, alone: its status is what it was
        with tracking.opened() as client:
            client.set_model_version_tag(tracking.model, verdict.production, registry.RUN, result.run_id)
        registry.withdraw_challenger(tracking, verdict.challenger)
    else:
        _settle(result, tracking)
    logger().info("%s: %s", result.verdict.decision, " ".join(result.verdict.reasons))


def _settle(result: BenchmarkResult, tracking: Tracking) -> None:
    def announce() -> None:
        if result.verdict.decision == "promote":
            version = f"{tracking.model}.{result.verdict.challenger}"
            resource = {"prefect.resource.id": f"sentiment.model.{version}", "prefect.resource.name": version}
            emit_event(PROMOTED, resource=resource, payload={"reasons": result.verdict.reasons})

    registry.apply(tracking, result.verdict, {registry.RUN: result.run_id}, announce)


def _log(result: BenchmarkResult) -> None:
    """Log the evidence in the current MLflow run."""
    import mlflow

    metrics = {}
    for evidence in filter(None, (result.challenger, result.production)):
        for scores in evidence.scores:
            title = f"version {evidence.version}, {scores.labels} labels"
            figure = figures.confusion_matrix(scores, title)
            mlflow.log_figure(figure, f"confusion_matrix_{evidence.version}_{scores.labels}.png")
            metrics[f"v{evidence.version}_{scores.labels}_macro_recall"] = scores.macro_recall
        for case in evidence.behaviour:
            if case.failure_rate is not None:
                metrics[f"v{evidence.version}_{case.name}_failure_rate"] = case.failure_rate
    mlflow.set_tag("verdict", result.verdict.decision)
    for baseline in result.baselines:
        for scores in baseline.scores:
            name = baseline.name.replace("+", "").replace("  ", " ").replace(" ", "_")
            metrics[f"{name}_{scores.labels}_macro_recall"] = scores.macro_recall
    mlflow.log_metrics(metrics)
    mlflow.log_text(report.benchmark(result), "report.md")
    mlflow.log_text(page.benchmark_page(result), "report.html")
    mlflow.log_dict(result.model_dump(), RESULT)
