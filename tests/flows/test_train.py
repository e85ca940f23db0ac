"""The flow `train` makes one version of the same rows and recipe, whatever happens on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect.settings import PREFECT_API_URL

from blocks.lake import LakeError, LocalLake
from blocks.tracking import LocalTracking
from blocks.warehouse import DuckDBWarehouse
from flows.train import train
from tasks import registry, teacher, trained, training
from tasks.rows import RowsError
from tasks.training import TrainParameters
from tests.tasks.test_strategy import places
from tests.tweets import tiny_tokenizer, tweets

ROOT = Path(__file__).resolve().parents[2]
Prepare = Callable[[Path, pl.DataFrame], tuple[LocalTracking, dict[str, str]]]
"""Takes a new folder and rows; returns where runs go and the environment of a process."""


def recipe(tmp_path: Path, **changes: Any) -> TrainParameters:
    values = {"tokenizer": tiny_tokenizer(tmp_path / "words"), "epochs": 1, "learning_rate": 0.01}
    return TrainParameters.model_validate(values | changes)


def runs(tracking: LocalTracking) -> list[Any]:
    experiment = tracking.client().get_experiment_by_name(tracking.experiment)
    return tracking.client().search_runs([experiment.experiment_id]) if experiment else []


def versions(tracking: LocalTracking) -> list[str]:
    return sorted(str(version.version) for version in tracking.client().search_model_versions())


def artifacts(tracking: LocalTracking, run: str) -> set[str]:
    return {artifact.path for artifact in tracking.client().list_artifacts(run)}


def test_a_version_is_made_once(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    first = train(recipe(tmp_path))
    assert (first.version, first.reused, first.labels, first.rows) == ("1", False, "textblob", 240)
    assert [scores.labels for scores in first.scores] == ["textblob", "human"]
    assert len(first.epochs) == 1

    (run,) = runs(tracking)
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {"epochs": "1", "labels": "textblob", "network": "pooled"}.items()
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        history = tracking.client().get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in history] == [(1, first.epochs[0][name])]
    assert run.data.metrics["validation_human_macro_recall"] == first.scores[1].macro_recall
    assert run.data.metrics["fit_rows_per_second"] > 0
    inputs = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert {context: dataset.name for context, dataset in inputs.items()} == {
        "training": "PROCESSED_TWEETS.train",
        "validation": "PROCESSED_TWEETS.validation",
    }
    assert json.loads(inputs["training"].profile)["num_rows"] == 240
    assert artifacts(tracking, run.info.run_id) == {
        "learning_curve.png",
        "confusion_matrix_textblob.png",
        "confusion_matrix_human.png",
        "train.json",
    }

    version = registry.aliased(tracking, registry.CHALLENGER)
    assert version is not None
    assert (version.number, version.run_id) == ("1", run.info.run_id)
    assert version.tags.keys() == {"fingerprint", "device", "prefect.flow_run", "labels", "digest"}
    assert version.tags["fingerprint"] == run.data.tags["fingerprint"]
    assert answer_elsewhere(tracking, tmp_path) == ["negative", "neutral", "positive"]

    again = train(recipe(tmp_path))
    assert again == first.model_copy(update={"reused": True})
    assert (len(runs(tracking)), versions(tracking)) == (1, ["1"])

    other = train(recipe(tmp_path, seed=2, labels="human"))
    assert (other.version, other.reused, other.rows) == ("2", False, 120)
    assert (len(runs(tracking)), versions(tracking)) == (2, ["1", "2"])
    newest = registry.aliased(tracking, registry.CHALLENGER)
    assert newest is not None and newest.number == "2"
    assert train(recipe(tmp_path)).version == "1"


def test_another_seed_learns_from_the_same_teacher(
    blocks: None,
    tracking: LocalTracking,
    lake: LocalLake,
    warehouse: DuckDBWarehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warehouse.merge([tweets()])
    tokenizer = tiny_tokenizer(tmp_path / "bert", encoder=True)
    taught: list[int] = []
    monkeypatch.setattr(teacher, "EPOCHS", 1)
    monkeypatch.setattr(teacher, "logits", lambda *given: taught.append(1) or training.logits(*given))
    first = train(recipe(tmp_path, tokenizer=tokenizer, labels="human", teacher="on"))
    once = len(taught)
    assert once and first.teacher is not None
    second = train(recipe(tmp_path, tokenizer=tokenizer, labels="human", teacher="on", seed=2))
    assert (second.version, second.teacher, len(taught)) == ("2", first.teacher, once)
    assert second.epochs != first.epochs
    other = train(recipe(tmp_path, tokenizer=tokenizer, labels="textblob", teacher="on"))
    assert (other.version, len(taught)) == ("3", 2 * once), "other labels, another teacher"
    lessons = Path(lake.uri("lessons"))
    assert len(list(lessons.iterdir())) == 2 and not list(lessons.parent.rglob("unfinished"))


def test_a_lesson_that_is_damaged_is_not_passed_over(
    blocks: None,
    tracking: LocalTracking,
    warehouse: DuckDBWarehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warehouse.merge([tweets()])
    tokenizer = tiny_tokenizer(tmp_path / "bert", encoder=True)
    monkeypatch.setattr(teacher, "EPOCHS", 1)
    taught = recipe(tmp_path, tokenizer=tokenizer, labels="human", teacher="on")
    with monkeypatch.context() as damage:
        damage.setattr(
            trained, "write_lesson", lambda lake, name, _: lake.write(trained.lesson_key(name), b"garbage")
        )
        with pytest.raises(LakeError, match="damaged or gone: run again, and it is taught anew"):
            train(taught)
    assert versions(tracking) == []
    assert train(taught).teacher is not None


def test_what_was_fit_is_published_again_and_not_fit_again(
    blocks: None, tracking: LocalTracking, lake: LocalLake, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    first = train(recipe(tmp_path))
    tracking.client().delete_registered_model(tracking.model)
    again = train(recipe(tmp_path))
    assert again == first, "to the time that the fit took"
    (run,) = runs(tracking)
    history = tracking.client().get_metric_history(run.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(1, first.epochs[0]["val_loss"])]

    # What is damaged is not published, and said where it lies.
    tracking.client().delete_registered_model(tracking.model)
    (network,) = Path(lake.folder).glob("trained/*/*/model.onnx")
    network.write_bytes(b"nothing")
    with pytest.raises(
        LakeError, match=rf"{network.parents[1]} is damaged: delete that folder and run again"
    ):
        train(recipe(tmp_path))
    assert versions(tracking) == []
    (network.parents[1] / "manifest.json").write_text("{}")
    assert train(recipe(tmp_path)).version == "1"
    assert len(runs(tracking)) == 2


def test_one_mirrored_device_makes_what_it_makes_alone(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    warehouse.merge([tweets()])
    alone, mirrored = (
        train(recipe(tmp_path, strategy=strategy, epochs=2)) for strategy in ("one", "mirrored")
    )
    assert mirrored.device.startswith(alone.device) and "on this host" not in alone.device
    assert mirrored.device.endswith("on this host")
    assert versions(tracking) == [alone.version, mirrored.version] == ["1", "2"]
    for one, other in zip(alone.epochs, mirrored.epochs, strict=True):
        assert other == pytest.approx(one, abs=1e-4)
    for one, other in zip(alone.scores, mirrored.scores, strict=True):
        assert other.macro_recall == pytest.approx(one.macro_recall, abs=1e-4)
        assert other.log_loss == pytest.approx(one.log_loss, abs=1e-4)


def answer_elsewhere(tracking: LocalTracking, folder: Path) -> list[str]:
    """Return the classes that the logged model knows, in a process that knows nothing of this project."""
    code = f"""
        import mlflow
        mlflow.set_tracking_uri({tracking.uri()!r})
        model = mlflow.pyfunc.load_model("models:/{tracking.model}@challenger")
        found = model.predict([{{"text": "I love it"}}, {{"text": ""}}])
        numbers = found.drop(columns="label")
        assert len(found) == 2 and (abs(numbers.sum(axis=1) - 1) < 1e-5).all()
        assert found["label"].tolist() == [name[2:] for name in numbers.idxmax(axis=1)]
        print(*sorted(name[2:] for name in numbers))
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_rows_that_cannot_be_learned(
    blocks: None, tracking: LocalTracking, warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="flows.etl"):
        train(recipe(tmp_path))
    warehouse.merge([tweets(train=0, validation=0, test=9)])
    with pytest.raises(RowsError, match="textblob labels.*missing.*flows.etl"):
        train(recipe(tmp_path))
    nobody = pl.lit(None, pl.Int8).alias("human_label")
    same = tweets(train=9, validation=9, test=0).with_columns(nobody, label=pl.lit(2, pl.Int8))
    warehouse.merge([same.with_columns("made-up-2:" + pl.col("id").alias("id"))])
    with pytest.raises(RowsError, match="all positive"):
        train(recipe(tmp_path))
    with pytest.raises(RowsError, match="No row in the warehouse has a human label.*--labels textblob"):
        train(recipe(tmp_path, labels="human"))
    assert (runs(tracking), versions(tracking)) == ([], [])


