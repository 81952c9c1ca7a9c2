"""What TensorRT demands of a Q/DQ graph, and what its parser does not tell: rules over an ONNX graph.

The parser refuses some mistakes with a poor message and takes others in silence (a weight quantized along
the wrong axis, Q/DQ between a convolution and its Relu): then the engine is merely slow or large.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import consumers, opset, producers, weighted_op

if TYPE_CHECKING:
    import onnx

_SMALLEST_OPSET = 13  # the first with an axis in DequantizeLinear
_SMALLEST_FP16 = 2.0**-14


@dataclass(frozen=True)
class _Graph:
    """A graph with its indices."""

    model: "onnx.ModelProto"
    makers: "dict[str, onnx.NodeProto]"
    readers: "dict[str, list[onnx.NodeProto]]"
    tensors: "dict[str, onnx.TensorProto]"

    def nodes(self, *operators: str) -> "Iterator[onnx.NodeProto]":
        return (node for node in self.model.graph.node if node.op_type in operators)

    def constant(self, name: str) -> NDArray[Any]:
        import onnx

        return onnx.numpy_helper.to_array(self.tensors[name])


_Rule = Callable[[_Graph], Iterator[str]]


def lint_qdq(model: "onnx.ModelProto") -> None:
    """Check a Q/DQ graph against TensorRT's rules.

    Raises:
        ProofError: A rule is broken; the first few findings are listed.
    """
    graph = _Graph(
        model,
        producers(model.graph),
        consumers(model.graph),
        {tensor.name: tensor for tensor in model.graph.initializer},
    )
    findings = [finding for rule in _RULES for finding in rule(graph)]
    if findings:
        raise ProofError(
            f"The Q/DQ graph breaks {len(findings)} of TensorRT's rules: {'; '.join(findings[:3])}. "
            "Optimize the model anew."
        )


def _operators_are_standard(graph: _Graph) -> Iterator[str]:
    version = opset(graph.model)
    if version < _SMALLEST_OPSET:
        yield f"opset is {version}, wanted ≥ {_SMALLEST_OPSET}"
    for node in graph.model.graph.node:
        if node.op_type.startswith("QLinear") or node.domain not in {"", "ai.onnx"}:
            yield f"{node.name}: operator {node.domain or 'ai.onnx'}:{node.op_type} is unknown to TensorRT"


def _zero_points_are_int8_zeros(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
        if len(node.input) < 3:
            continue
        if node.input[2] not in graph.tensors:
            yield f"{node.name}: zero point is no constant"
            continue
        zero_point = graph.constant(node.input[2])
        if zero_point.dtype != np.int8:
            yield f"{node.name}: zero point is {zero_point.dtype}, wanted int8"
        if np.any(zero_point):
            yield f"{node.name}: zero point is not 0"


def _stored_weights_are_int8(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes("DequantizeLinear"):
        if node.input[0] in graph.tensors and graph.constant(node.input[0]).dtype != np.int8:
            yield f"{node.name}: stored as {graph.constant(node.input[0]).dtype}, wanted int8"


def _scales_are_positive(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
        if node.input[1] not in graph.tensors:
            yield f"{node.name}: scale is no constant"
            continue
        scale = graph.constant(node.input[1])
        if not np.all(np.isfinite(scale) & (scale > 0)):
            yield f"{node.name}: a scale is not positive and finite"
        elif scale.dtype == np.float16 and np.any(scale < _SMALLEST_FP16):
            yield f"{node.name}: an FP16 scale is below {_SMALLEST_FP16:.2g}"


def _activation_scales_are_scalars(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear"):
        if node.input[0] not in graph.tensors and node.input[1] in graph.tensors:
            count = graph.constant(node.input[1]).size
            if count != 1:
                yield f"{node.name}: activation has {count} scales, wanted 1"


def _layers_have_quantized_inputs(graph: _Graph) -> Iterator[str]:
    found = False
    for node in graph.model.graph.node:
        if weighted_op(node) is None:
            continue
        found = True
        for place, name in zip(("activation", "weight"), node.input, strict=False):
            maker = graph.makers.get(name)
            if maker is None or maker.op_type != "DequantizeLinear":
                yield f"{node.name}: {place} is not quantized"
    if not found:
        yield "no weighted layer"


def _weights_are_per_output_channel(graph: _Graph) -> Iterator[str]:
    for node in graph.model.graph.node:
        operation = weighted_op(node)
        maker = graph.makers.get(node.input[1]) if operation else None
        if operation is None or maker is None or maker.input[0] not in graph.tensors:
            continue
        dims, scales = graph.tensors[maker.input[0]].dims, graph.constant(maker.input[1])
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
        wanted = operation.channel_axis
        if scales.size > 1 and (axis % len(dims) != wanted or scales.size != dims[wanted]):
            found = f"{scales.size} scales on axis {axis}"
            yield f"{node.name}: weight {list(dims)} has {found}, wanted axis {wanted}"


def _outputs_are_not_quantized(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear"):
        maker = graph.makers.get(node.input[0])
        if maker is not None and weighted_op(maker) is not None and _leads_to_relu(graph, node):
            yield f"{maker.name}: Q/DQ stands between it and its Relu"


def _leads_to_relu(graph: _Graph, quantize: "onnx.NodeProto") -> bool:
    dequantized = graph.readers.get(quantize.output[0], [])
    after = [reader for node in dequantized for reader in graph.readers.get(node.output[0], [])]
    return any(node.op_type in {"Relu", "Clip"} for node in after)


_RULES: tuple[_Rule, ...] = (
    _operators_are_standard,
    _zero_points_are_int8_zeros,
    _stored_weights_are_int8,
    _scales_are_positive,
    _activation_scales_are_scalars,
    _layers_have_quantized_inputs,
    _weights_are_per_output_channel,
    _outputs_are_not_quantized,
)
