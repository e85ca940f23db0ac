"""The smoke test: what every endpoint must get right before it may serve."""

from math import isclose
from typing import Any

from blocks.endpoint import Predict

PRAISE, BLAME = "I love this, it is great", "I hate this, it is terrible"
TEXTS = (PRAISE, BLAME, "\N{SMILING FACE WITH HEART-SHAPED EYES}", "")
COLUMNS = {"label", "p_negative", "p_neutral", "p_positive"}


class SmokeTestError(RuntimeError):
    """Raised when an endpoint answers wrongly; names the text, the answer and the remedy."""


def smoke_test(predict: Predict) -> None:
    """Check that an endpoint keeps its contract and tells plain praise from plain blame.

    The sentences are so plain that a model trained on a few thousand weakly labelled tweets gets them right.

    Args:
        predict: Asks the endpoint.

    Raises:
        SmokeTestError: An answer is wrong.
    """
    predictions = predict(TEXTS)
    if len(predictions) != len(TEXTS):
        raise SmokeTestError(
            f"{len(TEXTS)} texts got {len(predictions)} predictions: this is not the project's server. "
            f"{_REMEDY}"
        )
    for text, prediction in zip(TEXTS, predictions, strict=True):
        _check_contract(text, prediction)
    praise, blame = predictions[:2]
    for text, prediction, label in ((PRAISE, praise, "positive"), (BLAME, blame, "negative")):
        if prediction["label"] != label:
            raise SmokeTestError(f"{text!r} must be {label}, but got {prediction}. {_REMEDY}")
    if praise["p_positive"] <= blame["p_positive"]:
        raise SmokeTestError(
            f"{PRAISE!r} must be more positive than {BLAME!r}, but got {praise} and {blame}. {_REMEDY}"
        )


_REMEDY = "Do not serve this version: train another with `python -m flows.train`, or deploy an earlier one."


def _check_contract(text: str, prediction: dict[str, Any]) -> None:
    got = f"{text!r} got {prediction}"
    if prediction.keys() != COLUMNS:
        raise SmokeTestError(f"{got}, which must have the keys {', '.join(sorted(COLUMNS))}. {_REMEDY}")
    probabilities = {name: prediction[name] for name in sorted(COLUMNS - {"label"})}
    if not all(isinstance(p, float) and 0 <= p <= 1 for p in probabilities.values()):
        raise SmokeTestError(f"{got}, in which each p must be a number from 0 to 1. {_REMEDY}")
    if not isclose(sum(probabilities.values()), 1, abs_tol=1e-3):
        raise SmokeTestError(f"{got}, in which the p must add up to 1. {_REMEDY}")
    if probabilities.get(f"p_{prediction['label']}") != max(probabilities.values()):
        raise SmokeTestError(f"{got}, in which the label must be the most probable one. {_REMEDY}")