@pytest.fixture
def prepare(prefect_api: None, mlflow_template: Path) -> Prepare:
    """Return what makes a folder for processes of their own to train in; blocks lead to the newest."""

    def prepared(folder: Path, rows: pl.DataFrame) -> tuple[LocalTracking, dict[str, str]]:
        (folder / "mlflow").mkdir(parents=True)
        shutil.copy(mlflow_template, folder / "mlflow")
        tracking = LocalTracking(folder=str(folder / "mlflow"))
        warehouse = DuckDBWarehouse(path=str(folder / "warehouse.duckdb"))
        warehouse.merge([rows])
        for block in (tracking, warehouse, LocalLake(folder=str(folder / "lake"))):
            block.appoint()
        return tracking, os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}

    return prepared


@contextmanager
def started(
    folder: Path, environment: dict[str, str], output: Path, **flags: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the flow in a process group of its own, which does not outlive the block."""
    flags = {"tokenizer": tiny_tokenizer(folder / "words"), **flags}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "flows.train", *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_it_goes_on(prepare: Prepare, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "words", encoder=True)
    # Long enough to be hit, short enough to wait for.
    flags = {"epochs": 3, "batch-size": 2, "tokenizer": tokenizer, "teacher": "on"}
    made = []
    for name, kills in (("whole", ()), ("killed", ("Epoch 1 of 2 of the teacher", "Epoch 1 of 3:"))):
        folder = tmp_path / name
        tracking, environment = prepare(folder, tweets(train=1500))
        log = folder / "log"
        for line in kills:
            with started(folder, environment, log, **flags) as process:
                deadline = time.monotonic() + 180
                while line not in log.read_text():
                    assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
            assert versions(tracking) == []
        interrupted = [run.info.run_id for run in runs(tracking) if run.info.status == "RUNNING"]
        assert len(interrupted) == bool(kills)

        with started(folder, environment, log, **flags) as process:
            assert process.wait(300) == 0, log.read_text()
        assert versions(tracking) == ["1"]
        again = {
            line for line in ("of the teacher", "Epoch 1 of 3:", "Epoch 2 of 3:") if line in log.read_text()
        }
        assert again == ({"Epoch 2 of 3:"} if kills else {"of the teacher", "Epoch 1 of 3:", "Epoch 2 of 3:"})
        (run,) = runs(tracking)
        assert (run.info.status, [run.info.run_id]) == ("FINISHED", interrupted or [run.info.run_id])
        assert run.data.metrics["teacher_macro_recall"] > 0
        history = tracking.client().get_metric_history(run.info.run_id, "val_loss")
        version = registry.aliased(tracking, registry.CHALLENGER)
        assert version is not None
        made.append((version.tags["digest"], [(point.step, point.value) for point in history]))
        assert [file.parent.name for file in (folder / "lake").rglob("*.npz")] == ["lessons"]
    assert made[0] == made[1], "as if it had not been killed"


@pytest.mark.slow
def test_two_workers_make_one_version_and_a_worker_with_other_flags_none(
    prepare: Prepare, tmp_path: Path
) -> None:
    tracking, environment = prepare(tmp_path, tweets())
    tokenizer = tiny_tokenizer(tmp_path / "bert", encoder=True)
    flags: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2}]
    for both, code, made in ((flags, 1, []), (flags[:1] * 2, 0, ["1"]), (flags[:1] * 2, 0, ["1"])):
        logs = [tmp_path / "chief.log", tmp_path / "helper.log"]
        first, second = places(2)
        common: dict[str, Any] = {"strategy": "workers", "epochs": 2, "teacher": "on", "tokenizer": tokenizer}
        with (
            started(tmp_path, environment | {"TF_CONFIG": first}, logs[0], **common, **both[0]) as chief,
            started(tmp_path, environment | {"TF_CONFIG": second}, logs[1], **common, **both[1]) as helper,
        ):
            codes = (chief.wait(300), helper.wait(300))
        said = [log.read_text() for log in logs]
        assert codes == (code, code), said
        assert versions(tracking) == made
        if code:
            assert "would not fit what the chief fits" in said[1]
            assert "Another worker is gone" in said[0]
    assert [run.info.status for run in runs(tracking)].count("FINISHED") == 1


@pytest.mark.slow
def test_two_workers_that_are_killed_go_on_together(prepare: Prepare, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"strategy": "workers", "epochs": 4, "batch-size": 4}
    flags["tokenizer"] = tiny_tokenizer(tmp_path / "words")
    made = []
    for name, kills in (("whole", (False,)), ("killed", (True, False))):
        folder = tmp_path / name
        tracking, environment = prepare(folder, tweets(train=600))
        logs = [folder / "chief.log", folder / "helper.log"]
        for kill in kills:
            first, second = places(2)
            with (
                started(folder, environment | {"TF_CONFIG": first}, logs[0], **flags) as chief,
                started(folder, environment | {"TF_CONFIG": second}, logs[1], **flags) as helper,
            ):
                if kill:
                    deadline = time.monotonic() + 180
                    while "Epoch 1 of 4:" not in logs[0].read_text():
                        assert chief.poll() is helper.poll() is None, [log.read_text() for log in logs]
                        assert time.monotonic() < deadline
                        time.sleep(0.1)
                    chief.kill()
                else:
                    codes = chief.wait(300), helper.wait(300)
                    assert codes == (0, 0), [log.read_text() for log in logs]
            assert versions(tracking) == ([] if kill else ["1"])
        goes_on = re.search("cut short after epoch [123]: it goes on", logs[0].read_text())
        assert bool(goes_on) == (name == "killed")
        (run,) = runs(tracking)
        assert run.info.status == "FINISHED"
        history = tracking.client().get_metric_history(run.info.run_id, "val_loss")
        version = registry.aliased(tracking, registry.CHALLENGER)
        assert version is not None and version.tags["device"] == "CPU, 2 devices of 2 workers"
        made.append((version.tags["digest"], [(point.step, point.value) for point in history]))
    assert made[0] == made[1], "as if they had not been killed"


@pytest.mark.slow
def test_two_devices_of_a_host_make_one_version(prepare: Prepare, tmp_path: Path) -> None:
    tracking, environment = prepare(tmp_path, tweets())
    # Python runs this before all else: without it, TensorFlow takes a CPU for one device.
    (tmp_path / "sitecustomize.py").write_text(
        "import tensorflow as tf\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0], two)\n"
    )
    environment |= {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    flags: dict[str, Any] = {"strategy": "mirrored", "learning-rate": 0.01}
    with started(tmp_path, environment, tmp_path / "log", **flags) as process:
        assert process.wait(300) == 0, (tmp_path / "log").read_text()
    assert versions(tracking) == ["1"]
    version = registry.aliased(tracking, registry.CHALLENGER)
    assert version is not None and version.tags["device"] == "CPU, 2 devices on this host"
    metrics = tracking.client().get_run(version.run_id).data.metrics
    assert metrics["validation_textblob_macro_recall"] > 0.95, "one device comes to 1"
    assert answer_elsewhere(tracking, tmp_path) == ["negative", "neutral", "positive"]
