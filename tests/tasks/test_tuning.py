"""What a search tries, cuts short and remembers."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from tasks import figures, report, tuning
from tasks.search import SearchResult
from tasks.training import TrainParameters
from tasks.tuning import STARTUP, Choice, Judge, Trial

RECIPE = TrainParameters()


def recall(choice: Choice) -> float:
    """Return a macro recall that is highest at a learning rate of 0.006."""
    return 0.8 - 0.2 * abs(math.log10(choice.learning_rate / 0.006))


def ended(number: int, choice: Choice, loss: Callable[[float], float] = lambda part: 1 - part) -> Trial:
    epochs = tuple({"val_loss": loss((done + 1) / choice.epochs)} for done in range(choice.epochs))
    return Trial(number=number, choice=choice, state="complete", macro_recall=recall(choice), epochs=epochs)


def searched(count: int, seed: int = 1, past: tuple[Trial, ...] = ()) -> tuple[Trial, ...]:
    recipe = RECIPE.model_copy(update={"seed": seed})
    for number in range(len(past), count):
        past = (*past, ended(number, tuning.propose(recipe, number, past)))
    return past


def test_it_starts_from_the_recipe_and_stays_near_it() -> None:
    trials = searched(30)
    first = trials[0].choice
    assert (first.learning_rate, first.batch_size, first.epochs) == (2e-3, 64, 8)
    for trial in trials:
        assert 2e-4 <= trial.choice.learning_rate <= 2e-2
        assert trial.choice.batch_size in (16, 32, 64, 128, 256)
        assert 4 <= trial.choice.epochs <= 16
    for recipe in (
        TrainParameters(batch_size=1, epochs=1, learning_rate=0.001234567),
        TrainParameters(epochs=1, learning_rate=9.99999e-5),
    ):
        assert tuning.propose(recipe, 7, [ended(0, tuning.propose(recipe, 0, []))]).epochs in (1, 2)


def test_it_learns_from_what_it_tried() -> None:
    trials = searched(30)
    assert np.mean([recall(trial.choice) for trial in trials[15:]]) > 0.7, "of random ones it is 0.64"
    best = tuning.best(trials)
    assert best is not None and abs(math.log10(best.choice.learning_rate / 0.006)) < 0.2


def test_cut_short_anywhere_it_goes_on_as_if_it_had_not_been() -> None:
    whole = searched(12)
    stored = tuple(Trial.model_validate_json(trial.model_dump_json()) for trial in whole)
    for cut in (1, 4, 8):
        assert searched(12, past=stored[:cut]) == whole
    assert len({trial.choice for trial in whole}) == 12, "none is tried twice"
    assert searched(3, seed=2)[1:] != whole[1:3]


def test_what_runs_is_kept_away_from() -> None:
    trials = searched(12)
    alone = tuning.propose(RECIPE, 12, trials)
    assert tuning.propose(RECIPE, 12, trials, [alone]) != alone


def test_quarters_of_the_epochs_are_compared() -> None:
    history = [{"val_loss": loss} for loss in (5.0, 4.0, 3.0, 2.0)]
    assert tuning.intermediate(history, 4) == {1: -5, 2: -4, 3: -3, 4: -2}
    assert tuning.intermediate(history, 8) == {1: -4, 2: -2}
    assert tuning.intermediate(history[:2], 2) == {1: -5, 2: -5, 3: -4, 4: -4}
    assert tuning.intermediate(history[:1], 10) == {}


@pytest.mark.parametrize("epochs", [4, 8])
def test_the_worse_half_is_cut_short_wherever_its_epochs_end(epochs: int) -> None:
    past = searched(STARTUP)
    choice = Choice(learning_rate=1e-3, batch_size=64, epochs=epochs)

    def cut(loss: Callable[[float], float], known: tuple[Trial, ...] = past) -> int | None:
        judge, history = Judge(RECIPE, choice, known), ended(9, choice, loss).epochs
        return next((n for n in range(1, epochs + 1) if judge.prunes(history[:n])), None)

    assert cut(lambda part: 2 - part) == epochs // 4
    assert cut(lambda part: 0.5 - part) is None
    assert cut(lambda part: 0.1 if part < 0.6 else 2) is None, "its best counts"
    assert cut(lambda part: 2 - part, past[:-1]) is None, "too little to compare it with"


def test_the_best_is_complete_and_the_first_of_equal_ones() -> None:
    choice = Choice(learning_rate=1e-3, batch_size=64, epochs=5)
    failed = Trial(number=0, choice=choice, state="failed", reason="the loss was not a number in epoch 1")
    trials = [failed, *(ended(number, choice) for number in (2, 1))]
    best = tuning.best(trials)
    assert best is not None and best.number == 1
    assert tuning.best([failed]) is None


def test_the_command_has_what_differs_from_the_defaults() -> None:
    assert tuning.command(RECIPE) == "python -m flows.train"
    other = TrainParameters(
        labels="human", tokenizer="a b", learning_rate=0.003, int8=False, require_gpu=True
    )
    assert tuning.command(other) == (
        "python -m flows.train --labels human --tokenizer 'a b' --learning-rate 0.003 --require-gpu --no-int8"
    )


@pytest.mark.parametrize("count", [1, 8])
def test_report_and_figures(count: int) -> None:
    trials = searched(count)
    best = tuning.best(trials)
    assert best is not None
    lost = Trial(
        number=count, choice=best.choice, state="failed", reason="the loss was not a number in epoch 1"
    )
    result = SearchResult(best=best, recipe=RECIPE, command="c", trials=(*trials, lost), run_id="r")
    lines = [line for line in report.search(result).splitlines() if line.startswith("|")][2:]
    assert len(lines) == count + 1
    assert lines[0].startswith(f"| {best.number} | {best.macro_recall:.3f} |")
    assert "failed: the loss was not a number" in lines[-1]
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawn = figures.search(tuning.study(RECIPE, result.trials))
    assert drawn.keys() == {"history", "importances", "parallel_coordinates", "slices"}
    assert dict(matplotlib.rcParams) == before, "Optuna's style is not everybody's"
