"""Names of groups are exchanged within their group, and nothing else changes."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from tasks import names
from tasks.material import Material, complete
from tasks.tokens import OFFLINE, Tokens, build_tokenizer, encode, tokenizer_folder
from tasks.training import Examples, TrainParameters
from tasks.vocabulary import GROUPS

TOKENIZER = build_tokenizer(tokenizer_folder(OFFLINE))
TEXTS = [
    "My gay uncle met a Polish baker",
    "no such word here",
    "",
    "Blackbirds and whiteboards",
    "gays, asians",
]


def examples(copies: int) -> Examples:
    texts = TEXTS * copies
    labels = np.arange(len(texts), dtype=np.int8) % 3
    return Examples(encode(TOKENIZER, texts), labels, np.eye(3, dtype=np.float32)[labels], made_up=copies)


def words(tokens: Tokens) -> list[list[str]]:
    rows = np.arange(len(tokens.lengths))
    return [TOKENIZER.decode(tokens.block(rows[[row]])[0].tolist()).split() for row in rows]


@pytest.fixture(scope="module")
def exchanged() -> tuple[Examples, Examples]:
    before = examples(1_500)
    return before, names.exchange(before, TOKENIZER, 1)


def test_each_name_of_a_group_comes_in_place_of_one(exchanged: tuple[Examples, Examples]) -> None:
    _, after = exchanged
    said = words(after.tokens)
    one_piece = {
        group: {name.lower() for name in listed if len(TOKENIZER.encode(name).ids) == 3}
        for group, listed in GROUPS.items()
    }
    firsts = said[:: len(TEXTS)]
    assert {text[1] for text in firsts} == one_piece["sexuality"] >= {"gay", "lesbian", "bisexual"}
    assert {text[5] for text in firsts} == one_piece["nationality"] >= {"polish", "chinese"}
    shares = np.unique([text[1] for text in firsts], return_counts=True)[1] / len(firsts)
    np.testing.assert_allclose(shares, 1 / len(shares), atol=0.05)
    for text in firsts:
        assert text[:1] + text[2:5] + text[6:] == ["my", "uncle", "met", "a", "baker"]


def test_other_words_answers_and_order_stay(exchanged: tuple[Examples, Examples]) -> None:
    before, after = exchanged
    old, new = words(before.tokens), words(after.tokens)
    for row in range(1, len(TEXTS)):
        assert new[row :: len(TEXTS)] == old[row :: len(TEXTS)]
    np.testing.assert_array_equal(after.tokens.lengths, before.tokens.lengths)
    assert after.tokens.values.dtype == before.tokens.values.dtype
    np.testing.assert_array_equal(after.distributions(), before.distributions())
    np.testing.assert_array_equal(after.targets, before.targets)
    assert after.made_up == before.made_up


def test_equal_seeds_draw_equal_names(exchanged: tuple[Examples, Examples]) -> None:
    before, after = exchanged
    np.testing.assert_array_equal(names.exchange(before, TOKENIZER, 1).tokens.values, after.tokens.values)
    assert (names.exchange(before, TOKENIZER, 2).tokens.values != after.tokens.values).any()


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 12, 13])
def test_texts_are_read_some_at_a_time(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "AT_ONCE", 4)
    gay = Examples(encode(TOKENIZER, ["he is gay"] * rows), np.zeros(rows, np.int8))
    said = words(names.exchange(gay, TOKENIZER, 1).tokens)
    assert [text[:2] for text in said] == [["he", "is"]] * rows
    assert (len({text[2] for text in said}) > 1) == (rows > 1)


def test_an_unknown_word_is_no_name() -> None:
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "he", "is", "black", "asian"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokens = Tokens(np.array([2, 4, 5, 1, 6, 3] * 50, np.uint16), np.full(50, 6, np.int32))
    made = names.exchange(Examples(tokens, np.zeros(50, np.int8)), tokenizer, 1).tokens.values.reshape(-1, 6)
    assert set(made[:, 4]) == {6, 7}
    np.testing.assert_array_equal(made[:, [0, 1, 2, 3, 5]], [[2, 4, 5, 1, 3]] * 50)


def test_names_are_exchanged_where_there_are_drills() -> None:
    rows = examples(40)
    material = Material(TOKENIZER, rows, rows, TOKENIZER.get_vocab_size(), None)
    for drills in ("on", "off"):
        made = complete(TrainParameters(labels="human", drills=drills), material).train.tokens
        size = len(rows.tokens.values)
        same = np.array_equal(made.values[:size], rows.tokens.values)
        assert same == (drills == "off")
