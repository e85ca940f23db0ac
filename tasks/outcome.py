"""Outcomes: a network fitted to be judged, not to be kept, and how it went."""

from collections.abc import Callable, Sequence
from time import monotonic, process_time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import tasks.training as training
from tasks import material
from tasks.device import TrainingError
from tasks.evaluation import macro_recall
from tasks.rows import Labelled
from tasks.trained import Lesson
from tasks.training import Epoch, NotANumberError, State, TrainParameters, best_epoch


class Outcome(BaseModel):
    """How a fit ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["complete", "pruned", "failed"] = Field(description="How it ended.")
    reason: str = Field(default="", description="Why it was not completed.")
    macro_recall: float | None = Field(
        default=None, description="On the validation rows, by the labels that are learned; null if cut short."
    )
    epochs: tuple[Epoch, ...] = Field(default=(), description="Metrics of each epoch.")
    seconds: float = Field(default=0, description="Time of the fit.")
    cpu_seconds: float = Field(default=0, description="Time of processors that the fit took.")

    @property
    def loss(self) -> float | None:
        """The loss on the validation rows after the epoch whose weights were judged; None if none were."""
        return None if self.macro_recall is None else self.epochs[best_epoch(self.epochs)]["val_loss"]

    def metrics(self) -> dict[str, float]:
        """Return the numbers that there are of the fit as a whole, by name."""
        found = {"macro_recall": self.macro_recall, "best_val_loss": self.loss}
        known = {name: value for name, value in found.items() if value is not None}
        return known | {"cpu_seconds": self.cpu_seconds}


class _Pruned(Exception):  # noqa: N818 - it says what is done, and nothing is wrong
    pass


def learn(
    recipe: TrainParameters,
    chosen: Labelled,
    prunes: Callable[[Sequence[Epoch]], bool] = lambda _: False,
    lesson: Lesson | None = None,
) -> Outcome:
    """Fit a network and return how it went.

    Args:
        recipe: How.
        chosen: See `tasks.rows.labelled_rows`.
        prunes: Tells after each epoch, from the history, whether to cut the fit short.
        lesson: What a teacher says of the rows.
    """
    import keras

    history: tuple[Epoch, ...] = ()
    began, began_cpu = monotonic(), process_time()

    def on_epoch(state: State) -> None:
        nonlocal history
        history = state.history
        if prunes(history):
            raise _Pruned

    def ended(**how: Any) -> Outcome:
        took, worked = round(monotonic() - began, 1), round(process_time() - began_cpu, 1)
        return Outcome(epochs=history, seconds=took, cpu_seconds=worked, **how)

    keras.utils.clear_session()  # the process may have fitted others before
    numbers = material.complete(recipe, material.prepare(recipe, chosen), lesson)
    try:
        model, _, stopped = training.fit(recipe, *numbers[1:], on_epoch=on_epoch)
    except _Pruned:
        reason = f"after epoch {len(history)} its validation loss was above the median of the trials before"
        return ended(state="pruned", reason=reason)
    except NotANumberError:
        return ended(state="failed", reason="the loss was not a number in epoch 1")
    except TrainingError as error:  # the device is too small
        return ended(state="failed", reason=str(error))
    if stopped == "not a number":
        return ended(state="failed", reason=f"the loss was not a number in epoch {len(history) + 1}")
    answers = training.logits(model, numbers.validation.tokens)
    return ended(state="complete", macro_recall=macro_recall(numbers.validation.targets, answers))
