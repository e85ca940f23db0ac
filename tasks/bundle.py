"""The bundle: network as ONNX, tokenizer and labels in one folder, all that serving needs."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from containers.serve.predictor import FORMAT, MANIFEST, NETWORK, TOKENIZER, Predictor
from tasks.labelling import LABELS

if TYPE_CHECKING:
    import keras
    import onnx
    from tokenizers import Tokenizer

OPSET = 18
TOLERANCE = 1e-5


class ExportError(RuntimeError):
    """Raised when the exported network does not give the trained one's probabilities."""


def write_bundle(
    model: "keras.Model", tokenizer: "Tokenizer", folder: Path, metadata: dict[str, Any], probe: list[str]
) -> Predictor:
    """Write the bundle of a trained network and return it loaded; equal weights give equal bytes.

    Args:
        model: See `tasks.network.build_network`.
        tokenizer: See `tasks.tokens.build_tokenizer`.
        folder: Where to; made if need be.
        metadata: Goes into bundle.json beside the format, the labels and the files' digests.
        probe: Texts on which both forms of the network must agree to 1e-5.

    Raises:
        ExportError: They do not agree.
    """
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(model), folder / NETWORK)
    tokenizer.save(str(folder / TOKENIZER))
    write_manifest(folder, metadata | {"precision": "fp32"})
    predictor = Predictor(folder)
    difference = _difference(model, tokenizer, predictor, probe)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"The ONNX network in {folder} differs from the {model.name} network by {difference:.1e} in a "
            f"probability, more than {TOLERANCE}: an export for this graph is missing in tasks/bundle.py."
        )
    return predictor


def write_manifest(folder: Path, metadata: dict[str, Any]) -> None:
    """Write bundle.json for the files that are in a folder.

    Args:
        folder: With the network and the tokenizer.
        metadata: What it says beside the format, the labels and the files' digests.
    """
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (NETWORK, TOKENIZER)}
    manifest = {**metadata, "format": FORMAT, "labels": LABELS, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True))


def _difference(
    model: "keras.Model", tokenizer: "Tokenizer", predictor: Predictor, probe: list[str]
) -> float:
    """Return the greatest difference of a probability; 0 for no texts, NaN if one is not a number."""
    from keras import ops

    given = predictor.probabilities(probe)
    trained = np.empty_like(given)
    for row, text in enumerate(probe):
        ids = np.array([tokenizer.encode(text).ids], np.int32)
        trained[row] = ops.convert_to_numpy(ops.softmax(model(ids, training=False)))[0]
    return float(np.abs(trained - given).max(initial=0))


def to_onnx(model: "keras.Model") -> "onnx.ModelProto":
    """Return the network as ONNX: input_ids int32 (B, T), lengths int32 (B,) → probabilities (B, 3).

    Written by hand because an LSTM with lengths exported by a converter comes out in small pieces, and slow;
    here each biLSTM is one `LSTM` node with `sequence_lens` (ONNX operators, LSTM).

    Args:
        model: `stacked` or `pooled`, see `tasks.network`.
    """
    import keras
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    embedding, *layers = [layer for layer in model.layers if layer.get_weights()]
    steps = graph.add("Transpose", ["input_ids"], perm=[1, 0])  # (T, B), as LSTM wants it
    hidden = graph.add("Gather", [graph.constant(embedding.get_weights()[0]), steps], "embedded")
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.Bidirectional)]
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    for layer in recurrent[:-1]:
        hidden = graph.joined(graph.bidirectional(layer, hidden)[0], [0, 2, 1, 3])  # (T, B, 2 H)
    everything, ends = graph.bidirectional(recurrent[-1], hidden)
    if recurrent[-1].return_sequences:
        attention, heads, *dense = dense
        hidden = graph.pool(graph.joined(everything, [2, 0, 1, 3]), attention, heads)
    else:
        hidden = graph.joined(ends, [1, 0, 2])  # (B, 2 H)
    for layer in dense:
        kernel, bias = layer.get_weights()
        hidden = graph.add("Gemm", [hidden, graph.constant(kernel), graph.constant(bias)])
        if layer is not dense[-1]:
            hidden = graph.add("Relu", [hidden])
    graph.add("Softmax", [hidden], "probabilities", axis=-1)

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "time"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
    ]
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)])
    made = helper.make_graph(graph.nodes, model.name, inputs, [output], graph.initializers)
    exported = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    checker.check_model(exported)
    return exported


