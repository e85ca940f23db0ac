"""Splitting: shares, and that a text stays where it is for ever."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cleaning import cleaned
from tasks.splitting import TEST_SHARE, VALIDATION_SHARE, add_split, canonical, split_of


def splits(*texts: str) -> list[str]:
    """Return the splits of raw texts, cleaned as in the ETL."""
    return add_split(pl.DataFrame({"text": texts}).select(cleaned().alias("cleaned_text")))["split"].to_list()


def test_shares() -> None:
    draw = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz "
    texts = {"".join(draw.choices(letters, k=draw.randint(10, 140))) for _ in range(20_000)}
    counts = pl.Series(splits(*texts)).value_counts()
    shares = dict(counts.with_columns(pl.col("count") / len(texts)).rows())
    assert (TEST_SHARE, VALIDATION_SHARE) == (0.1, 0.1)
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.01)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("", "train"),
        ("good morning", "train"),
        ("i love it", "train"),
        ("日本語", "train"),
        ("tweet 11", "test"),
        ("tweet 15", "test"),
        ("tweet 12", "validation"),
    ],
)
def test_known_texts_stay_in_their_split(text: str, split: str) -> None:
    assert split_of(text) == split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good, MORNING!!", "good morning"),
        ("RT : Good morning", "good morning"),
        ("start of art", "start of art"),
        ("RT", "rt"),
        ("  😀 it's 5:30 -- Ünï_code ", "it s 5 30 ünï code"),
        ("...", ""),
    ],
)
def test_canonical(text: str, expected: str) -> None:
    assert pl.DataFrame({"cleaned_text": [text]}).select(canonical()).item() == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["Good", "day", "tweet", "sad", "12", "Ünï"]), min_size=1, max_size=8))
def test_near_copies_share_a_split(words: list[str]) -> None:
    text = " ".join(words)
    copies = [
        text,
        text.upper(),
        f"RT @ann: {text}",
        f"{text}!!! 😀",
        f'"{text}..."',
        f"#{' #'.join(words)}",
        f"@bob @cy  {', '.join(words)} https://t.co/x",
        text.replace(" ", " &amp; "),
    ]
    assert len(set(splits(*copies))) == 1


def test_other_texts_are_drawn_apart() -> None:
    assert len(set(splits(*(f"tweet {n}" for n in range(100))))) == 3


def test_the_rest_of_a_row_is_kept_and_does_not_matter() -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "cleaned_text": ["tweet", "Tweet!"], "label": [0, 2]})
    split = add_split(frame)
    assert split.drop("split").equals(frame)
    assert split["split"].n_unique() == 1


def test_no_rows() -> None:
    split = add_split(pl.DataFrame(schema={"cleaned_text": pl.String}))
    assert split.schema == {"cleaned_text": pl.String, "split": pl.String}
