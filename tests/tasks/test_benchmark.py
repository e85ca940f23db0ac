"""Judging models without a registry: each text is asked once, and nonsense is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from containers.serve.predictor import WINDOW, Predictor
from tasks import behaviour
from tasks.behaviour import PredictionError, Suite
from tasks.benchmark import BenchmarkParameters, BenchmarkResult, _judge_one, judge
from tasks.policy import Policy
from tasks.rows import HeldOut
from tests.bundles import build_bundle
from tests.flows.test_benchmark import held_out
from tests.policies import policy

PARAMETERS = BenchmarkParameters(behaviour_rows=30, behaviour_sentences=5)
LENIENT = policy(
    minimum_rows=20,
    minimum_class_rows=1,
    minimum_cases=1,
    ceilings={},
    maximum_loss=1,
    maximum_test_loss=1,
)

Answer = Callable[[Sequence[str]], NDArray[np.float32]]


def knows(right: float) -> Answer:
    """Return a model that tells the rows of `held_out` by their words, or so many of them in a hundred."""

    def answer(texts: Sequence[str]) -> NDArray[np.float32]:
        made = np.full((len(texts), 3), 0.1, np.float32)
        for i, text in enumerate(texts):
            words = set(text.split())
            label = 2 if words & {"love", "great"} else 1 if words & {"hate", "terrible"} else 0
            made[i, label if sum(map(ord, text)) % 100 < right else (label + 1) % 3] = 0.8
        return made

    return answer


def judged(
    models: dict[str, Answer], rows: pl.DataFrame | None = None, own: Policy = LENIENT
) -> BenchmarkResult:
    frame = held_out() if rows is None else rows
    test, train = (frame.filter(pl.col("split") == split) for split in ("test", "train"))
    return judge(PARAMETERS, own, HeldOut(test, {}), train, models, "run")


def test_each_distinct_text_is_asked_once_a_model() -> None:
    asked: list[list[str]] = []

    def counted(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.append(list(texts))
        return knows(100)(texts)

    result = judged({"2": counted, "1": knows(50)})
    [texts] = asked
    assert len(texts) == len(set(texts)) > 500
    assert set(held_out().filter(pl.col("split") == "test")["text"]) <= set(texts)
    assert result.challenger.scores[0].macro_recall == 1


def test_all_the_evidence_is_there() -> None:
    result = judged({"2": knows(100), "1": knows(50)})
    assert (result.verdict.decision, result.verdict.production) == ("promote", "1")
    assert result.production is not None and result.gain is not None
    for evidence in (result.challenger, result.production):
        assert [scores.labels for scores in evidence.scores] == ["textblob", "human"]
        assert {part.by for part in evidence.slices} >= {"length", "url", "language", "month"}
        assert all(scores.reliability and scores.calibration_error for scores in evidence.scores)
    assert [found.name for found in result.capabilities] == [*policy().capabilities]
    assert [found.name for found in result.tests] == [r.name for r in result.challenger.behaviour]
    for found in result.tests:
        results = {r.name: r for r in result.challenger.behaviour}
        assert (found.challenger_failed, found.cases) == (
            results[found.name].failed,
            results[found.name].perturbed,
        )
    assert [found.learned_from for found in result.baselines] == ["human", None, None, "human"]
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result
    assert BenchmarkResult.model_validate(result.model_dump()) == result
    assert "NaN" not in result.model_dump_json()


def test_a_model_alone_is_compared_with_nothing() -> None:
    result = judged({"1": knows(100)})
    assert (result.production, result.gain) == (None, None)
    assert result.capabilities and all(found.loss is None for found in result.capabilities)


def test_equal_arguments_give_equal_results() -> None:
    models = {"2": knows(80), "1": knows(70)}
    assert judged(models) == judged(models)


def test_a_test_set_of_one_class_promotes_nothing() -> None:
    rows = held_out().with_columns(label=pl.lit(1, pl.Int8), human_label=pl.lit(1, pl.Int8))
    result = judged({"1": knows(100)}, rows)
    assert result.verdict.decision == "keep"
    assert "all 120 rows that version 1 was tested on have the same human label" in result.verdict.reasons[0]


def test_rows_without_a_label_judge_nobody() -> None:
    rows = held_out().with_columns(label=pl.lit(None, pl.Int8), human_label=pl.lit(None, pl.Int8))
    result = judged({"1": knows(100)}, rows)
    assert (result.verdict.decision, result.challenger.scores) == ("keep", ())
    assert all("no held-out row has a label" in found.reason for found in result.baselines)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda n: np.full((n, 3), np.nan), "are no probabilities, for example"),
        (lambda n: np.full((n, 2), 0.5), r"gave an array of shape \(120, 2\)"),
        (lambda n: np.full((n - 1, 3), 1 / 3), "gave an array of shape"),
        (lambda n: np.full(n, 1), r"gave an array of shape \(120,\)"),
        (lambda n: np.full((n, 3), 5.0), "sum to 1"),
        (lambda n: np.tile([-0.5, 0.5, 1.0], (n, 1)), "not negative"),
    ],
    ids=["NaN", "two classes", "a row too few", "labels", "logits", "negative"],
)
def test_answers_that_are_no_probabilities(answer: Callable[[int], Any], told: str) -> None:
    rows = held_out().filter(pl.col("split") == "test").with_columns(text=pl.col("id"))
    with pytest.raises(PredictionError, match=f"Version 7 cannot be judged.*{told}"):
        _judge_one("7", lambda texts: answer(len(texts)), rows, Suite(()))


def test_all_rows_are_scored_and_not_the_first_batch_alone(tmp_path: Path) -> None:
    """Only the first batch: a model that is right on it and wrong on the rest is found out."""
    count = 3 * WINDOW // 2
    texts = [f"{word} {number}" for number in range(count) for word in ("love",)]
    labels = [2 if number < WINDOW else 1 for number in range(count)]
    rows = (
        held_out()[:1]
        .select(pl.exclude("text", "label"))
        .join(pl.DataFrame({"text": texts, "label": labels}), how="cross")
    )
    build_bundle(tmp_path)
    found = _judge_one("1", Predictor(tmp_path).probabilities, rows.cast({"label": pl.Int8}), Suite(()))
    weak = found.evidence.scores[0]
    assert (weak.rows, weak.accuracy) == (count, pytest.approx(2 / 3))
    assert [(c.label, c.recall) for c in weak.classes] == [("negative", 0), ("positive", 1)]


def test_the_suite_is_asked_through_what_was_answered_before() -> None:
    rows = held_out().filter(pl.col("split") == "test")
    suite = behaviour.build_suite(rows["text"].to_list(), rows["label"].to_list(), 1, 10, 3)
    found = _judge_one("1", knows(70), rows, suite)
    direct = suite.evaluate(knows(70))
    assert [outcome.result for outcome in found.outcomes] == [outcome.result for outcome in direct]
    assert all((a.failed == b.failed).all() for a, b in zip(found.outcomes, direct, strict=True))
