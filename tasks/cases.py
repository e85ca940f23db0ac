"""Cases: how `checklist` makes the texts of a behavioural test and decides over the answers to them.

A builder takes what a test is made of, templates and words or the name of a perturbation, and returns the
function that makes its cases out of held-out tweets.
"""

import random
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple

from tasks.labelling import LABELS

Kind = Literal["MFT", "INV", "DIR"]

GRID_SAMPLE = 150
"""Cases drawn from each template group, so that every expected label weighs the same."""
TOLERANCE = 0.1
"""How far a probability may move the wrong way in a DIR test, as in the paper."""


@dataclass(frozen=True)
class Material:
    """What tests are made from: held-out tweets and their labels, row by row."""

    tweets: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Cases:
    """The cases of one test.

    Args:
        texts: One list a case; in INV and DIR the original comes first.
        rows: Rows offered; those without a case could not be perturbed.
        expected: What is expected of each case, in words.
        expect: What decides, a function made by checklist's `Expect`.
        allowed: The labels that each case may have (MFT only).
    """

    texts: list[list[str]]
    rows: int
    expected: list[str]
    expect: Any
    allowed: list[tuple[int, ...]] | None = None


Builder = Callable[[Material], Cases]


class Behaviour(NamedTuple):
    """One test: see `tasks.behaviour.BehaviourResult` for the words; `build` makes its cases."""

    name: str
    capability: str
    kind: Kind
    description: str
    build: Builder


@cache
def checklist_tools() -> SimpleNamespace:
    """Return the parts of checklist that are used here, imported without network and without noise."""
    with warnings.catch_warnings():
        # checklist and pattern leave files open and call what IPython and setuptools have deprecated.
        warnings.simplefilter("ignore")
        # Importing this module downloads WordNet; an empty one in its place does for all but synonyms.
        sys.modules.setdefault("pattern.text.en.wordnet", ModuleType("pattern.text.en.wordnet"))
        import pattern.en

        # Written before PEP 479, the first look at a verb ends in "generator raised StopIteration", and loads
        # the verbs all the same. It is wasted here, not on a tweet (`Perturb.add_negation`).
        with suppress(RuntimeError):
            pattern.en.tenses("is")

        from checklist.editor import Editor
        from checklist.expect import Expect
        from checklist.perturb import Perturb
        from checklist.pred_wrapper import PredictorWrapper
        from checklist.test_suite import TestSuite
        from checklist.test_types import DIR, INV, MFT

        return SimpleNamespace(
            editor=Editor(),
            Expect=Expect,
            Perturb=Perturb,
            PredictorWrapper=PredictorWrapper,
            TestSuite=TestSuite,
            kinds={"MFT": MFT, "INV": INV, "DIR": DIR},
        )


class Group(NamedTuple):
    """Templates, the words that fill them (spaces between) and the labels that are right for every result."""

    templates: tuple[str, ...]
    words: Mapping[str, str]
    allowed: tuple[int, ...]


def templated(*groups: Group) -> Builder:
    """Build an MFT: `GRID_SAMPLE` sentences drawn from all that the templates of each group give."""

    def build(_: Material) -> Cases:
        tools = checklist_tools()
        texts: list[list[str]] = []
        allowed: list[tuple[int, ...]] = []
        for group in groups:
            words = {key: listed.split() for key, listed in group.words.items()}
            filled = (tools.editor.template(template, **words).data for template in group.templates)
            # Editor runs through the words in the order of a set, another one in each process.
            grid = sorted({text for data in filled for text in data})
            drawn = random.sample(grid, min(GRID_SAMPLE, len(grid)))
            texts += [[text] for text in drawn]
            allowed += [group.allowed] * len(drawn)
        expected = [" or ".join(LABELS[label] for label in labels) for labels in allowed]
        expect = tools.Expect.single(lambda text, label, scores, labels, meta: bool(label in labels))
        return Cases(texts, len(texts), expected, expect, allowed)

    return build


def perturbed(function: str, **options: Any) -> Builder:
    """Build an INV: the label of a tweet stays what it was after a perturbation.

    Args:
        function: Name of a function of checklist's `Perturb` that takes a string.
        options: Its other arguments.
    """

    def build(material: Material) -> Cases:
        tools = checklist_tools()
        change = getattr(tools.Perturb, function)
        texts = _change(material.tweets, lambda text: change(text, **options))
        # Only the label decides: no change is within a tolerance below 0. Within checklist's own, 0.1, a
        # label may change and pass.
        return Cases(texts, len(material.tweets), ["unchanged"] * len(texts), tools.Expect.inv(tolerance=-1))

    return build


def appended(endings: tuple[str, ...], label: int, unless: int) -> Builder:
    """Build a DIR: no ending takes more than `TOLERANCE` off the probability of a label.

    Args:
        endings: Sentences put after a tweet, one at a time.
        label: The label that they speak for.
        unless: Tweets with this label are left out; praise after a complaint is often sarcasm.
    """

    def build(material: Material) -> Cases:
        tools = checklist_tools()
        pairs = zip(material.tweets, material.labels, strict=True)
        tweets = [tweet for tweet, own in pairs if own != unless]
        texts = _change(tweets, lambda text: [f"{text} {ending}" for ending in endings])
        expect = tools.Expect.monotonic(label=label, increasing=True, tolerance=TOLERANCE)
        return Cases(texts, len(tweets), [f"not less {LABELS[label]}"] * len(texts), expect)

    return build


def _change(tweets: Sequence[str], change: Callable[[str], str | list[str] | None]) -> list[list[str]]:
    """Return [original, changed, ...] of each tweet that can be changed, by checklist's `Perturb.perturb`."""

    def variants(text: str) -> list[str] | None:
        try:
            changed = change(text)
        except (IndexError, TypeError, ValueError):
            return None  # checklist's way of meeting a text it cannot change, as a typo in a single character
        changed = [changed] if isinstance(changed, str) else changed or []
        # A swap of two equal letters is no typo.
        return [variant for variant in changed if variant != text] or None

    data: list[list[str]] = checklist_tools().Perturb.perturb(list(tweets), variants).data
    return data
