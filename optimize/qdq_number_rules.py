"""TensorRT's rules for the numbers of a Q/DQ graph: operators, zero points, scales, types."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgepress.inspection.onnx_graph import opset, weighted_op
from optimize.qdq_graph import QdqGraph, Rule

if TYPE_CHECKING:
    import onnx

_SMALLEST_OPSET = 13  # the first with an axis in DequantizeLinear
_SMALLEST_OPSET_FP16 = 19  # the first with FP16 scales
_SMALLEST_FP16 = 2.0**-14  # the smallest normal number
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_UNKNOWN = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})


def _operators_are_standard(graph: QdqGraph) -> Iterator[str]:
    for node in graph.model.graph.node:
        is_foreign = node.domain not in {"", "ai.onnx"}
        if is_foreign or node.op_type.startswith("QLinear") or node.op_type in _UNKNOWN:
            yield f"{node.name}: operator {node.domain or 'ai.onnx'}:{node.op_type} is unknown to TensorRT"


def _opset_is_new_enough(graph: QdqGraph) -> Iterator[str]:
    import onnx

    version = opset(graph.model)
    if version < _SMALLEST_OPSET:
        yield f"opset is {version}, wanted ≥ {_SMALLEST_OPSET}"
    half = onnx.TensorProto.FLOAT16
    if version < _SMALLEST_OPSET_FP16 and any(
        graph.types.get(n.input[1]) == half for n in graph.nodes(*_QUANTIZERS)
    ):
        yield f"opset is {version}, wanted ≥ {_SMALLEST_OPSET_FP16} for FP16 scales"


def _zero_points_are_int8_zeros(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes(*_QUANTIZERS):
        if len(node.input) < 3 or not node.input[2]:
            continue
        if node.input[2] not in graph.tensors:
            yield f"{node.name}: zero point is no constant"
            continue
        zero_point = graph.constant(node.input[2])
        if zero_point.dtype != np.int8:
            yield f"{node.name}: zero point is {zero_point.dtype}, wanted int8"
        if np.any(zero_point):
            yield f"{node.name}: zero point is not 0"


def _stored_weights_are_int8(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes("DequantizeLinear"):
        if node.input[0] in graph.tensors and graph.constant(node.input[0]).dtype != np.int8:
            yield f"{node.name}: stored as {graph.constant(node.input[0]).dtype}, wanted int8"


def _biases_are_float(graph: QdqGraph) -> Iterator[str]:
    for node in graph.layers():
        if len(node.input) > 2 and graph.maker(node.input[2], "DequantizeLinear") is not None:
            yield f"{node.name}: bias is quantized, wanted floating point"


def _scales_are_positive(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes(*_QUANTIZERS):
        if node.input[1] not in graph.tensors:
            yield f"{node.name}: scale is no constant"
            continue
        scale = graph.constant(node.input[1])
        if not np.all(np.isfinite(scale) & (scale > 0)):
            yield f"{node.name}: a scale is not positive and finite"
        elif scale.dtype == np.float16 and np.any(scale < _SMALLEST_FP16):
            yield f"{node.name}: an FP16 scale is below {_SMALLEST_FP16:.2g}"


def _types_agree(graph: QdqGraph) -> Iterator[str]:
    """What is quantized and its scale have one type, and so have all operands of a layer."""
    for node in graph.model.graph.node:
        if node.op_type == "QuantizeLinear":
            yield from _mixed(graph, node, list(node.input[:2]), "input and scale")
        elif weighted_op(node) is not None:
            yield from _mixed(graph, node, [name for name in node.input if name], "operands")


def _mixed(graph: QdqGraph, node: "onnx.NodeProto", names: list[str], what: str) -> Iterator[str]:
    import onnx

    types = {graph.types[name] for name in names if graph.types.get(name)}
    if len(types) > 1:
        found = " and ".join(sorted(onnx.TensorProto.DataType.Name(number) for number in types))
        yield f"{node.name}: {what} are {found}, wanted one type"


NUMBER_RULES: tuple[Rule, ...] = (
    _operators_are_standard,
    _opset_is_new_enough,
    _zero_points_are_int8_zeros,
    _stored_weights_are_int8,
    _biases_are_float,
    _scales_are_positive,
    _types_agree,
)
