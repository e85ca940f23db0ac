"""Normalising: which words stay, and as what."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.normalising import NEGATIONS, count_words, normalise, normaliser, stem_words, stop_words, words


def tokens(text: str) -> str:
    return normalise([text], minimum_count=1)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's GREAT, isn't it?", ["it's", "great", "not", "it"]),
        ("DON'T can't won't, n't 'tisn't' n'thing", ["not", "not", "not", "n't", "not", "n'thing"]),
        ("'quoted' o'clock rock'n'roll dogs'", ["quoted", "o'clock", "rock'n'roll", "dogs"]),
        ("a1b2 100% <3 :) x", ["a", "b", "x"]),
        ("Ünïcode straße ДА 日本語", ["ünïcode", "straße", "да", "日本語"]),
        ("one-two three_four five.six", ["one", "two", "three", "four", "five", "six"]),
        ("😀 ... 42", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    found = pl.DataFrame({"cleaned_text": [text]}).select(words())["cleaned_text"]
    assert found.dtype == pl.List(pl.String)
    assert found.item().to_list() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("running runs ran run", "run run run run"),
        ("The children were happily playing", "child happili play"),
        ("I was the one", ""),
        ("I do not like it, never did", "not like never"),
        ("no nothing nobody none nor neither", "no noth nobodi none nor neither"),
        ("cannot go without", "cannot without"),
        ("I don't care, it isn't ours, can't be", "not care not not"),
        ("It's what I'm, that'll do; the dog's bone, let's", "dog bone let"),
        ("Good GOOD good", "good good good"),
        ("", ""),
    ],
)
def test_stop_words_go_negations_stay_and_the_rest_are_stems(text: str, expected: str) -> None:
    assert tokens(text) == expected


def test_negations_are_stop_words_elsewhere() -> None:
    from spacy.lang.en.stop_words import STOP_WORDS

    assert not NEGATIONS & stop_words()
    assert stop_words() == STOP_WORDS - NEGATIONS
    assert {"not", "no", "never", "nothing", "cannot", "without"} <= NEGATIONS & STOP_WORDS


def test_rare_words_go() -> None:
    corpus = ["cat dog", "cat dog CAT", "dog bird"]
    assert normalise(corpus) == normalise(corpus, 3) == ["cat dog", "cat dog cat", "dog"]
    assert normalise(corpus, 4) == ["", "", ""]
    assert normalise(corpus, 1) == ["cat dog", "cat dog cat", "dog bird"]


def test_words_are_counted_as_written_not_as_stems() -> None:
    assert normalise(["run running runs"] * 2, 3) == ["", ""]
    assert normalise(["run"] * 3 + ["running"] * 2, 3) == ["run"] * 3 + [""] * 2


def test_counts_are_those_of_the_corpus() -> None:
    counts = count_words(pl.LazyFrame({"cleaned_text": ["b a B", "", "a b c 1", "😀"]}))
    assert counts.select("word", pl.col("count").cast(int)).rows() == [("a", 2), ("b", 3), ("c", 1)]


@pytest.mark.parametrize("texts", [[], [""], ["the", "😀"]])
def test_nothing_may_be_left(texts: list[str]) -> None:
    assert normalise(texts) == [""] * len(texts)


def test_part_by_part_is_the_same_as_at_once() -> None:
    draw = random.Random(7)
    vocabulary = ["love", "hated", "dogs", "not", "the", "never", "weather's", "niño", "running", "rare"]
    frame = pl.DataFrame({"cleaned_text": [" ".join(draw.choices(vocabulary, k=6)) for _ in range(200)]})
    whole = normalise(frame["cleaned_text"], 5)
    add_tokens = normaliser(stem_words(count_words(frame.lazy()), 5))
    parts = [add_tokens(frame[start : start + 60])["tokens"] for start in range(0, 200, 60)]
    assert pl.concat(parts).to_list() == whole
    assert normalise(frame["cleaned_text"], 5) == whole


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from(["I do not know", "LOVE it"]), max_size=6))
def test_any_text_has_tokens_of_its_own_words(texts: list[str]) -> None:
    found = normalise(texts, 1)
    assert len(found) == len(texts)
    assert normalise(texts, 1) == found
    for text, stems in zip(texts, found, strict=True):
        assert len(stems.split()) <= len(text)
        assert stems == " ".join(stems.split(" "))
