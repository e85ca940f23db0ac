"""Behavioural tests: what a sentiment model must be able to do, checked case by case with `checklist`.

The method is CheckList: minimum functionality tests (MFT) on sentences whose label is known, invariance tests
(INV) and directional tests (DIR) on perturbed held-out tweets. What is tested stands in
`tasks.capabilities`, how cases are made in `tasks.cases`.

Source: Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", ACL 2020.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.capabilities import BEHAVIOURS
from tasks.cases import Behaviour, Cases, Kind, Material, checklist_tools
from tasks.labelling import LABELS

Predict = Callable[[Sequence[str]], NDArray[np.float32]]

MAX_EXAMPLES = 5


class PredictionError(ValueError):
    """Raised when a model does not give one row of three probabilities a text."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Record):
    """A 95 % confidence interval of a rate."""

    low: float
    high: float


class BehaviourExample(_Record):
    """A failing case: its texts (the original first), the label given to each, and what was expected."""

    texts: tuple[str, ...]
    predicted: tuple[str, ...]
    expected: str


class BehaviourResult(_Record):
    """How one model did in one behavioural test.

    Args:
        name: Name of the test.
        capability: What the test is about; results are grouped by it.
        kind: MFT, INV or DIR.
        description: What the model must do, in one sentence.
        rows: Sentences or held-out tweets offered.
        perturbed: Rows that made a case; every one of them was judged.
        unperturbed: Rows that did not, because there was nothing to change in them.
        cases: Texts predicted for the test, originals included.
        failed: Cases failed.
        failure_rate: failed / perturbed; None where nothing could be tested.
        interval: Wilson interval of the failure rate; None where nothing could be tested.
        examples: The first failing cases, at most five.
    """

    name: str
    capability: str
    kind: Kind
    description: str
    rows: int
    perturbed: int
    unperturbed: int
    cases: int
    failed: int
    failure_rate: float | None
    interval: Interval | None
    examples: tuple[BehaviourExample, ...]


class Outcome(NamedTuple):
    """How one model did in one test, in sum and case by case.

    Args:
        result: The sum.
        failed: bool (perturbed,), one a case, in the order of the suite's cases: the same for every model.
    """

    result: BehaviourResult
    failed: NDArray[np.bool_]


@dataclass(frozen=True)
class Suite:
    """Tests with their cases, ready to judge any number of models on the same texts."""

    parts: tuple[tuple[Behaviour, Cases], ...]

    def texts(self) -> list[str]:
        """Return each distinct text of the suite once, in a fixed order."""
        return list(dict.fromkeys(text for _, cases in self.parts for case in cases.texts for text in case))

    def evaluate(self, predict: Predict) -> list[Outcome]:
        """Return the outcome of each test, in the order of the suite; `predict` is called once.

        Args:
            predict: From n distinct texts to float (n, 3), probabilities in the order of `LABELS`.

        Raises:
            PredictionError: Something else came back.
        """
        tools = checklist_tools()
        texts = self.texts()
        given = checked(predict(texts), texts) if texts else ()
        scores = dict(zip(texts, given, strict=True))
        suite = tools.TestSuite()
        for behaviour, cases in self.parts:
            if cases.texts:  # checklist cannot run a test without cases
                test = tools.kinds[behaviour.kind](cases.texts, cases.expect, labels=cases.allowed)
                suite.add(test, behaviour.name, behaviour.capability, behaviour.description)
        known = tools.PredictorWrapper.wrap_softmax(lambda batch: np.stack([scores[text] for text in batch]))
        suite.run(known, verbose=False)
        return [
            _outcome(behaviour, cases, suite.tests.get(behaviour.name)) for behaviour, cases in self.parts
        ]


