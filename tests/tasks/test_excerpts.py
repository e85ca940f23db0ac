"""Excerpts are whole words that stand in a row in the text, the same ones each time."""

import numpy as np

from tasks.excerpts import LONGEST, SHORTEST, cut
from tasks.tokens import OFFLINE, build_tokenizer, encode, tokenizer_folder

TOKENIZER = build_tokenizer(tokenizer_folder(OFFLINE))
TEXTS = [
    "Flibbertigibbets are unquestionably discombobulated by antidisestablishmentarianism on Tuesdays",
    "Short one",
    "",
    "one two three four five six seven eight nine ten " * 4,
    "a b c d e f",
] * 40


def test_they_are_whole_words_of_the_text_in_a_row() -> None:
    tokens = encode(TOKENIZER, TEXTS)
    found = cut(tokens, TOKENIZER)
    long = [text for text in TEXTS if len(TOKENIZER.encode(text).ids) - 2 >= 2 * SHORTEST]
    assert len(found.lengths) == len(long) == 120
    whole = {TOKENIZER.decode(TOKENIZER.encode(text).ids) for text in long}
    lengths = set()
    for row, text in enumerate(long):
        [ids] = found.block(np.array([row]))
        assert (ids[0], ids[-1]) == (TOKENIZER.token_to_id("[CLS]"), TOKENIZER.token_to_id("[SEP]"))
        said = TOKENIZER.decode(ids.tolist())
        assert f" {said} " in f" {TOKENIZER.decode(TOKENIZER.encode(text).ids)} "
        assert said not in whole
        lengths.add(len(ids) - 2)
    assert min(lengths) == SHORTEST and max(lengths) >= LONGEST


def test_they_are_the_same_ones_each_time() -> None:
    tokens = encode(TOKENIZER, TEXTS)
    one, two = (cut(tokens, TOKENIZER) for _ in range(2))
    np.testing.assert_array_equal(one.values, two.values)
    assert one.values.dtype == tokens.values.dtype


def test_there_may_be_none() -> None:
    found = cut(encode(TOKENIZER, ["Short one"]), TOKENIZER)
    assert (len(found.lengths), len(found.values)) == (0, 0)
