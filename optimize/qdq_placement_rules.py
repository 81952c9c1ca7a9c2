"""TensorRT's rules for the places of Q/DQ. Its parser takes what breaks them: the engine is slow or large."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgepress.inspection.onnx_graph import weighted_op
from optimize.qdq_graph import QdqGraph, Rule

if TYPE_CHECKING:
    import onnx

_ACTIVATIONS = frozenset({"Relu", "Clip"})


def _activation_scales_are_scalars(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear"):
        if node.input[0] not in graph.tensors and node.input[1] in graph.tensors:
            count = graph.constant(node.input[1]).size
            if count != 1:
                yield f"{node.name}: activation has {count} scales, wanted 1"


def _pairs_have_one_scale(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes("DequantizeLinear"):
        quantize = graph.maker(node.input[0], "QuantizeLinear")
        scales = [n.input[1] for n in (node, quantize) if n is not None]
        if len(scales) == 2 and all(name in graph.tensors for name in scales):
            first, second = map(graph.constant, scales)
            if not np.array_equal(first, second):
                yield f"{node.name}: its scale is not that of the Q before it"


def _layers_have_quantized_inputs(graph: QdqGraph) -> Iterator[str]:
    found = False
    for node in graph.layers():
        found = True
        wanted = node.name not in graph.left_in_float
        for place, name in zip(("activation", "weight"), node.input, strict=False):
            if (graph.maker(name, "DequantizeLinear") is not None) is wanted:
                continue
            problem = "is not quantized" if wanted else "is quantized, but the layer is left in float"
            yield f"{node.name}: {place} {problem}"
    if not found:
        yield "no weighted layer"


def _weights_are_per_output_channel(graph: QdqGraph) -> Iterator[str]:
    for node in graph.layers():
        operation, maker = weighted_op(node), graph.maker(node.input[1], "DequantizeLinear")
        stored = graph.stored(node.input[1])
        if operation is None or maker is None or stored is None or maker.input[1] not in graph.tensors:
            continue
        dims, scales = graph.tensors[stored].dims, graph.constant(maker.input[1])
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
        wanted = operation.channel_axis
        if scales.size > 1 and (axis % len(dims) != wanted or scales.size != dims[wanted]):
            found = f"{scales.size} scales on axis {axis}"
            yield f"{node.name}: weight {list(dims)} has {found}, wanted axis {wanted}"


def _results_are_fused_before_they_are_quantized(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear"):
        layer = _layer_before(graph, node.input[0])
        if layer is not None and _leads_to_activation(graph, node):
            yield f"{layer.name}: Q/DQ stands between it and its Relu"


def _layer_before(graph: QdqGraph, name: str) -> "onnx.NodeProto | None":
    """The layer that makes a tensor, seen through its bias and normalization."""
    maker = graph.makers.get(name)
    while maker is not None and maker.op_type in {"Add", "BatchNormalization"}:
        maker = next((graph.makers[name] for name in maker.input if name in graph.makers), None)
    return maker if maker is not None and weighted_op(maker) is not None else None


def _leads_to_activation(graph: QdqGraph, quantize: "onnx.NodeProto") -> bool:
    return any(node.op_type in _ACTIVATIONS for node in _after(graph, quantize))


def _after(graph: QdqGraph, quantize: "onnx.NodeProto") -> "Iterator[onnx.NodeProto]":
    """What reads the dequantized result of a Q."""
    for dequantize in graph.readers.get(quantize.output[0], []):
        for name in dequantize.output:
            yield from graph.readers.get(name, [])


def _pairs_feed_layers(graph: QdqGraph) -> Iterator[str]:
    for node in graph.nodes("QuantizeLinear"):
        if node.input[0] in graph.tensors:
            continue
        after = list(_after(graph, node))
        is_read = any(weighted_op(reader) is not None for reader in after)
        if not is_read and not _leads_to_activation(graph, node):
            yield f"{node.name}: Q/DQ stands before no weighted layer, where it gains nothing"


PLACEMENT_RULES: tuple[Rule, ...] = (
    _activation_scales_are_scalars,
    _pairs_have_one_scale,
    _layers_have_quantized_inputs,
    _weights_are_per_output_channel,
    _results_are_fused_before_they_are_quantized,
    _pairs_feed_layers,
)
