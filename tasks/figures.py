"""Figures: what people would rather look at than read."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.evaluation import Scores
from tasks.labelling import LABELS
from tasks.training import Epoch, best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

    from tasks.shares import Fit, Level


def learning_curve(history: list[Epoch]) -> "Figure":
    """Draw loss and accuracy over the epochs, of the rows learned from and held back, and which was kept."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    epochs = range(1, len(history) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [epoch[name] for epoch in history], marker="o", label="training")
        axes.plot(
            epochs, [epoch[f"val_{name}"] for epoch in history], marker="s", ls="--", label="validation"
        )
        axes.axvline(best_epoch(history) + 1, color="0.8", zorder=0, label="kept")
        axes.set(xlabel="epoch", ylabel=name, xticks=list(epochs))
        axes.legend()
    return figure


def confusion_matrix(scores: Scores, title: str) -> "Figure":
    """Draw how rows of each label were predicted: counts, shaded by their share of the label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in scores.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(scores.confusion):
        for column, count in enumerate(counts):
            shade = "white" if shares[row][column] > 0.5 else "black"
            text = f"{count}\n{shares[row][column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=shade)
    ticks = range(len(LABELS))
    axes.set(xticks=ticks, yticks=ticks, xticklabels=LABELS, yticklabels=LABELS, title=title)
    axes.set(xlabel="predicted", ylabel=f"{scores.labels} label")
    return figure


def curve(levels: "Sequence[Level]", fits: "Sequence[Fit]") -> "Figure":
    """Draw macro recall and loss over the rows: means, a band of a standard deviation, and each fit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    complete = [fit for fit in fits if fit.state == "complete"]
    for axes, name in zip(figure.subplots(1, 2), ("macro_recall", "loss"), strict=True):
        spreads = [(level.rows, getattr(level, name)) for level in levels]
        means = [spread.mean for _, spread in spreads]
        axes.plot([rows for rows, _ in spreads], means, marker="o", label="mean over the seeds")
        known = [(rows, spread) for rows, spread in spreads if spread.deviation is not None]
        if known:
            low, high = ([s.mean + sign * s.deviation for _, s in known] for sign in (-1, 1))
            axes.fill_between(
                [rows for rows, _ in known], low, high, alpha=0.25, label="± standard deviation"
            )
        rows, values = [fit.rows for fit in complete], [getattr(fit, name) for fit in complete]
        axes.plot(rows, values, ls="", marker=".", color="gray", label="a fit each")
        axes.set(xscale="log", xlabel="rows to train on", ylabel=f"{name.replace('_', ' ')}, validation")
        axes.set_xticks(sorted(set(rows)), [f"{n:,}" for n in sorted(set(rows))], rotation=45)
        axes.set_xticks([], minor=True)
        axes.legend()
    return figure


def search(study: "Study") -> "dict[str, Figure]":
    """Draw, by name, how the trials of a study went and what the parameters did; one is complete at least."""
    import warnings

    import numpy as np
    from matplotlib import pyplot  # Optuna's figures are drawn by it
    from optuna.visualization import matplotlib as drawn

    plots: dict[str, Callable[..., Any]] = {
        "history": drawn.plot_optimization_history,
        "importances": drawn.plot_param_importances,
        "parallel_coordinates": drawn.plot_parallel_coordinate,
        "slices": drawn.plot_slice,
    }
    with pyplot.rc_context({"backend": "agg"}), warnings.catch_warnings():  # its style is not everybody's
        warnings.simplefilter("ignore")  # they are called experimental, and sparse with few trials
        figures = {
            name: np.ravel(plot(study, target_name="macro recall"))[0].figure for name, plot in plots.items()
        }
    for figure in figures.values():
        pyplot.close(figure)  # forgotten by pyplot, still there to be saved
    return figures
