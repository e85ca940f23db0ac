"""The Keras graph is BERT: it says what BERT's formulas say, with the weights of the folder."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tasks.encoder import EncoderConfig, build_encoder, encoder_config, read_states
from tasks.tokens import OFFLINE, TokenizerError, Tokens, tokenizer_folder
from tests.tweets import tiny_tokenizer

Array = np.ndarray


def config_of(folder: Path) -> EncoderConfig:
    config = encoder_config(folder)
    assert config is not None
    return config


def bert(folder: Path, ids: Array) -> Array:
    """The last hidden states, float32 (B, T, D), by the formulas of Devlin et al. (2019), in NumPy."""
    config = config_of(folder)
    weights = load_file(folder / "model.safetensors")
    rows, length = ids.shape
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def dense(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normalise(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def split(x: Array) -> Array:
        return x.reshape(rows, length, heads, width).transpose(0, 2, 1, 3)

    names = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    words, positions, types = (weights[name] for name in names)
    hidden = normalise(words[ids] + positions[:length] + types[0], "embeddings.LayerNorm")
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            split(dense(hidden, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 1, 3, 2) / np.sqrt(width))
        attended = scores / scores.sum(-1, keepdims=True) @ value
        joined = attended.transpose(0, 2, 1, 3).reshape(rows, length, -1)
        hidden = normalise(
            hidden + dense(joined, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm"
        )
        x = dense(hidden, f"{layer}.intermediate.dense")
        gelu = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        hidden = normalise(hidden + dense(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return hidden


@pytest.mark.parametrize("kind", ["tiny", pytest.param("offline", marks=pytest.mark.slow)])
def test_it_is_bert(kind: str, tmp_path: Path) -> None:
    folder = tokenizer_folder(OFFLINE if kind == "offline" else tiny_tokenizer(tmp_path, encoder=True))
    lower, upper = build_encoder(folder, config_of(folder), 1)
    [*_, last] = [layer for layer in upper.layers if isinstance(layer, keras.layers.LayerNormalization)]
    ids = np.array([[2, 5, 6, 7, 3], [2, 9, 8, 9, 3]], np.int32)
    expected = bert(folder, ids)
    assert expected.std() > 0.1
    states = lower(ids)
    np.testing.assert_allclose(keras.Model(upper.input, last.output)(states), expected, atol=5e-3)
    logits = upper(states)
    assert (logits.shape, len(upper.layers[-1].get_weights())) == ((2, 3), 2)


def test_only_the_upper_layers_are_trained(tmp_path: Path) -> None:
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    found = [build_encoder(folder, config_of(folder), trained) for trained in range(4)]
    counts = [(len(lower.weights), len(upper.weights)) for lower, upper in found]
    assert counts == [(4 + 2 * 16, 2), (4 + 16, 2 + 16), (4, 2 + 2 * 16), (4, 2 + 2 * 16)]


def test_states_are_in_the_place_of_the_wordpieces(tmp_path: Path) -> None:
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    lower = build_encoder(folder, config_of(folder), 1).lower
    texts = [[2, 5, 3], [2, 9, 8, 7, 3], [2, 6, 3]]
    tokens = Tokens(np.concatenate(texts, dtype=np.int32), np.array([3, 5, 3], np.int32))
    states = read_states(lower, tokens)
    assert (states.values.shape, states.values.dtype) == ((11, lower.output.shape[-1]), np.float16)
    for row, text in enumerate(texts):
        alone = lower(np.array([text], np.int32))
        np.testing.assert_allclose(states.block(np.array([row])), alone, atol=5e-3)


def test_a_folder_without_bert_has_none(tmp_path: Path) -> None:
    assert encoder_config(Path(tiny_tokenizer(tmp_path / "plain"))) is None
    folder = Path(tiny_tokenizer(tmp_path / "bert", encoder=True))
    content = json.loads((folder / "config.json").read_text())
    for other in (content | {"model_type": "distilbert"}, {"model_type": "bert"}, []):
        (folder / "config.json").write_text(json.dumps(other))
        assert encoder_config(folder) is None


def test_weights_that_are_broken_are_told(tmp_path: Path) -> None:
    folder = Path(tiny_tokenizer(tmp_path, encoder=True))
    config, file = config_of(folder), folder / "model.safetensors"
    weights = load_file(file)
    save_file({f"bert.{name}": value for name, value in weights.items()}, file)
    assert build_encoder(folder, config, 1).upper.name == "encoder", "a prefix makes no difference"
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, file)
    with pytest.raises(TokenizerError, match=r"lacks encoder\.layer\.1\.output\.dense\.bias"):
        build_encoder(folder, config, 1)
    file.write_bytes(b"nothing")
    with pytest.raises(TokenizerError, match="is not a weights file"):
        build_encoder(folder, config, 1)
