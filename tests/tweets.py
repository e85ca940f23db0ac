"""Made-up rows of the warehouse, and a tokenizer that knows their words and no others."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from tasks.rows import LabelKind, Labelled, labelled_rows

TELLING = (("noon", "tuesday"), ("hate", "terrible"), ("love", "great"))
"""Words of the neutral, negative and positive rows."""
FILLING = "the train is here again and we saw that film with a friend of ours in town".split()


def tweets(train: int = 240, validation: int = 60, test: int = 120, seed: int = 1) -> pl.DataFrame:
    """Return rows as the ETL loads them: one word tells the weak label, and people agree on every second row.

    Args:
        train: Number of rows to learn from.
        validation: Number of rows to choose the epoch by.
        test: Number of held-out rows.
        seed: Of the words.
    """
    draw = random.Random(seed)
    splits = ["train"] * train + ["validation"] * validation + ["test"] * test
    labels = [number % 3 for number in range(len(splits))]
    texts = []
    for label in labels:
        words = draw.choices(FILLING, k=draw.randint(3, 5))
        words.insert(draw.randint(0, len(words)), draw.choice(TELLING[label]))
        texts.append(" ".join(words))
    return pl.DataFrame(
        {
            "id": [f"made-up:{number:05}" for number in range(len(splits))],
            "created_at": [datetime(2024, 1, 1, tzinfo=UTC)] * len(splits),
            "lang": "en",
            "username": None,
            "source": "made-up",
            "text": texts,
            "cleaned_text": texts,
            "tokens": texts,
            "polarity": [(0.0, -0.5, 0.5)[label] for label in labels],
            "label": labels,
            "human_label": [label if number % 2 else None for number, label in enumerate(labels)],
            "split": splits,
        },
        schema_overrides={"username": pl.String, "label": pl.Int8, "human_label": pl.Int8},
    )


def chosen(rows: pl.DataFrame, labels: LabelKind, batch: int = 50_000) -> Labelled:
    """Return rows as training reads them, in batches of so many."""
    read = rows.select("id", "text", "label", "human_label", "split")
    parts = (read.filter(pl.col("split") == split).iter_slices(batch) for split in ("train", "validation"))
    return labelled_rows(*parts, labels)


def tiny_tokenizer(folder: Path, encoder: bool = False) -> str:
    """Write a tokenizer with embeddings of 16 numbers and return the folder, for `--tokenizer`.

    Args:
        folder: Where to; made if need be.
        encoder: Write a BERT of two layers, too.
    """
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *FILLING,
        *(word for words in TELLING for word in words),
    ]
    vocabulary = list(dict.fromkeys(vocabulary))
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = {"embeddings.word_embeddings.weight": _random(len(vocabulary), 16)}
    if encoder:
        weights |= _bert_layers()
        (folder / "config.json").write_text(json.dumps(BERT))
    save_file(weights, folder / "model.safetensors")
    return str(folder)


BERT = {
    **{"model_type": "bert", "hidden_size": 16, "intermediate_size": 24, "layer_norm_eps": 1e-12},
    **{"max_position_embeddings": 128, "num_attention_heads": 2, "num_hidden_layers": 2},
}


def _bert_layers() -> dict[str, np.ndarray]:
    width, inner = 16, 24
    normalised = ["embeddings.LayerNorm"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.position_embeddings.weight": (128, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        attention = [f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")]
        dense = dict.fromkeys(attention, (width, width))
        dense |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
        for name, shape in dense.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        normalised += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes |= {f"{name}.{part}": (width,) for name in normalised for part in ("weight", "bias")}
    weights = {name: 0.3 * _random(*shape) for name, shape in shapes.items()}
    return weights | {f"{name}.weight": 1 + weights[f"{name}.weight"] for name in normalised}


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
