"""The layers of a Keras model in memory."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.artifact import Precision, TensorSpec
from edgepress.inspection.layer import Inspection, Layer

if TYPE_CHECKING:
    import keras


def inspect_keras(model: "keras.Model") -> Inspection:
    """Every layer that has weights, those of nested models too, in FP32.

    MACs are counted for convolutions and dense layers; other layers (normalizations) have 0, and all their
    variables count as parameters.
    """
    layers = [layer for layer in model._flatten_layers(include_self=False) if _is_leaf(layer)]
    return Inspection(
        tuple(_layer(layer) for layer in layers if layer.weights),
        0,
        0,
        tuple(_spec(tensor) for tensor in model.inputs),
        tuple(_spec(tensor) for tensor in model.outputs),
    )


def _is_leaf(layer: Any) -> bool:
    return not any(True for _ in layer._flatten_layers(include_self=False))


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(str(tensor.name), tuple(tensor.shape), str(tensor.dtype))


def _layer(layer: Any) -> Layer:
    shape = tuple(layer.output.shape[1:])
    kernel = tuple(layer.kernel.shape) if hasattr(layer, "kernel") else None
    counts = [int(np.prod(variable.shape)) for variable in layer.weights]
    biases = int(np.prod(layer.bias.shape)) if getattr(layer, "bias", None) is not None else 0
    kind = type(layer).__name__
    macs = 0 if kernel is None else _macs(kind, kernel, shape, tuple(layer.input.shape[1:]))
    fp32 = Precision.FP32
    return Layer(layer.name, sum(counts) - biases, macs, fp32, fp32, kind, shape, biases)


def _macs(kind: str, kernel: tuple[int, ...], result: tuple[int, ...], source: tuple[int, ...]) -> int:
    """Multiply-accumulates; Keras' kernels are (rows, columns, in, out) and (in, out)."""
    positions = int(np.prod([size or 1 for size in result[:-1]]))
    if "Transpose" in kind:
        return int(np.prod(kernel)) * int(np.prod([size or 1 for size in source[:-1]]))
    return int(np.prod(kernel)) * positions
