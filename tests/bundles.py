"""A tiny real bundle: it averages word scores, and knows four words."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer, Replace, Sequence
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

LABELS = ["neutral", "negative", "positive"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "love", "great", "hate", "terrible"]
SCORES = {"love": (0, 0, 9), "great": (0, 0, 9), "hate": (0, 9, 0), "terrible": (0, 9, 0)}
MAX_LENGTH = 32


def build_bundle(folder: Path, *, flipped: bool = False, **metadata: Any) -> str:
    """Write a bundle in which love and great are positive, hate and terrible negative; return its digest.

    Args:
        folder: Where to; made if need be.
        flipped: Swap positive and negative: a bundle that loads and answers, but is wrong.
        metadata: Further entries of bundle.json, or others instead of its usual ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(_network(flipped), str(folder / "model.onnx"))
    return write_manifest(folder, **metadata)


def write_manifest(folder: Path, **metadata: Any) -> str:
    """Write bundle.json for the files as they are and return its digest."""
    names = ("model.onnx", "tokenizer.json")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = {"format": 1, "labels": LABELS, "files": files, "network": "tiny"}
    content = json.dumps(manifest | metadata).encode()
    (folder / "bundle.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    cleaning = Replace(Regex(r"https?://\S+|@\w+"), " ")
    tokenizer.normalizer = Sequence([cleaning, Replace("#", " "), BertNormalizer(lowercase=True)])
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def _network(flipped: bool) -> onnx.ModelProto:
    """Return softmax(sum of the word scores within the length / length)."""
    table = np.array([SCORES.get(word, (1, 0, 0)) for word in VOCABULARY], np.float32)
    table[0] = 1000  # padding that is not masked out shows
    if flipped:
        table = table[:, [0, 2, 1]]
    constants = {"table": table, "zero": np.int32(0), "one": np.int32(1), "axes": np.array([1], np.int64)}
    constants["last"] = np.array([-1], np.int64)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["scores"]),  # (batch, time, labels)
        helper.make_node("Shape", ["input_ids"], ["time"], start=1),
        helper.make_node("Squeeze", ["time"], ["time64"]),
        helper.make_node("Cast", ["time64"], ["time32"], to=TensorProto.INT32),
        helper.make_node("Range", ["zero", "time32", "one"], ["positions"]),  # (time,)
        helper.make_node("Unsqueeze", ["lengths", "axes"], ["column"]),  # (batch, 1)
        helper.make_node("Less", ["positions", "column"], ["inside"]),  # (batch, time)
        helper.make_node("Cast", ["inside"], ["mask2"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask2", "last"], ["mask"]),
        helper.make_node("Mul", ["scores", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["column"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Softmax", ["mean"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "time"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
