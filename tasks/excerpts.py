"""Excerpts: a few words of each text, for a teacher to label: what a part of a tweet says by itself.

A network that is told so learns what its words are worth, as from the labelled phrases of Socher et al.,
Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank (2013). No person need label
them, and no other texts are needed.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.disk import spill
from tasks.tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHORTEST, LONGEST = 3, 15
"""Wordpieces of an excerpt, to which the rest of its words is added."""
SEED = 1


def cut(tokens: Tokens, tokenizer: "Tokenizer") -> Tokens:
    """Return an excerpt of whole words from each text that has twice as many wordpieces as the shortest one.

    Args:
        tokens: n encoded texts, each between [CLS] and [SEP].
        tokenizer: What encoded them.
    """
    inside = continues(tokenizer)
    random = np.random.default_rng(SEED)
    ends = np.cumsum(tokens.lengths, dtype=np.int64)
    lengths: list[int] = []

    def parts() -> Iterator[memoryview]:
        for end, length in zip(ends, tokens.lengths, strict=True):
            words = length - 2
            if words < 2 * SHORTEST:
                continue
            ids = tokens.values[end - length : end]
            size = random.integers(SHORTEST, min(LONGEST, words - 1), endpoint=True)
            first = random.integers(1, words - size, endpoint=True)
            last = first + size
            while first > 1 and inside[ids[first]]:
                first -= 1
            while last <= words and inside[ids[last]]:
                last += 1
            lengths.append(last - first + 2)
            yield np.concatenate([ids[:1], ids[first:last], ids[-1:]]).data

    values = np.frombuffer(spill(parts()), tokens.values.dtype)
    return Tokens(values, np.array(lengths, np.int32))


def continues(tokenizer: "Tokenizer") -> NDArray[np.bool_]:
    """Return which wordpieces continue a word, bool (vocabulary,).

    Args:
        tokenizer: Of BERT's kind: they begin with ##.
    """
    found = np.zeros(tokenizer.get_vocab_size(), np.bool_)
    for piece, number in tokenizer.get_vocab().items():
        found[number] = piece.startswith("##")
    return found
