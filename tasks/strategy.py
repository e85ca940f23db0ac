"""Strategy: which devices, on one host or on many, share a fit, and how they keep in step."""

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.device import TrainingError, first_line

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

StrategyName = Literal["auto", "one", "mirrored", "workers"]

VARIABLE = "TF_CONFIG"
PATIENCE = 600.0
"""Seconds that workers wait for each other at the start."""
SHAPE = (
    '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}, with '
    "an index of its own for each worker"
)


class _Cluster(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    chief: tuple[str, ...] = Field(default=(), max_length=1)
    worker: tuple[str, ...] = ()


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class Place(BaseModel):
    """A process's place among the workers, as TF_CONFIG tells it."""

    model_config = ConfigDict(frozen=True)

    cluster: _Cluster
    task: _Task

    @model_validator(mode="after")
    def _exists(self) -> "Place":
        if self.task.index >= len(getattr(self.cluster, self.task.type)):
            raise ValueError(f"the cluster has no {self.task.type} {self.task.index}")
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{address!r} is not HOST:PORT")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("two workers have the same address")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """All workers, the chief first."""
        return self.cluster.chief + self.cluster.worker

    @property
    def number(self) -> int:
        """This process's place in `addresses`; the chief's is 0."""
        return self.task.index + (len(self.cluster.chief) if self.task.type == "worker" else 0)


def read_place() -> Place:
    """Return what TF_CONFIG says, as TensorFlow defines it.

    Raises:
        TrainingError: It is missing or wrong.
    """
    content = os.environ.get(VARIABLE, "")
    if not content:
        raise TrainingError(
            f"--strategy workers needs the environment variable {VARIABLE} in each worker's process: {SHAPE}."
        )
    try:
        return Place.model_validate_json(content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or VARIABLE}: {problem['msg']}"
            for problem in error.errors()
        )
        raise TrainingError(
            f"The environment variable {VARIABLE} is not what TensorFlow takes ({wrong}): it must be {SHAPE}."
        ) from error


def is_helper(name: StrategyName) -> bool:
    """Tell whether this process only helps a chief to fit.

    Raises:
        TrainingError: See `read_place`.
    """
    return name == "workers" and read_place().number > 0


@contextmanager
def connected() -> Iterator[None]:
    """Explain what TensorFlow raises when another worker ends or cannot be reached any more.

    Raises:
        TrainingError: Says so, and what to do.
    """
    import tensorflow as tf

    errors = tf.errors
    try:
        yield
    except (
        errors.UnavailableError,
        errors.AbortedError,
        errors.CancelledError,
        errors.DeadlineExceededError,
    ) as error:
        raise TrainingError(
            "Another worker is gone, and the fit cannot go on without it: see what that one says, then start "
            f"all workers again. The fit goes on after its last whole epoch. {first_line(error)}"
        ) from None  # not to be tried again by this worker alone


@dataclass(frozen=True)
class Crew:
    """Devices that fit a network together: each has a copy of it and a part of every batch.

    Args:
        distribution: TensorFlow's strategy.
        worker: Number of this process; 0 leads.
        workers: Number of processes.
    """

    distribution: "tf.distribute.Strategy"
    worker: int = 0
    workers: int = 1

    def __str__(self) -> str:
        where = "on this host" if self.workers == 1 else f"of {self.workers} workers"
        return f"{self.replicas} {'device' if self.replicas == 1 else 'devices'} {where}"

    @property
    def replicas(self) -> int:
        """Number of devices, over all processes."""
        return int(self.distribution.num_replicas_in_sync)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make each variable on all devices, with the chief's value.

        Raises:
            TrainingError: Another worker is gone.
        """
        with self.connected(), self.distribution.scope():
            yield

    def connected(self) -> AbstractContextManager[None]:
        """See the function; on one host, there is no other worker that may be gone."""
        return connected() if self.workers > 1 else nullcontext()

    def share(self, value: Any = None) -> Any:
        """Return the chief's value in all processes, which must all call this; the helpers' own is dropped.

        Raises:
            TrainingError: Another worker is gone.
        """
        if self.workers == 1:
            return value
        content = pickle.dumps(value) if self.worker == 0 else b""
        length = int(self._chiefs(np.array([len(content)], np.int64))[0])
        padded = np.zeros(-(-length // 4) * 4, np.uint8)  # TensorFlow adds up no bytes, but numbers of four
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        return pickle.loads(self._chiefs(padded.view(np.int32)).tobytes()[:length])

    def _chiefs(self, values: NDArray[Any]) -> NDArray[Any]:
        import tensorflow as tf

        @tf.function  # type: ignore[untyped-decorator]
        def total(mine: "tf.Tensor") -> "tf.Tensor":
            def chiefs() -> "tf.Tensor":
                first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
                return tf.where(first, mine, tf.zeros_like(mine))

            return self.distribution.reduce("SUM", self.distribution.run(chiefs), axis=None)

        with connected():
            return np.asarray(total(tf.constant(values)))

    @property
    def _devices(self) -> int:
        """Number of devices of this process."""
        return self.replicas // self.workers

    def parts(self, batches: "tf.data.Dataset") -> "tf.distribute.DistributedDataset":
        """Return batches (ids, targets) as (ids, targets, weights) that differ from device to device.

        All processes must have the same batches. Each device gets the same number of rows of every batch; to
        that end rows come twice, with a weight of 0. All weights of a batch add up to 1.
        """
        import tensorflow as tf

        first, last = self.worker * self._devices, (self.worker + 1) * self._devices

        def split(*columns: "tf.Tensor") -> "tuple[tf.Tensor, ...]":
            rows = tf.shape(columns[0])[0]
            each = (rows + self.replicas - 1) // self.replicas
            index = tf.range(each * self.replicas)
            weights = tf.where(index < rows, 1 / tf.cast(rows, tf.float32), 0.0)
            chosen = (*(tf.gather(column, index % rows) for column in columns), weights)
            return tuple(
                tf.reshape(column, tf.concat([[self.replicas, each], tf.shape(column)[1:]], 0))[first:last]
                for column in chosen
            )

        mine = batches.map(split).unbatch().prefetch(tf.data.AUTOTUNE)
        return self.distribution.distribute_datasets_from_function(lambda context: mine)


Step = Callable[[Any], tuple[float, float, int]]
"""Takes an iterator over parts of batches; returns a batch's loss, accuracy and number of rows."""


def run_epoch(
    crew: Crew, step: Step, batches: "tf.data.Dataset", on_step: Callable[[float], bool]
) -> list[float]:
    """Go once through the batches together and return loss and accuracy over all their rows.

    Args:
        crew: The devices.
        step: See `steps`.
        batches: See `tasks.dataset.batches`, of a known number; the same ones in all processes.
        on_step: Called after each batch with the loss of it; True ends the epoch, in all processes alike.

    Raises:
        TrainingError: Another worker is gone.
    """
    total, rows = np.zeros(2), 0
    with crew.connected():
        parts = iter(crew.parts(batches))
        for _ in range(int(batches.cardinality())):
            *found, count = step(parts)
            total, rows = total + count * np.array(found), rows + count
            if on_step(found[0]):
                break
    return [float(value) for value in total / rows]


def steps(crew: Crew, model: "keras.Model", log_prior: NDArray[np.float32]) -> tuple[Step, Step]:
    """Return a step that trains a compiled network on a batch, and one that only judges it.

    Keras' own loop (3.15) does not run on many workers, and clips gradients before they are summed up: here
    they are first summed over all devices, so that the weights become those of one device.

    Args:
        crew: The devices.
        model: Built and compiled in the scope of the crew's distribution.
        log_prior: See `tasks.training.fit_network`.
    """
    import keras
    import tensorflow as tf

    optimizer = model.optimizer
    # Not again by the optimizer, then.
    getattr(optimizer, "inner_optimizer", optimizer)._all_reduce_sum_gradients = lambda pairs: pairs

    def judge(
        ids: "tf.Tensor", targets: "tf.Tensor", weights: "tf.Tensor", training: bool = False
    ) -> "list[tf.Tensor]":
        logits = model(ids, training=training)
        losses = keras.losses.categorical_crossentropy(targets, logits + log_prior, from_logits=True)
        right = tf.cast(tf.argmax(targets, 1) == tf.argmax(logits, 1), tf.float32)
        rows = tf.cast(tf.math.count_nonzero(weights), tf.float32)
        return [tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights), rows]

    def learn(ids: "tf.Tensor", targets: "tf.Tensor", weights: "tf.Tensor") -> "list[tf.Tensor]":
        with tf.GradientTape() as tape:
            found = judge(ids, targets, weights, training=True)
            loss = optimizer.scale_loss(found[0])
        gradients = tape.gradient(loss, model.trainable_variables)
        context = tf.distribute.get_replica_context()
        optimizer.apply(context.all_reduce("SUM", gradients), model.trainable_variables)
        return found

    def together(function: Callable[..., "list[tf.Tensor]"]) -> Step:
        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def run(parts: Any) -> Any:
            each = crew.distribution.run(function, args=next(parts))
            return [crew.distribution.reduce("SUM", value, axis=None) for value in each]

        def step(parts: Any) -> tuple[float, float, int]:
            loss, accuracy, rows = run(parts)
            return float(loss), float(accuracy), int(rows)

        return step

    return together(learn), together(judge)


@cache
def gather(name: StrategyName) -> Crew | None:
    """Return the devices that share a fit; None where there is no need to share: one device, one process.

    Of several processes, all must call this before TensorFlow has done anything in them.

    Raises:
        TrainingError: TF_CONFIG is missing or wrong, or a worker does not come.
    """
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU") if name in ("auto", "mirrored") else []
    if name == "workers":
        place = read_place()
        _meet(place)
        with connected():
            distribution = tf.distribute.MultiWorkerMirroredStrategy()
        return Crew(distribution, place.number, len(place.addresses))
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return Crew(tf.distribute.MirroredStrategy([device.name for device in devices]))
    return None


def _meet(place: Place) -> None:
    """Wait until all workers are there: TensorFlow would wait for an hour, deaf to all signals.

    Each listens on its address until all others have called, and calls them; then TensorFlow takes over.
    """
    others = {number: address for number, address in enumerate(place.addresses) if number != place.number}
    host, _, port = place.addresses[place.number].rpartition(":")
    try:
        listener = socket.create_server(("", int(port)), backlog=len(others) + 1)
    except OSError as error:
        raise TrainingError(
            f"This worker cannot listen on port {port} of {host}, its address in {VARIABLE}: {error}. Free "
            "the port, or name another in all workers' variables."
        ) from error
    unheard, uncalled = set(others), set(others)
    deadline = time.monotonic() + PATIENCE
    with listener:
        listener.settimeout(0.2)
        while unheard or uncalled:
            if time.monotonic() > deadline:
                missing = ", ".join(others[number] for number in sorted(unheard | uncalled))
                raise TrainingError(
                    f"No sign of the worker at {missing} in {PATIENCE:.0f} seconds: start all workers that "
                    f"{VARIABLE} names, with addresses that they can reach each other at."
                )
            for number in sorted(uncalled):
                if _call(others[number], place.number):
                    uncalled.remove(number)
            try:
                with listener.accept()[0] as caller:
                    caller.settimeout(1)
                    unheard.discard(int.from_bytes(caller.recv(4)) - 1)
            except OSError:  # nobody calls just now, or somebody else
                continue


def _call(address: str, number: int) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1) as line:
            line.sendall((number + 1).to_bytes(4))
        return True
    except OSError:
        return False
