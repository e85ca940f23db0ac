"""Tuning: which recipes a search tries, which trials it cuts short, and what it remembers of them.

All that Optuna knows comes from the records of the trials, anew for each question. A trial thus depends on
nothing but the recipe, its number and the trials before it, and a search that was killed goes on as if it
had not been.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.outcome import Outcome
from tasks.training import Epoch, TrainParameters

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

STARTUP = 5
"""Trials drawn at random before the sampler learns from them, and complete ones before any is cut short."""
QUARTERS = 4


class Choice(BaseModel):
    """A point of the space: the fields of a recipe that are tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(description="Peak of the schedule.")
    batch_size: int = Field(description="Rows in a training step.")
    epochs: int = Field(description="Passes over the rows, at most.")


class Trial(Outcome):
    """A trial that has ended."""

    number: int = Field(description="From 0, which is the recipe that the search was given.")
    choice: Choice = Field(description="What was tried.")


def space(recipe: TrainParameters) -> "dict[str, BaseDistribution]":
    """Return what is tuned, by name, and within which bounds: the neighbourhood of the recipe.

    A tenth to ten times its learning rate, a quarter to four times its batch size, half to twice its epochs.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    rate, size, epochs = recipe.learning_rate, recipe.batch_size, recipe.epochs
    sizes = sorted({max(1, size // 4), max(1, size // 2), size, 2 * size, 4 * size})
    return {
        "learning_rate": FloatDistribution(_short(rate / 10), _short(rate * 10), log=True),
        "batch_size": CategoricalDistribution(sizes),
        "epochs": IntDistribution((epochs + 1) // 2, 2 * epochs),
    }


def propose(
    recipe: TrainParameters, number: int, past: Sequence[Trial], running: Sequence[Choice] = ()
) -> Choice:
    """Return what a trial is to try; equal arguments give equal answers.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011), the TPE.

    Args:
        recipe: That the search starts from; it is trial 0.
        number: Of the trial.
        past: Trials that have ended.
        running: What is being tried meanwhile: the sampler keeps away from it.
    """
    if number == 0:
        return Choice.model_validate(recipe.model_dump(include=set(Choice.model_fields)))
    asked = study(recipe, past, running, number).ask(space(recipe))
    return Choice.model_validate(asked.params | {"learning_rate": _short(asked.params["learning_rate"])})


class Judge:
    """Says after each epoch whether a trial is to be cut short.

    It is if its best validation loss is above the median of the complete trials' at the same quarter of their
    epochs. Quarters, since the learning rate falls over the epochs of a trial: a longer one is not worse for
    being behind a shorter one after as many of them.
    """

    def __init__(self, recipe: TrainParameters, choice: Choice, past: Sequence[Trial]) -> None:
        known = study(recipe, past)
        known.enqueue_trial(choice.model_dump())
        self._trial: Asked = known.ask(space(recipe))
        self._epochs, self._told = choice.epochs, 0

    def prunes(self, history: Sequence[Epoch]) -> bool:
        """Tell whether to stop after the last epoch of a history; never after the last of all."""
        for quarter, value in intermediate(history, self._epochs).items():
            if quarter > self._told:
                self._trial.report(value, quarter)
                self._told = quarter
        return bool(0 < self._told < QUARTERS and self._trial.should_prune())


def intermediate(history: Sequence[Epoch], epochs: int) -> dict[int, float]:
    """Return the negative validation loss at each quarter of the epochs that is over, 1 to 4."""
    found: dict[int, float] = {}
    for number, epoch in enumerate(history, start=1):
        for quarter in range(1, QUARTERS * number // epochs + 1):
            found.setdefault(quarter, -epoch["val_loss"])
    return found


def study(
    recipe: TrainParameters, past: Sequence[Trial], running: Sequence[Choice] = (), number: int = 0
) -> "Study":
    """Return a study in memory that knows of these trials; `number` decides what it draws."""
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs each trial that it is told of
    seed = int(np.random.SeedSequence([recipe.seed, number]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    made = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    made.add_trials(_frozen(recipe, trial) for trial in sorted(past, key=lambda trial: trial.number))
    for choice in running:
        params = choice.model_dump()
        made.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=space(recipe)))
    return made


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the highest macro recall, of equal ones the first, if there is one."""
    complete = [trial for trial in trials if trial.macro_recall is not None]
    return max(complete, key=lambda trial: (trial.macro_recall, -trial.number), default=None)


def command(recipe: TrainParameters) -> str:
    """Return the command that trains by a recipe: its fields that are not the defaults, as flags."""
    flags = []
    for name, field in TrainParameters.model_fields.items():
        value, flag = getattr(recipe, name), name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags.append(f"--{flag} {shlex.quote(str(value))}")
    return " ".join(["python -m flows.train", *flags])


def _frozen(recipe: TrainParameters, trial: Trial) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    states: Mapping[str, TrialState] = {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    return create_trial(
        state=states[trial.state],
        value=trial.macro_recall,
        params=trial.choice.model_dump(),
        distributions=space(recipe),
        intermediate_values=intermediate(trial.epochs, trial.choice.epochs),
    )


def _short(value: float) -> float:
    """Return a number with three digits that count, fit to be read and typed; rounding keeps the order."""
    return float(f"{value:.3g}")
