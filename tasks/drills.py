"""Drills: made-up sentences to learn beside the rows, each with a label that is known by how it is made.

They teach what tweets seldom show: negation, change, whose opinion counts, that a group of people is no
opinion. Templates are in `tasks.phrases`, words in `tasks.vocabulary`; both are other ones than those that a
model is tested with. Not by checklist's Editor: it fills all combinations, in another order in each process.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tasks.phrases as phrases
import tasks.vocabulary as vocabulary
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.tokens import encode
from tasks.training import Examples, TrainParameters
from tasks.vocabulary import Words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Answer = tuple[float, float, float]
"""How probable each label is, in the order of `LABELS`."""

ENOUGH = 10_000
"""Rows from which on drills pay: beside fewer they teach little and cost macro recall."""
SHARE = 0.6
"""Sentences, as a share of the rows."""
EACH = 48
"""Sentences drawn from a template for a label."""
OFTEN = 3 * EACH
"""Sentences drawn from a template that denies criticism, which is easily taken for criticism."""
FOR_ALL = 2
"""Sentences drawn from a template about people, each told of all of them."""
NOT_NEGATIVE = (0.5, 0.0, 0.5)
"""Criticism denied is neutral or positive: no more is known."""

_Told = tuple[tuple[Sequence[str], Answer], ...]
_SLOT = re.compile(r"\{(a:)?(\w+)\}")


class Sentences(NamedTuple):
    """Made-up sentences.

    Args:
        texts: n sentences.
        answers: float32 (n, 3), how probable each label is; hard but where a denial leaves two.
    """

    texts: list[str]
    answers: NDArray[np.float32]


def certain(label: int) -> Answer:
    """Return the answer that is one label for sure."""
    neutral, negative, positive = (float(label == each) for each in range(len(LABELS)))
    return neutral, negative, positive


def wanted(parameters: TrainParameters, rows: int) -> bool:
    """Say whether a recipe has drills for so many rows.

    By itself it has none for TextBlob's labels, which are to be learned with all that TextBlob gets wrong.
    """
    automatic = parameters.labels == "human" and rows >= ENOUGH
    return parameters.drills == "on" or (parameters.drills == "auto" and automatic)


def add(train: Examples, tokenizer: "Tokenizer", seed: int, share: float = SHARE) -> Examples:
    """Return examples with drills after them, which do not count for the prior.

    Args:
        train: The rows, with what is to be answered to them.
        tokenizer: Encodes the drills.
        seed: Of the drills.
        share: How many, as a share of the rows.
    """
    made = sentences(seed, round(share * (len(train.targets) - train.made_up)))
    return train.with_made_up(encode(tokenizer, made.texts), made.answers)


def sentences(seed: int, count: int) -> Sentences:
    """Return sentences with their labels; equal arguments give equal ones, in any process.

    Args:
        seed: Of the words and the choice.
        count: How many, at most; there are 35,000.
    """
    draw = random.Random(seed)
    made = list(dict(_sentences(draw)).items())
    chosen = draw.sample(made, min(count, len(made)))
    answers = np.array([answer for _, answer in chosen], np.float32).reshape(-1, len(LABELS))
    return Sentences([text for text, _ in chosen], answers)


def _sentences(draw: random.Random) -> Iterator[tuple[str, Answer]]:
    praise, criticism, neutral = certain(POSITIVE), certain(NEGATIVE), certain(NEUTRAL)
    around = {**vocabulary.THINGS, **vocabulary.FACTS, **vocabulary.ROLE}
    around["group"] = tuple(name for groups in vocabulary.GROUPS.values() for name in groups)
    around |= {
        "others": vocabulary.OTHERS,
        "gap": vocabulary.GAPS,
        "yes": vocabulary.YES,
        "no": vocabulary.NO,
    }
    said = (*phrases.STATEMENTS, *phrases.CHANGES, *phrases.ROLES, *phrases.ANSWERS)
    opinions = (
        (vocabulary.PRAISE, vocabulary.CRITICISM, praise, criticism, EACH),
        (vocabulary.CRITICISM, vocabulary.PRAISE, criticism, NOT_NEGATIVE, OFTEN),
    )
    for own, other, affirmed, denied, count in opinions:
        words = around | own | {f"other_{slot}": values for slot, values in other.items()}
        yield from _filled(said, words, affirmed, draw)
        yield from _filled(phrases.DENIALS, words, denied, draw, count)
    yield from _filled(phrases.NEUTRAL_NOUNS, around | vocabulary.NOUNS, neutral, draw)
    yield from _filled(phrases.NEUTRAL_FACTS, around, neutral, draw)
    of_one: _Told = (
        (phrases.ABOUT_PERSONS, neutral),
        (phrases.HELPED_BY, praise),
        (phrases.HURT_BY, criticism),
    )
    for templates, answer in of_one:
        yield from _of_people(templates, "person", vocabulary.PERSONS, around, answer, draw)
    of_groups: _Told = (
        (phrases.ABOUT_GROUPS, neutral),
        (phrases.HELPED, praise),
        (phrases.HURT, criticism),
    )
    for groups in vocabulary.GROUPS.values():
        for templates, answer in of_groups:
            yield from _of_people(templates, "group", groups, around, answer, draw)


def _filled(
    templates: Sequence[str], words: Words, answer: Answer, draw: random.Random, count: int = EACH
) -> Iterator[tuple[str, Answer]]:
    for template in templates:
        for _ in range(count):
            yield _fill(template, words, draw), answer


def _of_people(
    templates: Sequence[str],
    slot: str,
    people: Sequence[str],
    words: Words,
    answer: Answer,
    draw: random.Random,
) -> Iterator[tuple[str, Answer]]:
    """Yield sentences that are the same for all people."""
    for template in templates:
        for _ in range(FOR_ALL):
            state = draw.getstate()
            for name in people:
                draw.setstate(state)  # the other words are drawn alike
                yield _fill(template, words | {slot: (name,)}, draw), answer


def _fill(template: str, words: Words, draw: random.Random) -> str:
    """Return a template with a word drawn for each slot, and its article where the slot asks for it.

    What is drawn may have slots of its own. No word is drawn twice, for nobody drives from Cork to Cork.
    """
    drawn: set[str] = set()

    def word(slot: re.Match[str]) -> str:
        chosen = draw.choice([each for each in words[slot[2]] if each not in drawn])
        drawn.add(chosen)
        article = "an " if chosen[0].lower() in "aeiou" and not chosen.startswith("Euro") else "a "
        return article * bool(slot[1]) + _SLOT.sub(word, chosen)

    return _SLOT.sub(word, template)
