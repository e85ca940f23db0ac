"""A network learns what there is to learn, the same twice, and says so when it cannot."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from keras import Model
from pydantic import ValidationError

from blocks.lake import LakeError, LocalLake
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from tasks import (
    bundle,
    checkpoint,
    curve,
    drills,
    evaluation,
    fingerprint,
    material,
    network,
    quantization,
    search,
    strategy,
    teacher,
    train,
    training,
    workers,
)
from tasks.curve import CurveParameters
from tasks.device import TrainingError, prepare_device
from tasks.labelling import NEGATIVE, NEUTRAL, POSITIVE
from tasks.network import NetworkName
from tasks.outcome import Outcome
from tasks.rows import RowsError
from tasks.search import SearchParameters
from tasks.strategy import Crew
from tasks.tokens import Tokens
from tasks.training import (
    Examples,
    State,
    Stopped,
    TrainParameters,
    fit,
)
from tests.tweets import tiny_tokenizer, tweets

VOCABULARY, LENGTH = 40, 7
WORD = {NEUTRAL: 4, NEGATIVE: 5, POSITIVE: 6}
PLAIN = WORD | {NEUTRAL: 20}
"""Here nothing tells that a row is neutral but that no other word does."""
EMBEDDINGS = np.random.default_rng(0).normal(0, 0.5, (VOCABULARY, 16)).astype(np.float32)
RECIPE = {"learning_rate": 0.01, "batch_size": 32, "epochs": 3}


def toy(labels: list[int], seed: int, words: dict[int, int] = WORD) -> Examples:
    """Rows of noise with one telling word somewhere: that of the label."""
    random = np.random.default_rng(seed)
    ids = random.integers(10, VOCABULARY, (len(labels), LENGTH))
    ids[np.arange(len(labels)), random.integers(0, LENGTH, len(labels))] = [words[label] for label in labels]
    lengths = np.full(len(labels), LENGTH, np.int32)
    return Examples(Tokens(ids.astype(np.int32).ravel(), lengths), np.array(labels, np.int8))


def balanced(rows: int, seed: int) -> Examples:
    return toy([i % 3 for i in range(rows)], seed)


def run(
    train: Examples, validation: Examples, state: State | None = None, **recipe: Any
) -> tuple[Model, State, Stopped]:
    parameters = TrainParameters.model_validate(RECIPE | recipe)
    return fit(parameters, train, validation, VOCABULARY, EMBEDDINGS, state)


def logits(model: Model, examples: Examples) -> np.ndarray:
    return np.array(model(examples.tokens.values.reshape(-1, LENGTH), training=False))


def predicted(model: Model, examples: Examples) -> np.ndarray:
    labels: np.ndarray = logits(model, examples).argmax(axis=1)
    return labels


class Lopsided(NamedTuple):
    """What was learned from 9 neutral rows to each negative one, and no positive ones at all.

    The negative word is in all negative rows and in a fifth of the neutral ones: where it stands, two in
    three rows are neutral, and yet it speaks for negative.
    """

    model: Model


@pytest.fixture(scope="module")
def lopsided() -> Lopsided:
    def examples(rows: int, seed: int) -> Examples:
        made = toy([NEGATIVE if i % 10 == 0 else NEUTRAL for i in range(rows)], seed, PLAIN)
        ids = made.tokens.values.reshape(-1, LENGTH)
        misleading = [i for i in range(rows) if i % 10 in (3, 7)]
        ids[misleading, 0] = WORD[NEGATIVE]
        return made

    return Lopsided(run(examples(600, 1), examples(100, 2), epochs=4)[0])


@pytest.mark.parametrize("name", ["pooled", pytest.param("stacked", marks=pytest.mark.slow)])
def test_each_network_learns_what_one_word_tells(name: NetworkName) -> None:
    steps: list[int] = []
    states: list[State] = []
    train, validation = balanced(300, 1), balanced(60, 2)
    model, state, stopped = fit(
        TrainParameters.model_validate(RECIPE | {"network": name}),
        *(train, validation, VOCABULARY, EMBEDDINGS),
        on_step=steps.append,
        on_epoch=states.append,
    )
    history = state.history
    assert model.name == name
    assert np.mean(predicted(model, validation) == validation.targets) > 0.9
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[0].keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [after.history for after in states] == [history[:1], history[:2], history]
    assert stopped == "all epochs"
    assert steps == [1] * 10 * 3


def test_the_rare_class_is_predicted_where_its_word_stands(lopsided: Lopsided) -> None:
    rare = toy([NEGATIVE] * 100, 3)
    assert np.mean(predicted(lopsided.model, rare) == NEGATIVE) > 0.8
    common = toy([NEUTRAL] * 100, 4, PLAIN)
    assert np.mean(predicted(lopsided.model, common) == NEUTRAL) > 0.9


def test_a_class_without_rows_is_not_predicted(lopsided: Lopsided) -> None:
    noise = toy([NEUTRAL] * 200, 5, PLAIN)
    exponents = np.exp(logits(lopsided.model, noise))
    assert (exponents / exponents.sum(axis=1, keepdims=True))[:, POSITIVE].max() < 0.05


def own_loss(model: Model, examples: Examples) -> float:
    """Return the loss on examples of equally frequent labels."""
    shifted = logits(model, examples) + np.log(1 / 3)
    own = shifted[np.arange(len(shifted)), examples.targets]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - own))


def test_the_best_epochs_weights_are_kept() -> None:
    # What is right for training is wrong for validation: each epoch is worse than the one before.
    swapped = {NEUTRAL: WORD[NEGATIVE], NEGATIVE: WORD[POSITIVE], POSITIVE: WORD[NEUTRAL]}
    validation = toy([i % 3 for i in range(60)], 2, swapped)
    model, state, stopped = run(balanced(300, 1), validation, epochs=6)
    losses = [epoch["val_loss"] for epoch in state.history]
    assert stopped == "no better"
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 6, "patience is 2 epochs"
    assert own_loss(model, validation) == pytest.approx(losses[best], abs=1e-3)
    assert losses[-1] > 1.05 * losses[best]


def test_weights_of_a_later_epoch_are_kept_though_its_loss_is_a_little_higher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "CLOSE", 100.0)  # so that a lot is a little
    swapped = {NEUTRAL: WORD[NEGATIVE], NEGATIVE: WORD[POSITIVE], POSITIVE: WORD[NEUTRAL]}
    validation = toy([i % 3 for i in range(60)], 2, swapped)
    model, state, stopped = run(balanced(300, 1), validation, epochs=6)
    losses = [epoch["val_loss"] for epoch in state.history]
    assert stopped == "all epochs" and losses[-1] > 1.05 * min(losses)
    assert own_loss(model, validation) == pytest.approx(losses[-1], abs=1e-3)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([0.70], 0),
        ([0.70, 0.66, 0.65], 2),
        ([0.70, 0.65, 0.653], 2),  # as good by what the rows can tell, and later
        ([0.70, 0.65, 0.653, 0.66], 2),
        ([0.65, 0.66, 0.64], 2),
        ([0.65, 0.70, 0.653], 2),
        ([0.65, 0.70, 0.656], 0),
    ],
)
def test_of_epochs_that_are_as_good_the_last_one_is_best(losses: list[float], best: int) -> None:
    history = tuple({"val_loss": loss} for loss in losses)
    assert training.best_epoch(history) == best
    assert Outcome(state="complete", macro_recall=0.5, epochs=history).loss == losses[best]


def test_a_loss_that_is_not_a_number_ends_it_and_registers_nothing(
    warehouse: DuckDBWarehouse, lake: LocalLake, tracking: LocalTracking, tmp_path: Path
) -> None:
    warehouse.merge([tweets(train=60, validation=30, test=0)])
    parameters = TrainParameters(
        learning_rate=1e30, batch_size=4, tokenizer=tiny_tokenizer(tmp_path / "words")
    )
    identity = train.identify.fn(parameters, warehouse)
    with pytest.raises(
        TrainingError, match=r"not a number in the first epoch: lower --learning-rate \(now 1e\+30\)"
    ):
        train.fit.fn(identity, None, parameters, warehouse, lake, tracking, "no flow run")
    client = tracking.client()
    assert client.search_model_versions() == []
    [run] = client.search_runs([tracking.prepare()])
    assert run.info.status == "FAILED"
    assert np.isfinite(list(run.data.metrics.values())).all()


def test_rows_that_change_while_they_are_learned_are_not_taken_for_those_before(
    warehouse: DuckDBWarehouse,
    lake: LocalLake,
    tracking: LocalTracking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warehouse.merge([tweets(train=60, validation=30, test=0)])
    parameters = TrainParameters(tokenizer=tiny_tokenizer(tmp_path / "words"))
    identity = train.identify.fn(parameters, warehouse)
    more = tweets(train=3, validation=0, test=0).with_columns(id="more:" + pl.col("id"))
    warehouse.merge([more])
    with pytest.raises(RowsError, match="have changed since this run began: run it again"):
        train.fit.fn(identity, None, parameters, warehouse, lake, tracking, "no flow run")
    assert tracking.client().search_runs([tracking.prepare()]) == []

    second = Crew(tf.distribute.get_strategy(), 1, 2)
    monkeypatch.setattr(workers, "devices", lambda given: ("two devices", second))
    with pytest.raises(RowsError, match="have changed since this run began: run it again"):
        train.help_chief.fn(identity, parameters, warehouse)


def test_helpers_are_called_when_all_is_read(
    warehouse: DuckDBWarehouse,
    lake: LocalLake,
    tracking: LocalTracking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step that is tried again after an outage would call them twice."""
    warehouse.merge([tweets(train=60, validation=30, test=0)])
    parameters = TrainParameters(
        tokenizer=tiny_tokenizer(tmp_path / "bert", encoder=True), labels="human", teacher="on"
    )
    identity = train.identify.fn(parameters, warehouse)
    called: list[object] = []
    monkeypatch.setattr(workers, "call", lambda *given: called.append(given))
    with pytest.raises(LakeError, match="damaged or gone"):
        train.fit.fn(identity, "no lesson", parameters, warehouse, lake, tracking, "no flow run")

    def away(*_: object) -> None:
        raise LakeError("away")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "find_checkpoint", away)
        with pytest.raises(LakeError, match="away"):
            train.teach.fn(parameters, warehouse, lake)
    assert called == []

    def call(crew: Crew | None, identity: str, job: str) -> None:
        raise InterruptedError(f"{job} {identity}")

    monkeypatch.setattr(workers, "call", call)
    with pytest.raises(InterruptedError, match=f"teach {identity}"):
        train.teach.fn(parameters, warehouse, lake)
    warehouse.merge([tweets(train=3, validation=0, test=0).with_columns(id="more:" + pl.col("id"))])
    with pytest.raises(InterruptedError, match=f"teach {train.identify.fn(parameters, warehouse)}"):
        train.teach.fn(parameters, warehouse, lake)


