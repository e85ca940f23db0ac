"""Drills: examples to learn beside the rows, sentences whose label is known and rows with slips of the pen.

The sentences teach what tweets seldom show: negation, change, whose opinion counts, that a group of people is
no opinion. Words and templates are in `tasks.phrases` and are not those that a model is tested with
(`tasks.lexicons`). Not by checklist's Editor: it fills all combinations, in another order in each process.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tasks.phrases as phrases
from tasks.cases import DRAW, seeded
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.perturbations import elongation
from tasks.phrases import Words
from tasks.tokens import Tokens, encode
from tasks.training import Examples

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Answer = tuple[float, float, float]
"""How probable each label is, in the order of `LABELS`."""

EACH = 50
"""Sentences drawn from a template for a label."""
NOT_NEGATIVE = (0.5, 0.0, 0.5)
"""Criticism denied is neutral or positive: no more is known."""

_SLOT = re.compile(r"\{(a:)?(\w+)\}")


class Sentences(NamedTuple):
    """Made-up sentences.

    Args:
        texts: n sentences.
        answers: float32 (n, 3), how probable each label is; hard but where a denial leaves two.
    """

    texts: list[str]
    answers: NDArray[np.float32]


class Slips(NamedTuple):
    """Copies of rows.

    Args:
        texts: m texts.
        rows: int64 (m,), positions of the rows that they are copies of.
    """

    texts: list[str]
    rows: NDArray[np.int64]


def certain(label: int) -> Answer:
    """Return the answer that is one label for sure."""
    neutral, negative, positive = (float(label == each) for each in range(len(LABELS)))
    return neutral, negative, positive


def add(
    train: Examples, texts: Sequence[str], tokenizer: "Tokenizer", seed: int, drills: float, slips: float
) -> Examples:
    """Return examples with drills after them, which do not count for the prior.

    A copy is to be answered as its row is, a sentence as it was made, whatever a teacher would say of it.

    Args:
        train: The rows, with what is to be answered to them.
        texts: Their texts.
        tokenizer: Encodes the drills.
        seed: Of the drills.
        drills: Sentences, as a share of the rows; there are 18,000 at most.
        slips: Copies with slips, as a share of the rows.
    """
    copies = slipped(texts, seed, slips)
    made = sentences(seed, round(drills * len(texts)))
    new = encode(tokenizer, [*copies.texts, *made.texts])
    given = train.distributions()
    return Examples(
        Tokens(
            np.concatenate([train.tokens.values, new.values]),
            np.concatenate([train.tokens.lengths, new.lengths]),
        ),
        np.concatenate(
            [train.targets, train.targets[copies.rows], made.answers.argmax(axis=1).astype(np.int8)]
        ),
        np.concatenate([given, given[copies.rows], made.answers]),
        made_up=len(new.lengths),
    )


def sentences(seed: int, count: int) -> Sentences:
    """Return sentences with their labels; equal arguments give equal ones, in any process.

    Args:
        seed: Of the words and the choice.
        count: How many, at most: a template gives `EACH` for a label.
    """
    draw = random.Random(seed)
    made = list(dict(_sentences(draw)).items())
    chosen = draw.sample(made, min(count, len(made)))
    answers = np.array([answer for _, answer in chosen], np.float32).reshape(-1, len(LABELS))
    return Sentences([text for text, _ in chosen], answers)


def slipped(texts: Sequence[str], seed: int, share: float) -> Slips:
    """Return copies of texts with what leaves their label alone: typos, long vowels, asides, signs and such.

    Args:
        texts: Rows to learn from.
        seed: Of rows and slips.
        share: Of the texts.
    """
    with seeded() as seed_all:
        seed_all(seed)
        rows = sorted(DRAW.choices(range(len(texts)), k=round(share * len(texts))))
        made = [(row, slip(texts[row])) for row in rows]
    kept = [(row, text) for row, text in made if text != texts[row]]
    return Slips([text for _, text in kept], np.array([row for row, _ in kept], np.int64))


def _sentences(draw: random.Random) -> Iterator[tuple[str, Answer]]:
    praise, criticism, neutral = certain(POSITIVE), certain(NEGATIVE), certain(NEUTRAL)
    around = {**phrases.THINGS, **phrases.FACTS, **phrases.ROLE}
    around |= {"others": phrases.OTHERS, "gap": phrases.GAPS, "yes": phrases.YES, "no": phrases.NO}
    said = (*phrases.STATEMENTS, *phrases.CHANGES, *phrases.ROLES, *phrases.ANSWERS)
    opinions = (
        (phrases.PRAISE, phrases.CRITICISM, praise, criticism),
        (phrases.CRITICISM, phrases.PRAISE, criticism, NOT_NEGATIVE),
    )
    for own, other, affirmed, denied in opinions:
        words = around | own | {f"other_{slot}": values for slot, values in other.items()}
        yield from _filled(said, words, affirmed, draw)
        yield from _filled(phrases.DENIALS, words, denied, draw)
    yield from _filled(phrases.NEUTRAL_NOUNS, around | phrases.NOUNS, neutral, draw)
    yield from _filled(phrases.NEUTRAL_FACTS, around, neutral, draw)
    yield from _of_people(phrases.ABOUT_PERSONS, "person", phrases.PERSONS, around, neutral, draw)
    for groups in phrases.GROUPS.values():
        for templates, answer in (
            (phrases.ABOUT_GROUPS, neutral),
            (phrases.HELPED, praise),
            (phrases.HURT, criticism),
        ):
            yield from _of_people(templates, "group", groups, around, answer, draw)


def _filled(
    templates: Sequence[str], words: Words, answer: Answer, draw: random.Random
) -> Iterator[tuple[str, Answer]]:
    for template in templates:
        for _ in range(EACH):
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
        for _ in range(EACH // 25):
            state = draw.getstate()
            for name in people:
                draw.setstate(state)  # the other words are drawn alike
                yield _fill(template, words | {slot: (name,)}, draw), answer


def _fill(template: str, words: Words, draw: random.Random) -> str:
    """Return a template with a word drawn for each slot, and its article where the slot asks for it."""

    def word(slot: re.Match[str]) -> str:
        chosen = draw.choice(words[slot[2]])
        article = "an " if chosen[0].lower() in "aeiou" and not chosen.startswith("Euro") else "a "
        return article * bool(slot[1]) + chosen

    return _SLOT.sub(word, template)


def slip(text: str) -> str:
    """Return a text with one kind of slip, typos in most cases; some texts have nothing to slip on."""
    kind = DRAW.random()
    if kind < 0.6:
        return typos(text, DRAW.randint(1, 3))
    if kind < 0.75:
        return elongation(text) or text
    if kind < 0.85:
        return f"{text} {_fill(DRAW.choice(phrases.ASIDES), phrases.FACTS, DRAW)}"
    if kind < 0.95:
        return f"{text} {DRAW.choice(phrases.TIMES + phrases.SIGNS)}"
    bare = text.rstrip(" .,;!?…")
    return bare if bare != text else f"{text}."


def typos(text: str, count: int) -> str:
    """Swap neighbouring characters, so many times.

    As checklist's `Perturb.add_typos`, which raises on a single character and takes seconds to import.
    """
    characters = list(text)
    for _ in range(count if len(text) > 1 else 0):
        place = DRAW.randrange(len(characters) - 1)
        characters[place : place + 2] = characters[place + 1], characters[place]
    return "".join(characters)
