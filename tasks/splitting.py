"""Splitting: which rows train, which validate and which test, by a hash of what the text says."""

import hashlib
from typing import Literal

import polars as pl

Split = Literal["train", "validation", "test"]

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1


def canonical(column: str = "cleaned_text") -> pl.Expr:
    """Return the expression of a text's letters and digits, so that retweets and near-copies agree."""
    lower = pl.col(column).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return lower.str.replace(r"^rt ", "")


def split_of(canonical_text: str) -> Split:
    """Return the split of a text: the same on every machine and for ever.

    Args:
        canonical_text: See `canonical`.
    """
    digest = hashlib.sha256(canonical_text.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def add_split(frame: pl.DataFrame) -> pl.DataFrame:
    """Return cleaned rows with `split` (String) added."""
    texts = frame.select(canonical())["cleaned_text"]
    return frame.with_columns(pl.Series("split", [split_of(text) for text in texts], dtype=pl.String))
