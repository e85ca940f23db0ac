"""What is learned beside the rows has known labels, is not what models are tested with, moves no prior."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blocks.warehouse import DuckDBWarehouse
from tasks import drills, lexicons, perturbations, phrases, tokens, train
from tasks.behaviour import build_suite
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.rows import texts_and_targets
from tasks.training import Examples, TrainParameters
from tests.tweets import tiny_tokenizer, tweets

ALL = 100_000


@pytest.fixture(scope="module")
def made() -> drills.Sentences:
    return drills.sentences(1, ALL)


def strings(value: object) -> Iterator[str]:
    """Yield all strings in a module's constant, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for key in value for text in strings(value[key]))
    elif isinstance(value, tuple):
        yield from (text for item in value for text in strings(item))


def constants(module: object) -> list[str]:
    return [text for name, value in vars(module).items() if name.isupper() for text in strings(value)]


def plain(text: str) -> str:
    """Return a template without the names of its slots, its case and its punctuation."""
    return " ".join(re.findall(r"[\w']+", re.sub(r"\{[^}]*\}", "_", text.lower())))


def words(*slots: object) -> set[str]:
    return {word for text in strings(slots) for word in text.lower().split()}


def test_equal_seeds_give_equal_drills_in_any_process(made: drills.Sentences) -> None:
    code = (
        "from tasks import drills; print(hash('a') and drills.sentences(1, 500).texts); "
        "print(drills.slipped(['a tweet on a bus'] * 99, 1, 0.5).texts)"
    )
    root = Path(__file__).parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert drills.sentences(2, ALL).texts != made.texts


def test_sentences_have_known_labels(made: drills.Sentences) -> None:
    assert made.answers.dtype == np.float32
    assert made.answers.shape == (len(made.texts), len(LABELS))
    kinds = {tuple(answer) for answer in made.answers.tolist()}
    hard = {drills.certain(label) for label in (NEUTRAL, NEGATIVE, POSITIVE)}
    assert kinds == hard | {drills.NOT_NEGATIVE}
    assert len(set(made.texts)) == len(made.texts) > 15_000
    wrong = re.compile(r"[{}]|  |\ba [aeiou](?!uro)|\ban [^aeiou]", re.IGNORECASE)
    assert not [text for text in made.texts if wrong.search(text)]

    assert len(made.texts) == len(set(drills._sentences(random.Random(1)))), "no sentence has two labels"

    known = dict(zip(made.texts, made.answers.tolist(), strict=True))
    praise, criticism = phrases.PRAISE["adjective"], phrases.CRITICISM["adjective"]
    for template, own, other in (
        (r"Changed my mind about the \w+: \S+ then, (\S+) now\.", POSITIVE, NEGATIVE),
        (r"Changed my mind about the \w+: (\S+) now, \S+ then\.", POSITIVE, NEGATIVE),
        (r"how (\S+)", POSITIVE, NEGATIVE),
        (r"not (\S+)", NEGATIVE, None),
        (r"Would you call the \w+ (\S+)\? (?:No|Nope|no|Not at all)[.!]?", NEGATIVE, None),
        (r"Would you call the \w+ (\S+)\? (?:Yes|Yep|yes|Absolutely)[.!]?", POSITIVE, NEGATIVE),
        (r"[\w ]+ call the \w+ \S+; I call it (\S+)\.", POSITIVE, NEGATIVE),
    ):
        found = [(re.fullmatch(template, text), answer) for text, answer in known.items()]
        cases = [(match[1], answer) for match, answer in found if match and match[1] in praise + criticism]
        assert len(cases) >= 20, template
        for word, answer in cases:
            if word in praise:
                assert tuple(answer) == drills.certain(own), template
            elif other is None:
                assert tuple(answer) == drills.NOT_NEGATIVE, template
            else:
                assert tuple(answer) == drills.certain(other), template


def test_a_sentence_about_people_has_one_label_for_all_of_them(made: drills.Sentences) -> None:
    known = dict(zip(made.texts, made.answers.tolist(), strict=True))
    for family, example in (("religion", "Sikh"), ("race", "Maori"), ("nationality", "Greek")):
        found = [text for text in made.texts if example in text]
        assert len({tuple(known[text]) for text in found}) == 3
        for text in found:
            for group in phrases.GROUPS[family]:
                other = re.sub(r"\ban? (?=" + example + ")", "a ", text).replace(example, group)
                other = re.sub(r"\ba (?=[AEIOUaeiou](?!uro))", "an ", other)
                assert known[other] == known[text], other


def test_drills_are_not_what_a_model_is_tested_with(made: drills.Sentences) -> None:
    learned = {plain(text) for text in constants(phrases) if "{" in text}
    tested = {plain(text) for text in constants(lexicons) if "{" in text}
    assert min(len(learned), len(tested)) > 100
    assert learned & tested == set()
    suite = build_suite([], [], sentences=ALL)
    assert {plain(text) for text in made.texts} & {plain(text) for text in suite.texts()} == set()