def test_a_version_is_of_its_tokenizers_files(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    warehouse.merge([tweets(train=60, validation=30, test=0)])
    folder = tmp_path / "words"
    tiny_tokenizer(folder, encoder=True)
    parameters = TrainParameters(tokenizer=str(folder))
    searched = SearchParameters(tokenizer=str(folder))
    drawn = CurveParameters(tokenizer=str(folder), shares=(1.0,))

    def identities() -> tuple[str, ...]:
        return (
            train.identify.fn(parameters, warehouse),
            search.identify.fn(searched, warehouse),
            curve.identify.fn(drawn, warehouse),
        )

    found = [identities()]
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        with (folder / name).open("ab") as file:
            file.write(b" ")
        found.append(identities())
    for kind in zip(*found, strict=True):
        assert len(set(kind)) == 4


def test_a_version_is_of_the_code_that_decides_what_becomes_of_it(
    warehouse: DuckDBWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.merge([tweets(train=60, validation=30, test=0)])
    counted: list[object] = []
    monkeypatch.setattr(fingerprint, "_content", lambda value: str(counted.append(value)))
    train.identify.fn(TrainParameters(tokenizer=tiny_tokenizer(tmp_path / "words")), warehouse)
    modules = {value for value in counted if isinstance(value, ModuleType)}
    assert {bundle, drills, evaluation, material, network, quantization, strategy, teacher} < modules


def test_a_fit_of_another_kind_of_device_is_told(tmp_path: Path) -> None:
    train, validation = balanced(60, 1), balanced(30, 2)
    _, state, _ = run(train, validation, epochs=1)
    other = replace(state, variables=(*state.variables, np.float32(1), np.float32(0)))
    with pytest.raises(TrainingError, match="another kind of device.*--precision float32"):
        run(train, validation, other, epochs=2)


def test_after_a_good_epoch_a_loss_that_is_not_a_number_costs_no_more_than_its_epoch() -> None:
    train, validation = balanced(300, 1), balanced(60, 2)
    steps: list[int] = []

    def spoil(state: State) -> None:
        # What the optimizer remembers is no number: the first step of the next epoch spoils all weights.
        for value in state.variables[-4:]:
            value.fill(np.nan)

    model, first, _ = run(train, validation, epochs=1)
    after_one = predicted(model, validation)
    spoil(first)
    parameters = TrainParameters.model_validate(RECIPE | {"epochs": 3})
    model, state, stopped = fit(
        parameters, train, validation, VOCABULARY, EMBEDDINGS, first, on_step=steps.append
    )
    assert stopped == "not a number"
    assert state.history == first.history
    assert 1 <= len(steps) < 10, "no use in going on to the end of the epoch"
    np.testing.assert_array_equal(predicted(model, validation), after_one)


def test_going_on_gives_the_weights_of_a_fit_without_a_break() -> None:
    train, validation = balanced(300, 1), balanced(60, 2)
    states: list[State] = []
    parameters = TrainParameters.model_validate(RECIPE)
    whole, ended, _ = fit(parameters, train, validation, VOCABULARY, EMBEDDINGS, on_epoch=states.append)
    steps: list[int] = []
    resumed, again, stopped = fit(
        parameters, train, validation, VOCABULARY, EMBEDDINGS, states[0], on_step=steps.append
    )
    assert (len(steps), stopped) == (20, "all epochs")
    assert again.history == ended.history
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_gpu_is_told_at_once_if_one_is_required() -> None:
    if tf.config.list_physical_devices("GPU"):
        assert prepare_device(require_gpu=True) != "CPU"
    else:
        assert prepare_device(require_gpu=False) == "CPU"
        with pytest.raises(TrainingError, match=r"TensorFlow sees no GPU.*--require-gpu"):
            prepare_device(require_gpu=True)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"seed": -1}, {"network": "deep"}, {"x": 1}],
)
def test_recipes_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainParameters.model_validate(wrong)


SCRIPT = """
import hashlib, sys
from tests.tasks.test_training import balanced, run
from tasks.device import prepare_device
assert prepare_device(False)
for seed in sys.argv[1:]:
    model, state, stopped = run(balanced(90, 1), balanced(30, 2), seed=int(seed), epochs=1)
    content = b"".join(weights.tobytes() for weights in model.get_weights())
    print(hashlib.sha256(content).hexdigest(), state.history)
"""


def test_equal_seeds_give_equal_weights_in_fresh_processes_and_others_do_not() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *seeds],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": str(len(seeds)), "CUDA_VISIBLE_DEVICES": ""},
            text=True,
        )
        for seeds in (["1"], ["1", "2"])
    ]
    answers = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    [first], [again, other] = (out.splitlines() for out, _ in answers)
    assert first == again
    assert first.split()[0] != other.split()[0]
