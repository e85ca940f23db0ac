"""The smoke test lets good models through and stops each kind of bad answer."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from containers.serve.predictor import Predictor
from tasks.endpoint import BLAME, PRAISE, TEXTS, SmokeTestError, smoke_test
from tests.bundles import build_bundle

Predictions = list[dict[str, Any]]


def prediction(label: str, negative: float, neutral: float, positive: float) -> dict[str, Any]:
    return {"label": label, "p_negative": negative, "p_neutral": neutral, "p_positive": positive}


def good(texts: Sequence[str]) -> Predictions:
    known = {PRAISE: prediction("positive", 0.1, 0.2, 0.7), BLAME: prediction("negative", 0.7, 0.2, 0.1)}
    return [dict(known.get(text, prediction("neutral", 0.2, 0.6, 0.2))) for text in texts]


def test_passes_a_good_model() -> None:
    smoke_test(good)


def test_passes_a_real_bundle_and_stops_a_wrong_one(tmp_path: Path) -> None:
    build_bundle(tmp_path / "good")
    smoke_test(Predictor(tmp_path / "good").predict)
    build_bundle(tmp_path / "wrong", flipped=True)
    with pytest.raises(SmokeTestError, match=re.escape(repr(PRAISE))):
        smoke_test(Predictor(tmp_path / "wrong").predict)


def test_tries_odd_texts() -> None:
    assert "" in TEXTS
    assert any(not text.isascii() for text in TEXTS)


BAD: list[tuple[int, Callable[[dict[str, Any]], object], str]] = [
    (0, lambda p: p.update(label="neutral", p_neutral=0.7, p_positive=0.2), "must be positive"),
    (1, lambda p: p.update(label="positive", p_negative=0.1, p_positive=0.7), "must be negative"),
    (2, lambda p: p.update(p_neutral=0.9), "add up to 1"),
    (3, lambda p: p.update(p_neutral=float("nan")), "from 0 to 1"),
    (3, lambda p: p.update(p_neutral=1.2, p_negative=-0.4), "from 0 to 1"),
    (3, lambda p: p.update(p_neutral="0.6"), "from 0 to 1"),
    (2, lambda p: p.pop("p_neutral"), "must have the keys"),
    (2, lambda p: p.update(text="a"), "must have the keys"),
    (2, lambda p: p.update(label="positive"), "most probable"),
    (2, lambda p: p.update(label="happy"), "most probable"),
]


@pytest.mark.parametrize(("index", "spoil", "message"), BAD)
def test_stops_a_bad_answer(index: int, spoil: Callable[[dict[str, Any]], object], message: str) -> None:
    def predict(texts: Sequence[str]) -> Predictions:
        predictions = good(texts)
        spoil(predictions[index])
        return predictions

    with pytest.raises(SmokeTestError, match=message) as caught:
        smoke_test(predict)
    assert repr(TEXTS[index]) in str(caught.value)
    assert "flows.train" in str(caught.value)


def test_stops_an_answer_of_another_length() -> None:
    with pytest.raises(SmokeTestError, match="4 texts got 3 predictions"):
        smoke_test(lambda texts: good(texts)[:3])
