"""What a learning curve is fitted to, and what its fits say together."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tasks import figures, report, shares
from tasks.curve import CurveParameters, CurveResult
from tasks.rows import RowsError
from tasks.shares import Fit, Level, Point, Spread
from tests.tasks.test_figures import drawn
from tests.tweets import chosen, tweets

CHOSEN = chosen(tweets(train=200, validation=40), "textblob", 30)
TARGETS = CHOSEN.train.targets


def rows(share: float, seed: int, place: int = 0) -> list[int]:
    return shares.part(CHOSEN, share, seed)[place].order.tolist()


def fit(share: float, seed: int, recall: float | None, loss: float = 0.5) -> Fit:
    epochs = ({"val_loss": loss}, {"val_loss": loss + 0.1})
    how: Any = {"state": "complete"} if recall is not None else {"state": "failed", "reason": "too | little"}
    point, count = Point(share=share, seed=seed), round(200 * share)
    return Fit(point=point, rows=count, macro_recall=recall, epochs=epochs, cpu_seconds=seed, **how)


FITS = (
    *(fit(0.05, 1, 0.4), fit(0.05, 2, 0.5, loss=0.7), fit(0.05, 3, 0.6)),
    *(fit(0.5, 1, 0.7), fit(0.5, 2, None), fit(1.0, 1, None)),
)


def test_larger_shares_hold_the_smaller_ones_of_their_seed() -> None:
    for seed in (0, 1, 2):
        parts = [rows(share, seed) for share in (0.001, 0.05, 0.1, 0.25, 0.5, 1)]
        assert [len(part) for part in parts] == [1, 10, 20, 50, 100, 200]
        for smaller, larger in pairwise(parts):
            assert set(smaller) < set(larger)
            assert [row for row in rows(1, seed) if row in larger] == larger, "share 1 is what is trained on"
    assert rows(0.5, 1) == rows(0.5, 1)
    assert 30 < len(set(rows(0.5, 1)) & set(rows(0.5, 2))) < 70, "by chance, half of them"
    first_half = rows(1, 1)[:100]
    assert 30 < len(set(rows(0.5, 1)) & set(first_half)) < 70
    assert shares.part(CHOSEN, 1, 1).digest == CHOSEN.digest


def test_all_are_judged_on_the_same_rows() -> None:
    assert len(rows(1, 1, 1)) == 40
    assert rows(0.01, 1, 1) == rows(0.5, 2, 1) == rows(1, 1, 1)


def test_a_share_without_some_class_is_refused() -> None:
    shares.check(TARGETS, (0.25, 1), (1, 2, 3))
    rare = np.array([2 if row == 7 else row % 2 for row in range(200)], np.int8)
    said = "200 rows, but of the 20 of share 0.1 with seed 2, none is positive.*--shares from .*flows.etl"
    with pytest.raises(RowsError, match=said) as error:
        shares.check(rare, (0.1, 1), (1, 2))
    enough = float(str(error.value).split("from ")[-1].split(" on,")[0])
    assert 0.1 < enough <= 1
    shares.check(rare, (enough,), (1, 2))
    with pytest.raises(RowsError, match="none is positive"):
        shares.check(rare, (enough - 0.005,), (1, 2))
    shares.check(TARGETS[TARGETS != 2], (0.25,), (1, 2))  # what nobody has cannot be lacking


def test_mean_and_standard_deviation_of_the_sample() -> None:
    three = shares.spread([0.4, 0.5, 0.9])
    assert (three.mean, three.deviation) == pytest.approx((0.6, math.sqrt(0.14 / 2)))
    assert shares.spread([0.7]) == Spread(mean=0.7, deviation=None)
    assert (str(shares.spread([0.4, 0.6])), str(shares.spread([0.7]))) == ("0.500 ± 0.141", "0.700")


def test_levels_are_of_what_was_completed() -> None:
    low, high = shares.levels(FITS[::-1])
    assert (low.share, low.rows, low.seeds) == (0.05, 10, 3)
    assert (str(low.macro_recall), str(low.loss)) == ("0.500 ± 0.100", "0.567 ± 0.115")
    assert low.cpu_seconds.mean == 2
    assert (high.share, high.seeds, str(high.macro_recall)) == (0.5, 1, "0.700")
    assert shares.levels(FITS[4:]) == ()
    assert Level.model_validate_json(low.model_dump_json()) == low


def test_table_and_figure() -> None:
    result = CurveResult(levels=shares.levels(FITS), fits=FITS, run_id="r")
    lines = report.curve(result).splitlines()
    assert "| 0.05 | 10 | 3 | 0.500 ± 0.100 | 0.567 ± 0.115 | 2.0 |" in lines
    assert "| 0.5 | 100 | 1 | 0.700 | 0.500 | 1.0 |" in lines
    assert "| 0.05 | 10 | 2 | 0.500 | 0.700 | 2.0 | complete |" in lines
    assert "| 0.5 | 100 | 2 |  |  | 2.0 | failed: too \\| little |" in lines

    figure = figures.curve(result.levels, result.fits)
    recall, loss = figure.axes
    for axes, means in ((recall, [0.5, 0.7]), (loss, [17 / 30, 0.5])):
        mean, dots = axes.lines
        assert axes.get_xscale() == "log"
        assert list(mean.get_xdata()) == [10, 100]
        assert list(mean.get_ydata()) == pytest.approx(means)
        assert len(dots.get_xdata()) == 4
    (band,) = recall.collections
    (vertices,) = [path.vertices for path in band.get_paths()]
    assert {tuple(vertex) for vertex in vertices.round(9)} == {(10, 0.4), (10, 0.6)}
    assert drawn(figure).std() > 0
    alone = figures.curve(shares.levels(FITS[:1]), FITS[:1])
    assert not alone.axes[0].collections, "one seed has no band"
    assert drawn(alone).std() > 0


def test_parameters_are_put_in_order_or_refused() -> None:
    given = CurveParameters.model_validate({"shares": [1, 0.1], "seeds": [3, 1]})
    assert (given.shares, given.seeds) == ((0.1, 1), (1, 3))
    assert [(point.share, point.seed) for point in given.points()] == [(0.1, 1), (1, 1), (0.1, 3), (1, 3)]
    for name, values in (
        ("shares", [[], [0], [1.1], [-0.1], [0.5, 0.5], [math.nan]]),
        ("seeds", [[], [-1], [1, 2, 1], [0.5]]),
        ("parallel", [0]),
        ("seed", [1]),
    ):
        for value in values:
            with pytest.raises(ValidationError, match=name):
                CurveParameters.model_validate({name: value})
