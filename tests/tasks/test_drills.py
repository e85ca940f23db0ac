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
from tasks import drills, lexicons, material, names, phrases, tokens, train, vocabulary
from tasks.behaviour import build_suite
from tasks.labelling import LABELS, NEGATIVE, NEUTRAL, POSITIVE
from tasks.training import Examples, TrainParameters
from tests.tweets import chosen, tiny_tokenizer, tweets

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
    code = "from tasks import drills; print(drills.sentences(1, 500))"
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
    assert len(set(made.texts)) == len(made.texts) > 20_000
    wrong = re.compile(r"[{}]|  |\ba [aeiou](?!uro)|\ban [^aeiou]", re.IGNORECASE)
    assert not [text for text in made.texts if wrong.search(text)]

    assert len(made.texts) == len(set(drills._sentences(random.Random(1)))), "no sentence has two labels"

    known = dict(zip(made.texts, made.answers.tolist(), strict=True))
    praise, criticism = vocabulary.PRAISE["adjective"], vocabulary.CRITICISM["adjective"]
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
        assert len(cases) >= 10, template
        for word, answer in cases:
            if word in praise:
                assert tuple(answer) == drills.certain(own), template
            elif other is None:
                assert tuple(answer) == drills.NOT_NEGATIVE, template
            else:
                assert tuple(answer) == drills.certain(other), template


def test_criticism_is_denied_more_often_than_praise(made: drills.Sentences) -> None:
    found = [re.fullmatch(r"The \w+ is far from (\S+)", text) for text in made.texts]
    denied = [match[1] for match in found if match]
    praise = [word for word in denied if word in vocabulary.PRAISE["adjective"]]
    assert len(denied) - len(praise) > 2.5 * len(praise) > 0


def test_what_is_between_a_negation_and_what_it_denies_has_words_of_its_own(made: drills.Sentences) -> None:
    between = {
        match[1] for text in made.texts if (match := re.match(r"I wouldn't say, (.+), that the", text))
    }
    assert len(between) > 80, "of 34 phrases"
    assert any(re.fullmatch(r"with [A-Z]\w+ in the \w+", phrase) for phrase in between)


def test_no_word_is_drawn_twice_for_a_sentence(made: drills.Sentences) -> None:
    twice = re.compile(r"\b(?:from|neither|of) (\w+) (?:to|nor) \1\b|\b([A-Z]\w+) .*\bin \2\b|^(\w+), \3!")
    assert not [text for text in made.texts if twice.search(text)]
    assert any(re.search(r"on the way from \w+ to \w+", text) for text in made.texts)


def test_a_sentence_about_people_has_one_label_for_all_of_them(made: drills.Sentences) -> None:
    known = dict(zip(made.texts, made.answers.tolist(), strict=True))
    for family, example in (("religion", "Sikh"), ("race", "Maori"), ("nationality", "Greek")):
        found = [text for text in made.texts if example in text]
        assert len({tuple(known[text]) for text in found}) == 3
        for_all = 0
        for text in found:
            others = []
            for group in vocabulary.GROUPS[family]:
                other = re.sub(r"\ban? (?=" + example + ")", "a ", text).replace(example, group)
                others.append(re.sub(r"\ba (?=[AEIOUaeiou](?!uro))", "an ", other))
            assert {tuple(known[other]) for other in others if other in known} == {tuple(known[text])}
            for_all += known.keys() >= set(others)
        assert for_all >= 60, family


def test_drills_are_not_what_a_model_is_tested_with(made: drills.Sentences) -> None:
    learned = {plain(text) for text in constants(phrases) if "{" in text}
    tested = {plain(text) for text in constants(lexicons) if "{" in text}
    assert min(len(learned), len(tested)) > 100
    assert learned & tested == set()
    suite = build_suite([], [], sentences=ALL)
    assert {plain(text) for text in made.texts} & {plain(text) for text in suite.texts()} == set()


