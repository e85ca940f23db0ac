"""Quantization: a bundle's network with weights of 8 bits, where it is as good with them."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from containers.serve.predictor import MANIFEST, NETWORK, TOKENIZER, Predictor
from tasks.bundle import write_manifest
from tasks.evaluation import macro_recall

TOLERANCE = 0.002
"""Most that macro recall may fall by."""


class Quantization(BaseModel):
    """What became of a network's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["int8", "fp32"] = Field(description="Of the weights that are kept.")
    fall: float | None = Field(
        description="By how much macro recall on the validation rows falls with 8 bits; less than 0 if it "
        "rises, null if it was not tried."
    )
    megabytes: float = Field(description="Size of the network that is kept.")

    def __str__(self) -> str:
        cost = "" if self.fall is None else f"; 8 bits cost {100 * self.fall:.2f} points of macro recall"
        return f"{self.precision} weights, {self.megabytes} MB{cost}"


def quantize_bundle(
    folder: Path, full: Predictor, texts: Iterable[str], targets: NDArray[np.int8]
) -> tuple[Predictor, Quantization]:
    """Give a bundle weights of 8 bits if macro recall falls by 0.2 points at most, and return it loaded.

    All weights but the biases become integers with one scale a matrix; what they are multiplied with is
    quantized as it comes. Source: onnxruntime, Quantize ONNX models: dynamic quantization.

    Args:
        folder: The bundle, with weights of 32 bits; its network and manifest are replaced, or nothing is.
        full: The same, loaded.
        texts: Validation texts, read twice.
        targets: int8 (n,), their labels.
    """
    with TemporaryDirectory() as scratch:
        small = Path(scratch)
        reduced = write_int8(folder, full, small)
        before, after = (
            macro_recall(targets, predictor.probabilities(texts)) for predictor in (full, reduced)
        )
        fall = before - after
        if fall <= TOLERANCE:
            for name in (NETWORK, MANIFEST):
                (folder / name).write_bytes((small / name).read_bytes())
    predictor = Predictor(folder)
    return predictor, describe(predictor, folder, fall)


def write_int8(folder: Path, full: Predictor, target: Path) -> Predictor:
    """Write a bundle as another one with weights of 8 bits, and return that loaded.

    Args:
        folder: The bundle, with weights of 32 bits.
        full: The same, loaded.
        target: An empty folder; made if need be.
    """
    target.mkdir(parents=True, exist_ok=True)
    _quantize(folder / NETWORK, target / NETWORK)
    (target / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes())
    write_manifest(target, full.metadata | {"precision": "int8"})
    return Predictor(target)


def describe(predictor: Predictor, folder: Path, fall: float | None = None) -> Quantization:
    """Return what is known of a bundle's weights, see `Quantization`."""
    megabytes = round((folder / NETWORK).stat().st_size / 1e6, 1)
    return Quantization(precision=predictor.metadata["precision"], fall=fall, megabytes=megabytes)


def _quantize(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    network = onnx.load(source)
    add_pre_process_metadata(network)  # or it advises to simplify a graph that is simple already
    quantize_dynamic(network, target, op_types_to_quantize=["Gather", "LSTM", "MatMul"])
