import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import perturbations
from tasks.cases import Docs

TWEET = "Loving the #sunny day with @jo_k, what GREAT news!! https://t.co/abcDEF www.example.com"


def test_links_handles_emoji_and_asides_stand_beside_the_text() -> None:
    assert re.fullmatch(rf"{re.escape(TWEET)} https://t\.co/[A-Za-z0-9]{{10}}", perturbations.links(TWEET))
    assert re.fullmatch(rf"@\w+ {re.escape(TWEET)}", perturbations.handles(TWEET))
    for change, endings in (
        (perturbations.emoji, perturbations.EMOJI.split()),
        (perturbations.aside, perturbations.ASIDES),
    ):
        assert change(TWEET) in [f"{TWEET} {ending}" for ending in endings]


def test_casing_leaves_links_handles_and_hashtags_alone() -> None:
    assert perturbations.casing(TWEET) == [
        "loving the #sunny day with @jo_k, what great news!! https://t.co/abcDEF www.example.com",
        "LOVING THE #sunny DAY WITH @jo_k, WHAT GREAT NEWS!! https://t.co/abcDEF www.example.com",
    ]


def results(change: Callable[[str], object]) -> set[str]:
    found: set[str] = set()
    for _ in range(300):
        given = change(TWEET)
        found |= {given} if isinstance(given, str) else set(given)  # type: ignore[call-overload]
    return found


def test_a_hashtag_is_made_of_any_word_of_four_letters_and_of_nothing_else() -> None:
    made = {text for text in results(perturbations.hashtags) if not text.startswith(f"{TWEET} #")}
    words = "Loving with what GREAT news".split()
    assert made == {TWEET.replace(word, f"#{word}") for word in words}


def test_the_first_vowel_of_a_word_is_written_three_times() -> None:
    changes = {"Loving": "Loooving", "the ": "theee ", "day": "daaay", "with": "wiiith", "what": "whaaat"}
    changes |= {"GREAT": "GREEEAT", "news": "neeews"}
    assert results(lambda text: perturbations.elongation(text) or "") == {
        TWEET.replace(word, longer) for word, longer in changes.items()
    }


@pytest.mark.parametrize(
    "text", ["", "🙂", "@someone", "#tag", "https://t.co/loveletter", "hm brr", "a.b", "e_mail"]
)
def test_where_there_is_no_word_nothing_is_stretched(text: str) -> None:
    assert perturbations.elongation(text) is None


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("So cool!!!", ["So cool", "So cool."]),
        ("So cool", ["So cool."]),
        ("So cool.", ["So cool"]),
        ("It was good...", ["It was good", "It was good."]),
        ("It was good :)", []),
        ('"It was good"', []),
        ("", ["."]),
    ],
)
def test_punctuation_goes_and_emoticons_stay(text: str, changed: list[str]) -> None:
    [doc] = Docs().read([text], ("tok2vec", "tagger", "attribute_ruler"))
    assert perturbations.punctuation(doc) == changed


@given(st.text())
def test_no_text_breaks_a_perturbation(text: str) -> None:
    for change in (
        *(perturbations.links, perturbations.handles, perturbations.hashtags, perturbations.emoji),
        *(perturbations.casing, perturbations.elongation, perturbations.aside),
    ):
        assert change is perturbations.elongation or change(text)
        perturbations.elongation(text)