def test_words_are_not_those_of_the_tests_but_for_groups_of_people() -> None:
    templates = {word for text in constants(phrases) for word in plain(text).split()}
    said = words(vocabulary.PRAISE, vocabulary.CRITICISM, vocabulary.ROLE["kindness"])
    opinions = said | templates - {"like"}  # a preposition there
    tested = words(
        *(lexicons.PRAISE, lexicons.CRITICISM, lexicons.PRAISE_WORDS, lexicons.CRITICISM_WORDS),
        *(lexicons.LIKING, lexicons.DISLIKING, lexicons.GOOD, lexicons.BAD),
    )
    assert opinions & tested == set()
    assert words(vocabulary.NOUNS) & words(lexicons.NEUTRAL_WORDS) == set()
    assert words(vocabulary.THINGS, vocabulary.FACTS) & words(lexicons.THINGS, lexicons.FACTS) == set()
    assert set(vocabulary.OTHERS) & set(strings(lexicons.OTHERS)) == set()
    assert set(vocabulary.GAPS) & set(strings(lexicons.GAPS)) == set()
    assert words(vocabulary.ROLE["role"]) & words(lexicons.ROLES) == set()


def test_drills_come_after_the_rows_and_move_no_prior(tmp_path: Path) -> None:
    tokenizer = tokens.build_tokenizer(Path(tiny_tokenizer(tmp_path)))
    texts = ["love the film", "the train is here again", "the town again"] * 40
    targets = np.array([POSITIVE, NEUTRAL, NEUTRAL] * 40, np.int8)
    soft = np.tile(np.array([[0.3, 0, 0.7], [0.6, 0.4, 0], [1, 0, 0]], np.float32), (40, 1))
    rows = Examples(tokens.encode(tokenizer, texts), targets, soft)
    train = drills.add(rows, tokenizer, 1, share=0.5)
    assert train.made_up == 60
    assert len(train.targets) == len(train.tokens.lengths) == 180
    np.testing.assert_array_equal(train.distributions()[:120], soft)
    np.testing.assert_array_equal(train.distributions()[120:], drills.sentences(1, 60).answers)
    np.testing.assert_array_equal(train.log_prior(), rows.log_prior())
    assert not np.allclose(Examples(train.tokens, train.targets).log_prior(), rows.log_prior())
    none = drills.add(rows, tokenizer, 1, share=0)
    assert (none.made_up, len(none.targets)) == (0, 120)


def test_nothing_of_the_validation_rows_is_learned(tmp_path: Path) -> None:
    rows = chosen(tweets(), "textblob")
    recipe = TrainParameters(tokenizer=tiny_tokenizer(tmp_path), drills="on")
    before = material.prepare(recipe, rows)
    after = material.complete(recipe, before)
    assert after.validation is before.validation
    assert after.train.made_up == 144 == len(after.train.targets) - len(before.train.targets)
    assert not set(rows.validation) & set(drills.sentences(recipe.seed, ALL).texts)


def test_who_is_drilled(tmp_path: Path) -> None:
    auto, human = TrainParameters(), TrainParameters(labels="human")
    assert drills.wanted(human, 10_000) and not drills.wanted(human, 9_999)
    assert not drills.wanted(auto, 50_000)
    assert drills.wanted(TrainParameters(drills="on"), 5)
    assert not drills.wanted(TrainParameters(labels="human", drills="off"), 50_000)
    off = TrainParameters(tokenizer=tiny_tokenizer(tmp_path), drills="off")
    rows = material.prepare(off, chosen(tweets(), "textblob"))
    assert material.complete(off, rows).train is rows.train


def test_a_version_is_of_its_drills(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    warehouse.merge([tweets()])
    recipe = TrainParameters(tokenizer=tiny_tokenizer(tmp_path))
    none = recipe.model_copy(update={"drills": "off"})
    assert train.identify.fn(recipe, warehouse) != train.identify.fn(none, warehouse)
    assert {drills, phrases, vocabulary, names} <= set(material.CODE), "their source counts"
