"""Reads out of an ONNX file in what precision its weighted layers really are."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.artifact import Precision, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.onnx_graph import (
    inferred,
    load_graph,
    producers,
    shape_of,
    values,
    weighted_op,
    without_weights,
)

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]

# Seen through on the way from an operand to what is stored: the number of values stays.
_SAME_TYPE = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
_SAME_VALUES = frozenset({*_SAME_TYPE, "QuantizeLinear", "DequantizeLinear", "Cast"})
_UNREAD = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"),
        *("FusedConv", "FusedMatMul", "FusedGemm", "Einsum", "LSTM", "GRU", "RNN", "Attention"),
    }
)
_BIAS_BYTES = {Precision.FP16: 2, Precision.FP32: 4, Precision.INT8: 1}


def inspect_onnx(path: Path) -> Inspection:
    """Layers, leftovers and signature of an ONNX file. MACs are those of one picture.

    Weights are not read: the file is enough, also where its weights lie in another one.

    Raises:
        InputError: `path` is no ONNX file, or its graph is not sound.
    """
    model = without_weights(load_graph(path))
    graph = model.graph
    shapes = _shapes(model, path)
    reader = _LayerReader(graph, shapes)
    layers = tuple(reader.read(node) for node in graph.node if weighted_op(node) is not None)
    unread = (f"{node.name or node.output[0]} ({node.op_type})" for node in graph.node if _is_unread(node))
    initializers = {tensor.name for tensor in graph.initializer}
    operators = [node.op_type for node in graph.node]
    return Inspection(
        layers,
        operators.count("Cast"),
        operators.count("Transpose"),
        tuple(_spec(value) for value in graph.input if value.name not in initializers),
        tuple(_spec(value) for value in graph.output),
        tuple(unread),
    )


def _shapes(model: "onnx.ModelProto", path: Path) -> dict[str, Shape]:
    import onnx

    try:
        found = inferred(model, batch=1)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its graph is not sound ({reason}). Export the model anew.") from error
    return {value.name: shape_of(value) for value in values(found.graph)}


def _is_unread(node: "onnx.NodeProto") -> bool:
    """Whether a node may have weights that are not counted: graphs inside it, or another kind of operator."""
    return node.op_type in _UNREAD or any(a.HasField("g") for a in node.attribute)


def _spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return TensorSpec(value.name, shape_of(value), str(dtype))


class _LayerReader:
    """Follows the two operands of a weighted layer back to what is stored."""

    def __init__(self, graph: "onnx.GraphProto", shapes: dict[str, Shape]) -> None:
        self._makers = producers(graph)
        constants = {
            node.output[0]: attribute.t
            for node in graph.node
            for attribute in node.attribute
            if node.op_type == "Constant" and attribute.name == "value"
        }
        self._tensors: dict[str, onnx.TensorProto] = {
            **constants,
            **{tensor.name: tensor for tensor in graph.initializer},
        }
        self._shapes = shapes

    def read(self, node: "onnx.NodeProto") -> Layer:
        """Parameters, MACs and precisions of one layer."""
        operand = node.input[1]
        stored = self._stored(operand)
        if stored is None and node.op_type == "MatMul":
            operand = node.input[0]
            stored = self._stored(operand)
        weight = tuple(stored.dims) if stored is not None else ()
        bias = self._stored(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        both_int8 = all(self._is_int8(name) for name in node.input[:2])
        return Layer(
            node.name or node.output[0],
            int(np.prod(weight)) if weight else 0,
            self._macs(node, weight),
            _precision(stored.data_type) if stored is not None else Precision.FP32,
            Precision.INT8 if both_int8 else self._float_precision(operand),
            node.op_type,
            self._shapes.get(node.output[0], ())[1:],
            int(np.prod(bias.dims)) if bias is not None else 0,
            _BIAS_BYTES[_precision(bias.data_type)] if bias is not None else 4,
        )

    def _stored(self, name: str) -> "onnx.TensorProto | None":
        """The initializer behind a tensor, seen through what keeps its values."""
        tensor = self._tensors.get(name)
        while tensor is None:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in _SAME_VALUES:
                return None
            name = maker.input[0]
            tensor = self._tensors.get(name)
        return tensor

    def _is_int8(self, name: str) -> bool:
        maker = self._makers.get(name)
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _float_precision(self, name: str) -> Precision:
        """Type in which a weight enters the product: its own, or that of the scale that dequantizes it."""
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in _SAME_TYPE:
            name = maker.input[0]
            maker = self._makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[1]
        tensor = self._tensors.get(name)
        return _precision(tensor.data_type) if tensor is not None else Precision.FP32

    def _macs(self, node: "onnx.NodeProto", weight: tuple[int, ...]) -> int:
        source = self._elements(node.input[0])
        result = self._elements(node.output[0])
        if node.op_type == "Conv":
            return result * int(np.prod(weight[1:]))
        if node.op_type == "ConvTranspose":
            return source * int(np.prod(weight[1:]))
        flipped = any(a.name == "transA" and a.i for a in node.attribute)
        shape = self._shapes.get(node.input[0]) or weight  # a weight on the left has no shape of its own here
        depth = shape[-2 if flipped and len(shape) > 1 else -1] if shape else None
        return result * (depth or 0)

    def _elements(self, name: str) -> int:
        shape = self._shapes.get(name, ())
        return int(np.prod([dimension or 1 for dimension in shape])) if shape else 0


def _precision(data_type: int) -> Precision:
    import onnx

    if data_type in {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return Precision.INT8
    return Precision.FP16 if data_type == onnx.TensorProto.FLOAT16 else Precision.FP32