def build_suite(
    tweets: Sequence[str],
    labels: Sequence[int],
    seed: int = 0,
    limit: int | None = 500,
    behaviours: Sequence[Behaviour] = BEHAVIOURS,
) -> Suite:
    """Return the tests with their cases; equal arguments give equal cases, in any process.

    Each test is seeded by its name, so that one more test does not change the cases of the others. The global
    generators are borrowed for that and given back: not for two threads at once.

    Args:
        tweets: Held-out texts.
        labels: Their labels, int (n,), positions in `LABELS`.
        seed: Seeds the choice of tweets and words and the perturbations.
        limit: At most so many tweets are offered to each test, the same ones to all; None for all tweets.
        behaviours: The tests.

    Raises:
        ValueError: Tweets and labels do not match, a label is not one of ours, or the limit is negative.
    """
    if len(tweets) != len(labels):
        raise ValueError(f"There are {len(tweets)} tweets and {len(labels)} labels: give one label a tweet.")
    if unknown := sorted({int(label) for label in labels} - set(range(len(LABELS)))):
        raise ValueError(f"Labels {unknown} are unknown: use positions in {LABELS}, 0 to {len(LABELS) - 1}.")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}: give the greatest number of tweets a test, or None for all.")
    count = len(tweets) if limit is None else min(limit, len(tweets))
    chosen = sorted(random.Random(seed).sample(range(len(tweets)), count))
    material = Material(tuple(tweets[i] for i in chosen), tuple(int(labels[i]) for i in chosen))
    parts = []
    with _generators_kept():
        checklist_tools()  # imported before the seeds are set: an import may draw, too
        for behaviour in behaviours:
            own = zlib.crc32(f"{seed} {behaviour.name}".encode())
            random.seed(own)
            np.random.seed(own)
            parts.append((behaviour, behaviour.build(material)))
    return Suite(tuple(parts))


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Give the global random generators back as they were; checklist draws from NumPy's."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def checked(given: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a model's answer as float32 (n, 3), or raise `PredictionError`."""
    scores = np.asarray(given, dtype=np.float32)
    wanted = (len(texts), len(LABELS))
    if scores.shape != wanted:
        raise PredictionError(
            f"The model gave an array of shape {scores.shape} for {len(texts)} texts: it must be {wanted}, "
            f"one probability a text for each of {', '.join(LABELS)}."
        )
    wrong = ~np.isfinite(scores).all(axis=1)
    wrong |= (scores < 0).any(axis=1) | (np.abs(scores.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        first = int(wrong.argmax())
        raise PredictionError(
            f"The model's answers to {wrong.sum()} of {len(texts)} texts are no probabilities, for example "
            f"{scores[first].tolist()} for {texts[first][:80]!r}: they must be finite, not negative and sum "
            "to 1. Apply the softmax if these are logits; NaN comes from the weights, so train again."
        )
    return scores


def _outcome(behaviour: Behaviour, cases: Cases, test: Any) -> Outcome:
    """Return what checklist found; `test` is None where there was no case to run."""
    tested = len(cases.texts)
    failed = np.zeros(tested, dtype=np.bool_)
    if test is not None:
        # checklist leaves out a DIR case that cannot fail (a probability too low to fall by the tolerance).
        # Here it has passed, so that all models are judged on the same cases.
        failed[test.fail_idxs()] = True
    count = int(failed.sum())
    result = BehaviourResult(
        name=behaviour.name,
        capability=behaviour.capability,
        kind=behaviour.kind,
        description=behaviour.description,
        rows=cases.rows,
        perturbed=tested,
        unperturbed=cases.rows - tested,
        cases=sum(map(len, cases.texts)),
        failed=count,
        failure_rate=count / tested if tested else None,
        interval=wilson(count, tested) if tested else None,
        examples=tuple(
            BehaviourExample(
                texts=tuple(cases.texts[i]),
                predicted=tuple(LABELS[label] for label in test.results.preds[i]),
                expected=cases.expected[i],
            )
            for i in np.flatnonzero(failed)[:MAX_EXAMPLES]
        ),
    )
    return Outcome(result, failed)


def wilson(failed: int, tested: int) -> Interval:
    """Return the interval of Wilson (1927), which also holds for few cases and for rates near 0 and 1."""
    from scipy.stats import binomtest  # most of a second

    interval = binomtest(failed, tested).proportion_ci(confidence_level=0.95, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))
