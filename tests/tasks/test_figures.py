"""Figures show the numbers they are given."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tasks.evaluation import evaluate
from tasks.figures import confusion_matrix, learning_curve

TARGETS = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int8)


def drawn(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    image: np.ndarray = imread(buffer)
    return image


@pytest.mark.parametrize("epochs", [1, 3])
def test_learning_curve_has_all_epochs_of_both_sets(epochs: int) -> None:
    history = [
        {"loss": 1 / n, "val_loss": 2 / n, "accuracy": n / 9, "val_accuracy": n / 10}
        for n in range(1, epochs + 1)
    ]
    figure = learning_curve(history)
    loss, accuracy = figure.axes
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        training, validation, kept = axes.lines
        assert list(training.get_xdata()) == list(range(1, epochs + 1))
        assert list(training.get_ydata()) == [epoch[name] for epoch in history]
        assert list(validation.get_ydata()) == [epoch[f"val_{name}"] for epoch in history]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "training",
            "validation",
            "kept",
        ]
        assert list(kept.get_xdata()) == [epochs, epochs], "the last one has the lowest loss"
    assert drawn(figure).std() > 0


def test_confusion_matrix_has_labels_in_rows_and_predictions_in_columns() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 2, 1, 0, 0, 0]]
    figure = confusion_matrix(evaluate("human", TARGETS, probabilities), "validation")
    [axes] = figure.axes
    shown = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert shown[0, 0] == "2\n50%"
    assert (shown[0, 1], shown[0, 2], shown[1, 0]) == ("1\n25%", "1\n25%", "1\n50%")
    assert (shown[2, 0], shown[0, 2], shown[2, 2]) == ("2\n100%", "1\n25%", "0\n0%")
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "predicted",
        "human label",
        "validation",
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["neutral", "negative", "positive"]
    assert drawn(figure).std() > 0


def test_a_label_without_rows_is_drawn_as_none() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    figure = confusion_matrix(evaluate("textblob", TARGETS[:4], probabilities), "few")
    assert [text.get_text() for text in figure.axes[0].texts][3:] == ["0\n0%"] * 6
