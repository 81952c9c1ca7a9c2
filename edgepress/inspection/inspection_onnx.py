"""Reads out of an ONNX file in what precision its weighted layers really are."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.artifact import Precision, TensorSpec
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.onnx_graph import (
    inferred,
    load,
    producers,
    shape_of,
    values,
    weighted_op,
    without_weights,
)

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]


def inspect_onnx(path: Path) -> Inspection:
    """Layers, leftovers and signature of an ONNX file. MACs are those of one picture.

    Raises:
        InputError: `path` is no ONNX file.
    """
    model = without_weights(load(path))
    graph = model.graph
    shapes = {value.name: shape_of(value) for value in values(inferred(model, batch=1).graph)}
    reader = _LayerReader(graph, shapes)
    layers = tuple(reader.read(node) for node in graph.node if weighted_op(node) is not None)
    initializers = {tensor.name for tensor in graph.initializer}
    operators = [node.op_type for node in graph.node]
    return Inspection(
        layers,
        operators.count("Cast"),
        operators.count("Transpose"),
        tuple(_spec(value) for value in graph.input if value.name not in initializers),
        tuple(_spec(value) for value in graph.output),
    )


def _spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return TensorSpec(value.name, shape_of(value), str(dtype))


class _LayerReader:
    """Follows the two operands of a weighted layer back to what is stored."""

    def __init__(self, graph: "onnx.GraphProto", shapes: dict[str, Shape]) -> None:
        self._makers = producers(graph)
        self._tensors: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes = shapes

    def read(self, node: "onnx.NodeProto") -> Layer:
        """Parameters, MACs and precisions of one layer."""
        stored = self._stored(node.input[1])
        weight = tuple(stored.dims) if stored is not None else ()
        both_int8 = all(self._is_int8(name) for name in node.input[:2])
        return Layer(
            node.name or node.output[0],
            int(np.prod(weight)) if weight else 0,
            self._macs(node, weight),
            _precision(stored.data_type) if stored is not None else Precision.FP32,
            Precision.INT8 if both_int8 else self._float_precision(node.input[1]),
            node.op_type,
            self._shapes.get(node.output[0], ())[1:],
            self._biases(node),
        )

    def _biases(self, node: "onnx.NodeProto") -> int:
        stored = self._stored(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return int(np.prod(stored.dims)) if stored is not None else 0

    def _stored(self, name: str) -> "onnx.TensorProto | None":
        """The initializer behind a tensor, seen through Q, DQ and Cast."""
        tensor = self._tensors.get(name)
        while tensor is None:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in {"QuantizeLinear", "DequantizeLinear", "Cast"}:
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
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        shape = weight or self._shapes.get(node.input[1], ())
        depth = shape[-1 if transposed or len(shape) == 1 else -2] if shape else 0
        return result * (depth or 0)

    def _elements(self, name: str) -> int:
        shape = self._shapes.get(name, ())
        return int(np.prod([dimension or 1 for dimension in shape])) if shape else 0


def _precision(data_type: int) -> Precision:
    import onnx

    if data_type in {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return Precision.INT8
    return Precision.FP16 if data_type == onnx.TensorProto.FLOAT16 else Precision.FP32
