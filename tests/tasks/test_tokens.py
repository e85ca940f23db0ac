"""Texts become unpadded wordpieces, and a tokenizer that will not do is refused by name, with a remedy."""

import json
import shutil
import time
from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from tasks.cleaning import clean
from tasks.encoder import encoder_config
from tasks.tokens import (
    MAX_TOKENS,
    OFFLINE,
    WIDTH,
    TokenizerError,
    Tokens,
    build_tokenizer,
    encode,
    tokenizer_folder,
    word_embeddings,
)
from tests.tweets import tiny_tokenizer

CLS, SEP = 101, 102
FOLDER = tokenizer_folder(OFFLINE)
TOKENIZER = build_tokenizer(FOLDER)
UNTOUCHED = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
UNTOUCHED.no_padding()
UNTOUCHED.no_truncation()
UNLIKE = "²³¹¼½¾\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""What the two engines do not agree on, see `tasks.cleaning.RULES`."""


def rows(texts: list[str], tokenizer: Tokenizer = TOKENIZER) -> list[list[int]]:
    tokens = encode(tokenizer, texts)
    assert (tokens.values.dtype, tokens.lengths.dtype) == (np.uint16, np.int32)
    assert tokens.lengths.sum() == len(tokens.values)
    return [part.tolist() for part in np.split(tokens.values, np.cumsum(tokens.lengths))[:-1]]


def test_texts_keep_their_own_length_and_their_order() -> None:
    texts = ["Good morning to all of you out there!", "", "no", "Good morning to all of you out there!"]
    first, empty, short, again = rows(texts)
    assert first == again
    assert empty == [CLS, SEP]
    assert len(short) == 3
    for ids in (first, short):
        assert (ids[0], ids[-1]) == (CLS, SEP)
        assert not {0, CLS, SEP} & set(ids[1:-1])


def test_no_texts_make_no_tokens() -> None:
    assert rows([]) == []


@pytest.mark.parametrize("limit", [8, 16, MAX_TOKENS])
def test_long_texts_are_cut_between_the_special_tokens(limit: int) -> None:
    [ids] = rows(["word " * 500], build_tokenizer(FOLDER, limit))
    assert len(ids) == limit
    assert (ids[0], ids[-1]) == (CLS, SEP)
    [exact] = rows(["word " * (limit - 2)], build_tokenizer(FOLDER, limit))
    assert exact == ids


def test_cleaning_is_part_of_the_tokenizer() -> None:
    given, plain = rows(["RT @you: so #happy &amp; glad https://t.co/x\n", "rt : SO happy & glad"])
    assert given == plain


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNLIKE), max_size=40))
def test_tokens_are_those_of_the_text_as_the_lake_cleans_it(text: str) -> None:
    [ids] = rows([text])
    assert ids == UNTOUCHED.encode(*clean([text])).ids


def test_the_offline_package_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert (tokenizer_folder(OFFLINE) / "model.safetensors").is_file()


def test_a_folder_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FOLDER / "tokenizer.json", tmp_path)
    assert tokenizer_folder(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert tokenizer_folder(f"~/{tmp_path.name}") == tmp_path


@pytest.mark.parametrize("name", ["bert-base-uncased", "someone/something", "no such folder/at all/here"])
def test_without_network_a_hub_id_names_what_needs_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(TokenizerError, match=f"--tokenizer {OFFLINE}, which needs no network") as caught:
        tokenizer_folder(name)
    assert repr(name) in str(caught.value)
    assert time.monotonic() - began < 5


def test_a_folder_without_tokenizer_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json.*save_pretrained") as caught:
        tokenizer_folder(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "None such"}}'])
def test_a_broken_tokenizer_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match="is not a tokenizer file") as caught:
        build_tokenizer(tmp_path)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_padding_must_be_token_0(tmp_path: Path) -> None:
    content = json.loads((FOLDER / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["[PAD]"], vocabulary["[unused0]"] = vocabulary["[unused0]"], vocabulary["[PAD]"]
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[PAD]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=r"must have \[PAD\] as token 0"):
        build_tokenizer(tmp_path)


def test_each_text_has_two_tokens_at_least(tmp_path: Path) -> None:
    content = json.loads((FOLDER / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"post_processor": None}))
    with pytest.raises(TokenizerError, match=r"one token before each text.*set its post-processor"):
        build_tokenizer(tmp_path)


