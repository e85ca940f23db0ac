"""Names: those of groups of people, drawn anew in what is learned, so that none comes to mean an opinion.

A tweet says what it says whatever group it speaks of. To exchange a name in place takes no time, unlike a
copy with another one. Source: Hall Maudslay et al., It's All in the Name: Mitigating Gender Bias with
Name-Based Counterfactual Data Substitution (2019).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.disk import spill
from tasks.excerpts import continues
from tasks.tokens import AT_ONCE, Tokens
from tasks.training import Examples
from tasks.vocabulary import GROUPS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer


def exchange(examples: Examples, tokenizer: "Tokenizer", seed: int) -> Examples:
    """Return examples in which each name is one of the same group's names, each as likely; answers stay.

    Args:
        examples: Encoded texts, each between [CLS] and [SEP].
        tokenizer: What encoded them. Names that it splits stay as they are, and are never drawn.
        seed: Of what is drawn.
    """
    tokens = examples.tokens
    groups = [_whole(names, tokenizer).astype(tokens.values.dtype) for names in GROUPS.values()]
    goes_on = continues(tokenizer)
    draw = np.random.default_rng(seed)
    ends = np.cumsum(tokens.lengths, dtype=np.int64)

    def parts() -> Iterator[memoryview]:
        start = 0
        for end in [*ends[AT_ONCE - 1 : -1 : AT_ONCE], *ends[-1:]]:
            ids = tokens.values[start:end].copy()
            alone = ~goes_on[np.roll(ids, -1)]  # the last one is [SEP]
            for names in groups:
                found = np.flatnonzero(np.isin(ids, names) & alone)
                ids[found] = draw.choice(names, len(found))
            yield ids.data
            start = end

    values = np.frombuffer(spill(parts()), tokens.values.dtype)
    return replace(examples, tokens=Tokens(values, tokens.lengths))


def _whole(names: tuple[str, ...], tokenizer: "Tokenizer") -> "NDArray[np.int64]":
    """Return the ids of those names that are one wordpiece each, and not merely one that is unknown."""
    found = {name.lower(): tokenizer.encode(name, add_special_tokens=False) for name in names}
    known = {one.ids[0] for name, one in found.items() if [piece.lower() for piece in one.tokens] == [name]}
    return np.array(sorted(known), np.int64)
