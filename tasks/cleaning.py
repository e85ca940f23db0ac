"""Cleaning: what is not language goes out of a tweet, in the lake and in the served model alike."""

from collections.abc import Iterable

import polars as pl

RULES: tuple[tuple[str, str], ...] = (
    # `&amp;` comes first, so that what was escaped twice or more ends up plain.
    ("&(?:amp;)+", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&(?:quot|#34|#822[01]|[lr]dquo);", '"'),
    ("&(?:apos|#0?39|#x27|#821[67]|[lr]squo);|\u2018|\u2019", "'"),
    ("&(?:hellip|#8230);", "..."),
    ("&(?:[mn]dash|#821[12]);", "-"),
    ("&(?:nbsp|#160);", " "),
    (r"(?i)https?://\S+", " "),
    (r"(?i)\bwww\.\S+", " "),
    # A mention, with the server as on Mastodon or without, but not the middle of an e-mail address.
    (r"\B@\w+(?:@[\w.-]+)*", " "),
    ("#", ""),
    (r"\s\s+|[^\S ]", " "),  # not a space alone: there are many, and each replacement takes its time
)
"""Patterns and what replaces them, in order.

A pattern that begins with a letter or sign of its own is found several times as fast as alternatives are.
Both engines that apply them, Rust's regex (polars) and Oniguruma (the tokenizer's normalizer, see
`tasks.tokens`), read this subset alike, but for a mention or a `www.` that touches one of ²³¹¼½¾ or a
zero-width joiner: they disagree on whether those are part of a word. One table is what keeps training and
serving from drifting apart.
"""


def cleaned(column: str = "text") -> pl.Expr:
    """Return the expression of a text without HTML entities, URLs, mentions, '#' and line breaks.

    Args:
        column: Name of a String column.
    """
    text = pl.col(column)
    for pattern, replacement in RULES:
        text = text.str.replace_all(pattern, replacement.replace("$", "$$"))
    return text.str.strip_chars()


def clean(texts: Iterable[str]) -> list[str]:
    """Return each text cleaned; see `cleaned`."""
    return pl.DataFrame({"text": list(texts)}, schema={"text": pl.String}).select(cleaned())["text"].to_list()