def test_all_that_is_needed_of_a_tokenizer_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub cannot be reached from everywhere, so what it would be asked for is looked at."""
    tiny_tokenizer(tmp_path / "hub", encoder=True)

    def fetch(name: str, allow_patterns: list[str]) -> str:
        (tmp_path / "cache").mkdir()
        for file in allow_patterns:
            shutil.copy(tmp_path / "hub" / file, tmp_path / "cache")
        return str(tmp_path / "cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert encoder_config(tokenizer_folder("someone/bert")) is not None


def weights(folder: Path, matrix: np.ndarray, name: str = "embeddings.word_embeddings.weight") -> Path:
    save_file({name: matrix, "another.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    return folder


def test_embeddings_are_centred_and_scaled(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(3, 7, (50, 8)).astype(np.float16)
    embeddings = word_embeddings(weights(tmp_path, matrix), 50)
    assert embeddings is not None
    assert (embeddings.shape, embeddings.dtype) == ((50, 8), np.float32)
    assert np.abs(embeddings.mean(axis=0)).max() < 1e-5
    assert embeddings.std() == pytest.approx(0.5, abs=1e-5)
    centred = matrix.astype(np.float32) - matrix.astype(np.float32).mean(axis=0)
    distances = (np.linalg.norm(each[:, None] - each, axis=2) for each in (embeddings, centred))
    one, other = (each / each[0, 1] for each in distances)
    np.testing.assert_allclose(one, other, atol=1e-3)  # turned, but no wordpiece is nearer to another


def test_wide_embeddings_keep_what_varies_most(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    told = random.normal(0, 5, (500, WIDTH)) @ random.normal(0, 1, (WIDTH, 200))
    matrix = (told + random.normal(0, 0.1, told.shape)).astype(np.float32)
    embeddings = word_embeddings(weights(tmp_path, matrix), 500)
    assert embeddings is not None
    assert embeddings.shape == (500, WIDTH)
    centred = matrix - matrix.mean(axis=0)
    back, *_ = np.linalg.lstsq(embeddings, centred)
    assert (embeddings @ back - centred).std() < 0.01 * centred.std()


def test_the_offline_embeddings_belong_to_the_offline_tokenizer() -> None:
    embeddings = word_embeddings(FOLDER, TOKENIZER.get_vocab_size())
    assert embeddings is not None
    assert embeddings.shape == (30522, WIDTH)


def test_embeddings_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = weights(tmp_path, np.ones((1234, 4), np.float32))
    with pytest.raises(TokenizerError, match=r"1,234 tokens for a vocabulary of 30,522.*belong together"):
        word_embeddings(folder, 30522)


def test_a_folder_without_word_embeddings_gives_none(tmp_path: Path) -> None:
    assert word_embeddings(tmp_path, 50) is None
    assert word_embeddings(weights(tmp_path, np.ones((50, 4), np.float32), "classifier.weight"), 50) is None


def test_a_broken_weights_file_is_named(tmp_path: Path) -> None:
    whole = weights(tmp_path, np.ones((50, 4), np.float32)) / "model.safetensors"
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(TokenizerError, match=r"is not a weights file.*random embeddings") as caught:
        word_embeddings(tmp_path, 50)
    assert str(whole) in str(caught.value)


def test_texts_are_encoded_alike_however_many_at_once() -> None:
    texts = [f"tweet number {number} {'very ' * (number % 5)}" for number in range(23)]
    whole = encode(TOKENIZER, texts)
    for at_once in (1, 7, 22, 23):
        parts = encode(TOKENIZER, (text for text in texts), at_once)
        np.testing.assert_array_equal(parts.values, whole.values)
        np.testing.assert_array_equal(parts.lengths, whole.lengths)
    assert encode(TOKENIZER, []).values.dtype == np.uint16


def test_ids_are_on_the_disk_in_as_few_bytes_as_their_number_allows() -> None:
    tokens = encode(TOKENIZER, ["good morning"] * 3)
    assert isinstance(tokens.values.base, memoryview) and isinstance(tokens.values.base.obj, mmap)
    large = Tokenizer.from_str(TOKENIZER.to_str())
    large.add_tokens([f"word{number}" for number in range(2**16)])
    wide = encode(large, [f"good word{2**16 - 1}"])
    assert (wide.values.dtype, wide.values.max()) == (np.int32, large.get_vocab_size() - 1)
    for each in (tokens, wide):
        assert each.block(np.array([0])).dtype == np.int32


def test_tokens_are_added_up() -> None:
    first, second = encode(TOKENIZER, ["good morning", ""]), encode(TOKENIZER, ["to all of you"])
    plain = Tokens(first.values.astype(np.int32), first.lengths)
    none = encode(TOKENIZER, [])
    for both in (first + second, plain + second, none + first + second):
        assert both.lengths.tolist() == [*first.lengths, *second.lengths]
        for row, (tokens, place) in enumerate([(first, 0), (first, 1), (second, 0)]):
            same = both.block(np.array([row])), tokens.block(np.array([place]))
            np.testing.assert_array_equal(*same)
    wide = Tokens(np.ones((3, 4), np.float16), np.array([1, 2], np.int32))
    assert ((wide + wide).values.shape, (wide + wide).values.dtype) == ((6, 4), np.float16)