def test_words_are_not_those_of_the_tests_but_for_groups_of_people() -> None:
    opinions = words(phrases.PRAISE, phrases.CRITICISM)
    tested = words(
        *(lexicons.PRAISE, lexicons.CRITICISM, lexicons.PRAISE_WORDS, lexicons.CRITICISM_WORDS),
        *(lexicons.LIKING, lexicons.DISLIKING, lexicons.GOOD, lexicons.BAD),
    )
    assert opinions & tested == set()
    assert words(phrases.NOUNS) & words(lexicons.NEUTRAL_WORDS) == set()
    assert words(phrases.THINGS, phrases.FACTS) & words(lexicons.THINGS, lexicons.FACTS) == set()
    assert set(phrases.OTHERS) & set(strings(lexicons.OTHERS)) == set()
    assert set(phrases.GAPS) & set(strings(lexicons.GAPS)) == set()
    assert words(phrases.ROLE["role"]) & words(lexicons.ROLES) == set()
    assert set(phrases.ASIDES) & set(perturbations.ASIDES) == set()
    assert set(phrases.TIMES) & words(perturbations.HASHTAGS) == set()
    assert set(phrases.SIGNS) & words(perturbations.EMOJI) == set()


def test_a_slip_is_small_and_told_from_which_row() -> None:
    rows = [
        f"{word} lovely day in {place} today, see you at {n}!"
        for word in "ab"
        for place in "cd"
        for n in range(99)
    ]
    slips = drills.slipped(rows, 3, 0.4)
    assert 0.35 * len(rows) < len(slips.texts) == len(slips.rows) <= 0.4 * len(rows)
    kinds = set()
    for text, row in zip(slips.texts, slips.rows, strict=True):
        original = rows[row]
        assert text != original
        kind = (
            "typos" * (sorted(text) == sorted(original))
            or "after it" * text.startswith(original)
            or "punctuation" * (text == original.rstrip("!"))
            or "long vowel" * (re.sub(r"([aeiou])\1\1", r"\1", text) == original.replace("ee", "e"))
            or "long vowel" * (re.sub(r"([aeiou])\1\1", r"\1", text) == original)
        )
        assert kind, text
        kinds.add(kind)
    assert len(kinds) == 4
    assert len(drills.slipped(["x", ""] * 50, 3, 1.0).texts) < 60, "not everything can be slipped on"


def test_drills_come_after_the_rows_and_move_no_prior(tmp_path: Path) -> None:
    tokenizer = tokens.build_tokenizer(Path(tiny_tokenizer(tmp_path)))
    texts = ["love the film", "the train is here again", "the town again"] * 40
    targets = np.array([POSITIVE, NEUTRAL, NEUTRAL] * 40, np.int8)
    soft = np.tile(np.array([[0.3, 0, 0.7], [0.6, 0.4, 0], [1, 0, 0]], np.float32), (40, 1))
    rows = Examples(tokens.encode(tokenizer, texts), targets, soft)
    train = drills.add(rows, texts, tokenizer, 1, drills=0.5, slips=0.25)
    assert 60 < train.made_up <= 90
    assert (
        len(train.targets) == len(train.tokens.lengths) == len(train.distributions()) == 120 + train.made_up
    )
    np.testing.assert_array_equal(train.distributions()[:120], soft)
    np.testing.assert_array_equal(train.log_prior(), rows.log_prior())
    copies = drills.slipped(texts, 1, 0.25)
    after = 120 + len(copies.rows)
    np.testing.assert_array_equal(train.distributions()[120:after], soft[copies.rows])
    np.testing.assert_array_equal(train.distributions()[after:], drills.sentences(1, 60).answers)
    none = drills.add(rows, texts, tokenizer, 1, drills=0, slips=0)
    assert none.made_up == 0 and len(none.targets) == 120


def test_nothing_of_the_validation_rows_is_learned(tmp_path: Path) -> None:
    frame = tweets().with_columns(target="label")
    recipe = TrainParameters(tokenizer=tiny_tokenizer(tmp_path), slips=3.0)
    before = train.prepare(recipe, frame)
    after = train.drilled(recipe, frame, before)
    assert after.validation is before.validation
    learned, _ = texts_and_targets(frame, "train")
    held, _ = texts_and_targets(frame, "validation")
    copied = set(drills.slipped(learned, recipe.seed, recipe.slips).rows.tolist())
    assert copied <= set(range(len(learned)))
    assert after.train.made_up > 0 and not set(held) & set(drills.sentences(recipe.seed, ALL).texts)


def test_a_version_is_of_its_drills(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    warehouse.merge([tweets()])
    recipe = TrainParameters(tokenizer=tiny_tokenizer(tmp_path))
    recipes = [recipe, recipe.model_copy(update={"drills": 0.5}), recipe.model_copy(update={"slips": 0.0})]
    assert len({train.identify.fn(recipe, warehouse) for recipe in recipes}) == 3