class _Graph:
    """Nodes and constants of an ONNX graph, named by their number."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def bidirectional(self, layer: Any, sequence: str) -> tuple[str, str]:
        """Add a biLSTM over (T, B, D): to all states (T, 2, B, H), and to the last ones (2, B, H)."""
        from onnx import helper

        cells = [layer.forward_layer.get_weights(), layer.backward_layer.get_weights()]
        weights = np.stack([_reorder(kernel).T for kernel, _, _ in cells])
        recurrent = np.stack([_reorder(kernel).T for _, kernel, _ in cells])
        bias = np.stack([np.concatenate([_reorder(bias), np.zeros_like(bias)]) for _, _, bias in cells])
        inputs = [sequence, *map(self.constant, (weights, recurrent, bias)), "lengths"]
        outputs = f"sequence_{len(self.nodes)}", f"end_{len(self.nodes)}"
        attributes = {"hidden_size": layer.forward_layer.units, "direction": "bidirectional"}
        self.nodes.append(helper.make_node("LSTM", inputs, outputs, **attributes))
        return outputs

    def joined(self, states: str, order: list[int]) -> str:
        """Order the axes of states so that both directions' come last, and make one axis of those two."""
        shape = np.array([0] * (len(order) - 2) + [-1])
        return self.add("Reshape", [self.add("Transpose", [states], perm=order), self.constant(shape)])

    def pool(self, sequence: str, attention: Any, heads: Any) -> str:
        """Pool (B, T, D) over the real tokens as `tasks.network` does; an LSTM node gives 0 for padding.

        The batch comes first as onnxruntime takes seven times as long for a maximum over the first axis.
        """
        time, last = self.constant(np.array([1])), self.constant(np.array([-1]))
        lengths = self.add("Unsqueeze", [self.add("Cast", ["lengths"], to=1), last])  # (B, 1)
        mean = self.add("Div", [self.add("ReduceSum", [sequence, time], keepdims=0), lengths])
        steps = self.add("Squeeze", [self.add("Shape", ["input_ids"], start=1, end=2)])
        zero, one = self.constant(np.array(0)), self.constant(np.array(1))
        positions = self.add("Cast", [self.add("Range", [zero, steps, one])], to=1)  # (T,)
        padding = self.add("GreaterOrEqual", [positions, lengths])  # (B, T)
        penalty = self.add(
            "Mul", [self.add("Cast", [padding], to=1), self.constant(np.array(-1e9, np.float32))]
        )
        penalty = self.add("Unsqueeze", [penalty, last])  # (B, T, 1)
        highest = self.add("ReduceMax", [self.add("Add", [sequence, penalty]), time], keepdims=0)
        looked = self.add("Tanh", [self.product(sequence, attention)])
        scores = self.add("Add", [self.product(looked, heads), penalty])
        weights = self.add("Transpose", [self.add("Softmax", [scores], axis=1)], perm=[0, 2, 1])
        found = self.add("MatMul", [weights, sequence])  # (B, HEADS, D)
        return self.add("Concat", [mean, highest, self.add("Flatten", [found])], axis=-1)

    def product(self, values: str, layer: Any) -> str:
        """Add a dense layer over the last axis, without its activation."""
        kernel, bias = map(self.constant, layer.get_weights())
        return self.add("Add", [self.add("MatMul", [values, kernel]), bias])


def _reorder(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring Keras' gates (input, forget, cell, output) into ONNX's order (input, output, forget, cell)."""
    gates = np.split(kernel, 4, axis=-1)
    return np.concatenate([gates[0], gates[3], gates[1], gates[2]], axis=-1)
