"""Workers: processes on several hosts that fit one network; the chief decides, the others help."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from blocks.role import BlockError
from tasks import teacher, tokens, training
from tasks.device import TrainingError, explained, prepare_device
from tasks.material import Material, complete
from tasks.progress import logger
from tasks.strategy import Crew, gather
from tasks.training import State, TrainParameters

JobName = Literal["teach", "fit", "end"]


class Job(NamedTuple):
    """What a chief asks its helpers to do."""

    name: JobName
    identity: str


def help_chief(crew: Crew, identity: str, parameters: TrainParameters, material: Material) -> None:
    """Take part in what the chief fits until it needs no more help; it alone keeps what comes of it.

    Args:
        crew: The workers.
        identity: Of this worker's own rows, recipe and code.
        parameters: The recipe.
        material: This worker's own.

    Raises:
        TrainingError: The chief fits something else, or it or another worker is gone.
    """
    while (job := crew.share()).name != "end":
        if job.identity != identity:
            raise TrainingError(
                f"Worker {crew.worker} would not fit what the chief fits: start all workers with the same "
                "flags, the same code and packages, and blocks that lead to the same rows."
            )
        if job.name == "teach":
            source = tokens.tokenizer_folder(parameters.tokenizer)
            config = teacher.find_encoder(parameters, source)
            assert config is not None
            course = teacher.plan(source, config, material.train, material.validation, material.tokenizer)
            teacher.teach(course, precision=parameters.precision, crew=crew)
        else:
            training.fit(parameters, *complete(parameters, material, crew=crew)[1:], crew=crew)


def dismiss_helpers(identity: str, parameters: TrainParameters) -> None:
    """Let the other workers end, if there are any."""
    if parameters.strategy == "workers":
        call(devices(parameters)[1], identity, "end")


def devices(parameters: TrainParameters) -> tuple[str, Crew | None]:
    """Return what to fit on, in words, and the crew if it is more than one device.

    Raises:
        TrainingError: There is no GPU although one is required, or it is busy; see `tasks.strategy.gather`.
    """
    found = prepare_device(parameters.require_gpu)
    with explained("a network", "try again later"):
        crew = gather(parameters.strategy)
    if parameters.precision == "mixed" and found == "CPU":
        logger().warning(
            "There is no GPU: --precision mixed means bfloat16 here, with which the network takes longer. "
            "--precision auto has it for the teacher alone, on a CPU that is faster so."
        )
    return (found if crew is None else f"{found}, {crew}"), crew


def call(crew: Crew | None, identity: str, job: JobName) -> None:
    """Tell all helpers what is to be done, if there are any.

    Call this when everything is read: a step that is tried again after an outage must not call twice.
    """
    if crew is not None:
        crew.share(Job(job, identity))


def unrepeated(on_epoch: Callable[[State], None], crew: Crew | None) -> Callable[[State], None]:
    """Return what a chief does after an epoch; if that fails, it must not begin again alone."""
    if crew is None or crew.workers == 1:
        return on_epoch

    def once(state: State) -> None:
        try:
            on_epoch(state)
        except BlockError as error:
            raise TrainingError(
                f"{error} Start all workers again: the fit goes on after its last whole epoch."
            ) from None

    return once
