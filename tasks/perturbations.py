"""Perturbations: changes to a tweet that leave its sentiment alone, where `checklist` has none.

Each takes a text and returns what it becomes, drawing from `DRAW`, which the suite seeds.
Links, handles and hashtags are left whole: nobody stretches a vowel in a URL.
"""

import re
import string
from typing import Any

from tasks.cases import DRAW, checklist_tools

HANDLES = "@sam_k @the_daily_bus @northside @jo_and_co @rk"
HASHTAGS = "#monday #tuesday #today #thisweek #morning #evening"
EMOJI = "📍 📅 🕒 📎 🚪 🏢 🧾 📦"
"""Things, not feelings."""
ASIDES = (
    "It is Tuesday.",
    "I am writing this on a bus.",
    "It is ten past four.",
    "This is my second tweet today.",
)

_PLAIN = r"""(?<![^\s"(])[^\W\d_]{%d,}(?=[\s.,;!?…)"']|$)(?!\.\w)"""
_WORD = re.compile(_PLAIN % 4)
_VOWEL_WORD = re.compile(r"(?=[^\W\d_]*[aeiouAEIOU])" + _PLAIN % 3)
_SPECIAL = re.compile(r"(\S*(?://|www\.)\S*|[@#]\S+)")
_ENDING = re.compile(r"[\s.,;!?…]*")


def links(text: str) -> str:
    """Put a shortened URL after a text."""
    return f"{text} https://t.co/{''.join(DRAW.choices(string.ascii_letters + string.digits, k=10))}"


def handles(text: str) -> str:
    """Put somebody's handle before a text."""
    return f"{DRAW.choice(HANDLES.split())} {text}"


def hashtags(text: str) -> list[str]:
    """Put a hashtag of time after a text, and make a word of it one."""
    tagged = f"{text} {DRAW.choice(HASHTAGS.split())}"
    words = [match.start() for match in _WORD.finditer(text)]
    if not words:
        return [tagged]
    start = DRAW.choice(words)
    return [tagged, f"{text[:start]}#{text[start:]}"]


def emoji(text: str) -> str:
    """Put the emoji of a thing after a text."""
    return f"{text} {DRAW.choice(EMOJI.split())}"


def casing(text: str) -> list[str]:
    """Write a text in small letters, and in capitals."""
    # The odd parts are links, handles and hashtags.
    parts = _SPECIAL.split(text)
    changes = str.lower, str.upper
    return ["".join(p if i % 2 else change(p) for i, p in enumerate(parts)) for change in changes]


def elongation(text: str) -> str | None:
    """Write the first vowel of a word three times."""
    words = list(_VOWEL_WORD.finditer(text))
    if not words:
        return None
    word = DRAW.choice(words)
    longer = re.sub("[aeiou]", lambda vowel: vowel[0] * 3, word[0], count=1, flags=re.IGNORECASE)
    return text[: word.start()] + longer + text[word.end() :]


def aside(text: str) -> str:
    """Put a sentence that tells nothing of the author's feelings after a text."""
    return f"{text} {DRAW.choice(ASIDES)}"


def punctuation(doc: Any) -> list[str]:
    """Take the punctuation off the end of a spaCy `Doc`, or put a full stop there.

    checklist's own takes emoticons for punctuation, as the tagger does: what costs the text one is left out.
    """
    bare = checklist_tools().Perturb.strip_punctuation(doc)
    if not _ENDING.fullmatch(doc.text[len(bare) :]):
        return []
    changed: list[str] = checklist_tools().Perturb.punctuation(doc)
    return changed
