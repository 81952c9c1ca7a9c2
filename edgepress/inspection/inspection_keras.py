"""The layers of a Keras model in memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgepress.artifact import Precision, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.number_type import NumberType

if TYPE_CHECKING:
    import keras

Shape = tuple[int | None, ...]

# Weights, but no product of matrices: their few operations a value are not counted as MACs. So it is where
# every weight is a vector (normalizations).
_NO_PRODUCT = frozenset({"PReLU", "Embedding"})
_CHANNELS_FIRST = "channels_first"


@dataclass(frozen=True)
class _Call:
    """A layer at one of the places where the model uses it.

    Attributes:
        layer: The Keras layer; shared layers have several calls.
        source: Shape of its input, with the batch.
        result: Shape of its output, with the batch.
    """

    layer: Any
    source: Shape
    result: Shape


def inspect_keras(model: "keras.Model") -> Inspection:
    """Every layer that has weights, those of nested models too.

    MACs are counted for convolutions, dense and EinsumDense layers, once for each place where a layer is
    used; normalizations have none. A layer that is made of others (attention, recurrence) or is the user's
    own counts no MACs and is named in `uncounted`.

    Args:
        model: Functional or Sequential, with known shapes but for the batch.

    Raises:
        InputError: It was never built, so that its layers have no shapes, or it is no graph of layers.
    """
    if not hasattr(getattr(model, "_functional", None) or model, "_nodes_by_depth"):
        raise InputError(
            f"{model.name} is no graph of layers with known shapes. "
            "Begin it with keras.Input, build it of Keras' own layers, and save it anew."
        )
    layers: dict[int, Layer] = {}
    uncounted: dict[str, None] = {}
    for call in _calls(model):
        if not call.layer.weights:
            continue
        macs = _macs(call)
        if macs is None:
            uncounted[f"{call.layer.name} ({type(call.layer).__name__})"] = None
        known = layers.get(id(call.layer))
        layers[id(call.layer)] = (
            _layer(call, macs or 0) if known is None else replace(known, macs=known.macs + (macs or 0))
        )
    return Inspection(
        tuple(layers.values()),
        0,
        0,
        tuple(_spec(tensor) for tensor in model.inputs),
        tuple(_spec(tensor) for tensor in model.outputs),
        tuple(uncounted),
    )


def _calls(model: Any) -> Iterator[_Call]:
    """Every use of a layer in the order of the model's layers; a nested model counts once for each use."""
    graph = getattr(model, "_functional", None) or model
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    for layer in graph.layers:
        for node in nodes:
            if node.operation is not layer or node.is_input:
                continue
            if hasattr(layer, "_nodes_by_depth") or hasattr(layer, "_functional"):
                yield from _calls(layer)
            else:
                source = node.arguments.keras_tensors[0].shape
                yield _Call(layer, tuple(source), tuple(node.outputs[0].shape))


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(str(tensor.name), tuple(tensor.shape), str(tensor.dtype))


def _layer(call: _Call, macs: int) -> Layer:
    layer = call.layer
    types = [(_type(variable.dtype), math.prod(variable.shape)) for variable in layer.weights]
    bias = getattr(layer, "bias", None)
    biases = math.prod(bias.shape) if bias is not None and hasattr(bias, "shape") else 0
    largest = max(types, key=lambda item: item[1])[0]
    integer = getattr(layer, "quantization_mode", None) == "int8"
    return Layer(
        layer.name,
        sum(count for _, count in types) - biases,
        macs,
        largest.precision,
        Precision.INT8 if integer else _type(layer.compute_dtype).precision,
        type(layer).__name__,
        call.result[1:],
        biases,
        sum(of.size_bytes(count) for of, count in types),
        largest.odd_name,
    )


def _type(dtype: Any) -> NumberType:
    return NumberType(str(dtype).upper())


def _macs(call: _Call) -> int | None:
    """Multiply-accumulates of one use; None if they cannot be told from the layer's type."""
    kind = type(call.layer).__name__
    if kind in _NO_PRODUCT or all(len(variable.shape) <= 1 for variable in call.layer.weights):
        return 0
    if kind == "EinsumDense":
        return _einsum_macs(call)
    kernels: list[int] = [
        math.prod(getattr(call.layer, name).shape)
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if hasattr(call.layer, name)
    ]
    if not kernels or not type(call.layer).__module__.startswith("keras."):
        return None
    # Each weight of a kernel (rows, columns, in, out) meets each position of the result once; in a transposed
    # convolution, each position of the input.
    positions = _positions(call.layer, call.source if "Transpose" in kind else call.result)
    return None if positions is None else sum(kernels) * positions


def _positions(layer: Any, shape: Shape) -> int | None:
    """How many places a kernel is applied at (all but batch and channels); None where that is not fixed."""
    first = getattr(layer, "data_format", None) == _CHANNELS_FIRST
    return _product(shape[2:] if first else shape[1:-1])


def _einsum_macs(call: _Call) -> int | None:
    """One product for each combination of all indices of the equation, but the batch's."""
    sources, _, _ = call.layer.equation.replace(" ", "").partition("->")
    source, kernel = sources.split(",")
    if "..." in sources:
        return None
    places = zip(source, call.source, strict=True), zip(kernel, call.layer.kernel.shape, strict=True)
    sizes: dict[str, int | None] = {index: size for pairs in places for index, size in pairs}
    sizes.pop(source[0])  # the batch
    return _product(tuple(sizes.values()))


def _product(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
