"""Devices and processes that fit together make the network that one would make, or say why they cannot."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flows.pipeline import PipelineParameters
from tasks import strategy
from tasks.device import TrainingError
from tasks.search import SearchParameters
from tasks.strategy import Crew, is_helper, read_place

ROOT = Path(__file__).resolve().parents[2]
# Rows of different lengths and odd numbers: few batches can be cut evenly. Dropout would differ from one
# device to two, so the network has none.
SCRIPT = """
import sys
import numpy as np
from tasks.device import prepare_device
from tasks.strategy import gather
from tasks.tokens import Tokens
from tasks.training import Examples, Recipe, build_shared, fit_network

name, out = sys.argv[1:]
prepare_device(False)
if name == "mirrored":
    import tensorflow as tf
    gpus, memory = tf.config.list_physical_devices("GPU")[:1], {}
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, False)
        memory = {"memory_limit": 1024}
    device = [*gpus, *tf.config.list_physical_devices("CPU")][0]
    two = [tf.config.LogicalDeviceConfiguration(**memory)] * 2
    tf.config.set_logical_device_configuration(device, two)
crew = gather(name)
import keras

def examples(rows, seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 20, rows).astype(np.int32)
    labels = random.integers(0, 3, rows).astype(np.int8)
    ids = random.integers(4, 30, lengths.sum()).astype(np.int32)
    ids[np.cumsum(lengths) - 1] = labels + 1
    return Examples(Tokens(ids, lengths), labels)

def build():
    ids = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(30, 8, mask_zero=True)(ids)
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(8))(hidden)
    large = keras.initializers.RandomNormal(stddev=8, seed=1)  # so that gradients are clipped
    return keras.Model(ids, keras.layers.Dense(3, kernel_initializer=large)(hidden))

model = build_shared(build, 1, "float32", crew)
steps = []
state, stopped = fit_network(
    model, Recipe(3, 16, 0.01, 1), examples(101, 1), examples(31, 2), on_step=steps.append, crew=crew
)
np.savez(out, *model.get_weights())
names = "loss", "accuracy", "val_loss", "val_accuracy"
losses = [[epoch[name] for name in names] for epoch in state.history]
print(crew, len(steps), stopped, losses, sep="|")
"""


def places(count: int) -> list[str]:
    """Return TF_CONFIG of each of some workers on free ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        listener.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def fitted(folder: Path, places: list[tuple[str, str]]) -> list[tuple[list[np.ndarray], list[str]]]:
    """Return weights and what was printed of processes that fit side by side, by strategy and TF_CONFIG."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, name, str(folder / f"{number}.npz")],
            env=os.environ | {"TF_CONFIG": setting, "CUDA_VISIBLE_DEVICES": ""},
            **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        )
        for number, (name, setting) in enumerate(places)
    ]
    try:
        told = [process.communicate(timeout=180) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), told
    files = [np.load(folder / f"{number}.npz") for number in range(len(running))]
    return [
        ([file[key] for key in file.files], out.splitlines()[-1].split("|"))
        for file, (out, _) in zip(files, told, strict=True)
    ]


@pytest.mark.slow
def test_workers_and_mirrored_devices_make_the_weights_of_one_device(tmp_path: Path) -> None:
    made = [("one", "{}"), ("mirrored", "{}"), *(("workers", place) for place in places(2))]
    (alone, told), (mirrored, told_mirrored), (chiefs, told_chief), (helpers, told_helper) = fitted(
        tmp_path, made
    )
    assert [told[0], told_mirrored[0], told_chief[0]] == [
        "None",
        "2 devices on this host",
        "2 devices of 2 workers",
    ]
    assert told_chief == told_helper
    for one, other in zip(chiefs, helpers, strict=True):
        np.testing.assert_array_equal(one, other)
    for weights, (_, steps, stopped, losses) in ((mirrored, told_mirrored), (chiefs, told_chief)):
        assert (steps, stopped) == (told[1], told[2])
        np.testing.assert_allclose(json.loads(losses), json.loads(told[3]), atol=1e-4)
        for one, other in zip(alone, weights, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "needs the environment variable TF_CONFIG"),
        ("{", "TF_CONFIG: Invalid JSON"),
        ("{}", "cluster: Field required; task: Field required"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "cluster.ps: Extra inputs"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "no worker 1"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "'a' is not HOST:PORT"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "same address"),
    ],
)
def test_a_variable_that_is_missing_or_broken_is_told(
    monkeypatch: pytest.MonkeyPatch, content: str, said: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", content)
    with pytest.raises(TrainingError, match=said) as raised:
        is_helper("workers")
    assert '"index": 0' in str(raised.value)
    assert not is_helper("auto"), "others do not read it"


def test_the_chief_is_the_first_worker_unless_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: dict[str, Any] = {"worker": ["a:1", "b:1"]}

    def number(kind: str, index: int) -> int:
        monkeypatch.setenv(
            "TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
        )
        return read_place().number

    assert [number("worker", 0), number("worker", 1)] == [0, 1]
    cluster["chief"] = ["c:1"]
    assert [number("chief", 0), number("worker", 0), number("worker", 1)] == [0, 1, 2]


def test_a_worker_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "PATIENCE", 0.5)
    settings = places(2)
    absent = json.loads(settings[0])["cluster"]["worker"][1]
    monkeypatch.setenv("TF_CONFIG", settings[0])
    with pytest.raises(TrainingError, match=f"No sign of the worker at {absent}"):
        strategy.gather.__wrapped__("workers")


def test_a_worker_is_said_to_be_gone_only_where_there_are_others() -> None:
    import tensorflow as tf

    lost = tf.errors.AbortedError(None, None, "The connection was lost")
    alone, together = (Crew(tf.distribute.get_strategy(), workers=count) for count in (1, 2))
    with pytest.raises(tf.errors.AbortedError), alone.scope():
        raise lost
    with (
        pytest.raises(TrainingError, match="Another worker is gone.*The connection was lost"),
        together.scope(),
    ):
        raise lost


def test_flows_that_do_more_than_train_refuse_workers() -> None:
    for parameters in (PipelineParameters, SearchParameters):
        assert parameters(strategy="one").strategy == "one"
        with pytest.raises(ValidationError, match="one device|workers only train"):
            parameters(strategy="workers")
