"""Behavioural tests: what a sentiment model must be able to do, checked case by case with `checklist`.

The method is CheckList: minimum functionality tests (MFT) on sentences whose label is known, invariance tests
(INV) and directional tests (DIR) on perturbed held-out tweets. What is tested stands in
`tasks.capabilities`, how cases are made in `tasks.cases`.

Source: Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", ACL 2020.
"""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.capabilities import BEHAVIOURS
from tasks.cases import Behaviour, Cases, Kind, Material, checklist_tools, seeded
from tasks.labelling import LABELS

Predict = Callable[[Sequence[str]], NDArray[np.float32]]

MAX_EXAMPLES = 5
SENTENCES = 300
"""Cases drawn from each template group by default: with all tests, more than 10,000."""


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
        examples: Failing cases, at most five, from the first to the last.
        groups: How often each group of people fared otherwise: in MFT its cases that failed, in INV those in
            which its text got another label than most of the case. Empty where a test has no such groups.
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
    groups: dict[str, int] = Field(default_factory=dict)


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
        given = checked(predict(texts) if texts else np.empty((0, len(LABELS))), texts)
        position = {text: i for i, text in enumerate(texts)}
        suite = tools.TestSuite()
        for behaviour, cases in self.parts:
            if cases.texts:  # checklist cannot run a test without cases
                test = tools.kinds[behaviour.kind](cases.texts, cases.expect, labels=cases.targets)
                suite.add(test, behaviour.name, behaviour.capability, behaviour.description)
        known = tools.PredictorWrapper.wrap_softmax(lambda batch: given[[position[text] for text in batch]])
        suite.run(known, verbose=False)
        return [
            _outcome(behaviour, cases, suite.tests.get(behaviour.name)) for behaviour, cases in self.parts
        ]


def build_suite(
    tweets: Sequence[str],
    labels: Sequence[int],
    seed: int = 0,
    limit: int | None = 500,
    sentences: int = SENTENCES,
    behaviours: Sequence[Behaviour] = BEHAVIOURS,
) -> Suite:
    """Return the tests with their cases; equal arguments give equal cases, in any process.

    Each test is seeded by its name, so that one more test does not change the cases of the others. NumPy's
    global generator is borrowed for that and given back: not for two threads at once.

    Args:
        tweets: Held-out texts.
        labels: Their labels, int (n,), positions in `LABELS`.
        seed: Seeds the choice of tweets and words and the perturbations.
        limit: At most so many tweets are offered to each test, the same ones to all; None for all tweets.
        sentences: At most so many cases are drawn from each group of templates.
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
    material = Material(tuple(tweets[i] for i in chosen), tuple(int(labels[i]) for i in chosen), sentences)
    parts = []
    with seeded() as seed_all:
        checklist_tools()  # imported before the seeds are set: an import may draw, too
        for behaviour in behaviours:
            seed_all(zlib.crc32(f"{seed} {behaviour.name}".encode()))
            parts.append((behaviour, behaviour.build(material)))
    return Suite(tuple(parts))


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
    given: list[NDArray[np.int64]] = []
    if test is not None:
        failed = ~np.asarray(test.results.passed, dtype=np.bool_)
        given = test.results.preds
    failures = [int(i) for i in np.flatnonzero(failed)]
    result = BehaviourResult(
        name=behaviour.name,
        capability=behaviour.capability,
        kind=behaviour.kind,
        description=behaviour.description,
        rows=cases.rows,
        perturbed=tested,
        unperturbed=cases.rows - tested,
        cases=sum(map(len, cases.texts)),
        failed=len(failures),
        failure_rate=len(failures) / tested if tested else None,
        interval=wilson(len(failures), tested) if tested else None,
        examples=tuple(
            BehaviourExample(
                texts=tuple(cases.texts[i]),
                predicted=tuple(LABELS[label] for label in given[i]),
                expected=cases.expected[i],
            )
            # Spread out, for the cases of a template group stand together.
            for i in failures[:: -(-len(failures) // MAX_EXAMPLES) or 1]
        ),
        groups=_by_group(cases.groups, given, failed),
    )
    return Outcome(result, failed)


def _by_group(
    groups: list[tuple[str, ...]] | None, given: list[NDArray[np.int64]], failed: NDArray[np.bool_]
) -> dict[str, int]:
    """Return how often each group of people fared otherwise; see `BehaviourResult`."""
    if groups is None:
        return {}
    odd = dict.fromkeys(sorted({name for names in groups for name in names}), 0)
    for names, labels, wrong in zip(groups, given, failed, strict=True):
        most = Counter(labels.tolist()).most_common(1)[0][0]
        for name, label in zip(names, labels, strict=True):
            odd[name] += int(wrong if len(names) == 1 else label != most)
    return odd


def wilson(failed: int, tested: int) -> Interval:
    """Return the interval of Wilson (1927), which also holds for few cases and for rates near 0 and 1."""
    from scipy.stats import binomtest  # most of a second

    interval = binomtest(failed, tested).proportion_ci(confidence_level=0.95, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))
