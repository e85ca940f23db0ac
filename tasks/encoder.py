"""The encoder: BERT as it lies in a tokenizer's folder, as a Keras graph that classifies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.dataset import groups
from tasks.disk import blank
from tasks.labelling import LABELS
from tasks.tokens import CONFIG_FILE, WEIGHTS_FILE, TokenizerError, Tokens

if TYPE_CHECKING:
    import keras

DROPOUT = 0.1
AT_ONCE = 256


class EncoderConfig(BaseModel):
    """What the graph depends on; the file says more."""

    model_config = ConfigDict(frozen=True)

    model_type: str
    hidden_size: int
    intermediate_size: int
    layer_norm_eps: float
    max_position_embeddings: int
    num_attention_heads: int
    num_hidden_layers: int


class _Weights(dict[str, NDArray[np.float32]]):
    """The weights of a folder, by Hugging Face's names."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        self._file = folder / WEIGHTS_FILE
        try:
            found = load_file(self._file)
        except SafetensorError as error:
            raise TokenizerError(
                f"{self._file} is not a weights file: {error}. Copy it again from where it is whole."
            ) from error
        numbers = {name: value for name, value in found.items() if value.dtype.kind == "f"}
        super().__init__(
            {name.removeprefix("bert."): value.astype(np.float32) for name, value in numbers.items()}
        )

    def __missing__(self, name: str) -> NDArray[np.float32]:
        raise TokenizerError(
            f"{self._file} lacks {name}, which {CONFIG_FILE} asks for: copy the folder again from where it "
            "is whole, or set --teacher off."
        )


def encoder_config(folder: Path) -> EncoderConfig | None:
    """Return what a folder says of its encoder, or None if it has no BERT with weights.

    Args:
        folder: See `tasks.tokens.tokenizer_folder`.
    """
    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        return None
    try:
        found = EncoderConfig.model_validate(json.loads((folder / CONFIG_FILE).read_bytes()))
    except (ValueError, ValidationError):  # of another kind of network
        return None
    return found if found.model_type == "bert" else None


class Encoder(NamedTuple):
    """BERT in two parts: what stays as it is, and what is trained."""

    lower: "keras.Model"
    """From ids, int32 (B, T), to states (B, T, D)."""
    upper: "keras.Model"
    """From states, float16 (B, T, D), to logits, float32 (B, 3)."""


def build_encoder(folder: Path, config: EncoderConfig, trained_layers: int) -> Encoder:
    """Return BERT with a new layer on top, cut below the layers that are trained.

    There is no mask, so the texts of a batch must have one length. Source: Devlin et al., BERT (2019);
    weights and names as in Hugging Face's BertModel.

    Args:
        folder: Has the weights.
        config: What the folder says of them.
        trained_layers: The upper ones that are trained on; all below stays as it is.

    Raises:
        TokenizerError: The weights are broken, or not what the config says.
    """
    import keras
    from keras import layers, ops

    weights = _Weights(folder)
    cut = max(0, config.num_hidden_layers - trained_layers)
    ids = keras.Input((None,), dtype="int32", name="input_ids")
    words = weights["embeddings.word_embeddings.weight"]
    # All texts are first sentences: what says so is added to the positions once.
    positions = weights["embeddings.position_embeddings.weight"]
    positions = positions + weights["embeddings.token_type_embeddings.weight"][0]
    hidden = _embedding(words)(ids) + _embedding(positions)(ops.cumsum(ops.ones_like(ids), axis=1) - 1)
    hidden = _normalise(config, weights, "embeddings.LayerNorm")(hidden)
    for number in range(cut):
        hidden = _layer(hidden, config, weights, number)
    lower = keras.Model(ids, hidden, name="lower", trainable=False)

    states = keras.Input((None, config.hidden_size), dtype="float16", name="states")
    hidden = layers.Identity()(states)  # casts to what the layers reckon with
    for number in range(cut, config.num_hidden_layers):
        hidden = _layer(hidden, config, weights, number)
    pooled = [layers.GlobalAveragePooling1D()(hidden), layers.GlobalMaxPooling1D()(hidden)]
    logits = layers.Dense(len(LABELS), dtype="float32")(layers.Dropout(DROPOUT)(layers.Concatenate()(pooled)))
    return Encoder(lower, keras.Model(states, logits, name="encoder"))


def read_states(
    lower: "keras.Model", tokens: Tokens, on_step: Callable[[int], None] = lambda steps: None
) -> Tokens:
    """Return what the lower layers make of texts, once for all epochs, in a file that goes with it.

    Args:
        lower: See `Encoder`.
        tokens: n encoded texts.
        on_step: Called after each batch with 1.

    Returns:
        States, float16 (total, D), in the place of the ids.
    """
    found = Tokens(blank((len(tokens.values), lower.output.shape[-1]), np.float16), tokens.lengths)
    for rows in groups(tokens.lengths, AT_ONCE):
        found.put(rows, lower.predict_on_batch(tokens.block(rows)))
        on_step(1)
    return found


def _layer(
    hidden: "keras.KerasTensor", config: EncoderConfig, weights: _Weights, number: int
) -> "keras.KerasTensor":
    """Add attention and feed-forward network, each with what went in added to what comes out."""
    from keras import layers, ops

    name = f"encoder.layer.{number}"
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    attention = layers.MultiHeadAttention(heads, width, dropout=DROPOUT)
    attended = attention(hidden, hidden)
    projections = []
    for part in ("query", "key", "value"):
        kernel, bias = _dense_weights(weights, f"{name}.attention.self.{part}")
        projections += [kernel.reshape(-1, heads, width), bias.reshape(heads, width)]
    kernel, bias = _dense_weights(weights, f"{name}.attention.output.dense")
    attention.set_weights([*projections, kernel.reshape(heads, width, -1), bias])

    normalise = _normalise(config, weights, f"{name}.attention.output.LayerNorm")
    hidden = normalise(hidden + layers.Dropout(DROPOUT)(attended))
    inner = ops.gelu(_dense(weights, f"{name}.intermediate.dense")(hidden), approximate=True)
    outer = _dense(weights, f"{name}.output.dense")(inner)
    normalise = _normalise(config, weights, f"{name}.output.LayerNorm")
    return normalise(hidden + layers.Dropout(DROPOUT)(outer))


def _embedding(values: NDArray[np.float32]) -> Any:
    from keras import initializers, layers

    return layers.Embedding(*values.shape, embeddings_initializer=initializers.Constant(values))


def _dense(weights: _Weights, name: str) -> Any:
    from keras import initializers, layers

    kernel, bias = map(initializers.Constant, _dense_weights(weights, name))
    units = weights[f"{name}.bias"].shape[0]
    return layers.Dense(units, kernel_initializer=kernel, bias_initializer=bias)


def _dense_weights(weights: _Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return weights[f"{name}.weight"].T, weights[f"{name}.bias"]


def _normalise(config: EncoderConfig, weights: _Weights, name: str) -> Any:
    from keras import initializers, layers

    gamma, beta = (initializers.Constant(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return layers.LayerNormalization(
        epsilon=config.layer_norm_eps, gamma_initializer=gamma, beta_initializer=beta
    )
