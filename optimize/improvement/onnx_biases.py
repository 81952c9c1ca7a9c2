"""Biases of zeros for the layers of an ONNX file that have none, so that there is something to correct."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.inspection.onnx_graph import load
from optimize.layer_subset import weighted_layers

if TYPE_CHECKING:
    import onnx

_BIASED = frozenset({"Conv", "Gemm"})  # a MatMul has no place for one


def with_biases(source: Path, destination: Path, layers: frozenset[str] | None = None) -> tuple[str, ...]:
    """Write a file whose convolutions and Gemms have a bias, of zeros where they had none.

    Args:
        source: FP32 ONNX file; unchanged.
        destination: New file, which is written only if a bias was missing.
        layers: Names of the layers that need one; None for all.

    Returns:
        Names of the layers that got one, in graph order.

    Raises:
        InputError: `source` is no ONNX file.
    """
    import onnx

    model = load(source)
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    added = []
    for node in weighted_layers(model.graph):
        name = node.name or node.output[0]
        if not _lacks_bias(node) or (layers is not None and name not in layers):
            continue
        zeros = np.zeros(_outputs_of(node, sizes[node.input[1]]), np.float32)
        bias = _unused(f"{name}/bias", model.graph)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, bias))
        del node.input[2:]
        node.input.append(bias)
        added.append(name)
    if added:
        onnx.save(model, destination)
    return tuple(added)


def _lacks_bias(node: "onnx.NodeProto") -> bool:
    """Whether a node has no bias, and would take one as it is."""
    scaled = any(attribute.name == "beta" and attribute.f != 1 for attribute in node.attribute)
    return node.op_type in _BIASED and not any(node.input[2:]) and not scaled


def _outputs_of(node: "onnx.NodeProto", weight: "list[int]") -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return weight[0] if node.op_type == "Conv" or transposed else weight[1]


def _unused(name: str, graph: "onnx.GraphProto") -> str:
    """The name, or a longer one that no tensor of the graph has."""
    taken = {tensor.name for tensor in graph.initializer}
    taken |= {output for node in graph.node for output in node.output}
    while name in taken:
        name += "_"
    return name
