"""Which layers of an ONNX graph are quantized: all that have a stored weight, or those that are named."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.errors import InputError, unknown_choice
from edgepress.inspection.onnx_graph import load_graph, weighted_op
from optimize.between_layers import Place, places_in_8_bits

if TYPE_CHECKING:
    import onnx

# They keep each value or choose among values: quantized once, nothing is lost by staying in 8 bits.
_EXACT = frozenset(
    {
        *("Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
        *("Slice", "Split", "Gather"),
    }
)


def name_nodes(graph: "onnx.GraphProto") -> None:
    """Give each node without a name that of its first output, in place: layers are chosen by name."""
    for node in graph.node:
        if not node.name:
            node.name = node.output[0]


def convolutions_of(path: Path) -> frozenset[str]:
    """Names of the convolutions of an ONNX file.

    Raises:
        InputError: It is no ONNX file.
    """
    graph = load_graph(path).graph
    name_nodes(graph)
    return frozenset(node.name for node in weighted_layers(graph) if not is_dense(node.op_type))


def is_dense(operator: str) -> bool:
    """Whether a weighted operator is a matrix product, as ONNX or TFLite calls it."""
    return operator in {"Gemm", "MatMul", "FULLY_CONNECTED", "BATCH_MATMUL"}


def weighted_layers(graph: "onnx.GraphProto") -> "tuple[onnx.NodeProto, ...]":
    """The convolutions and matrix products whose weight is stored, in graph order."""
    stored = {tensor.name for tensor in graph.initializer}
    return tuple(node for node in graph.node if weighted_op(node) and node.input[1] in stored)


def chosen_layers(graph: "onnx.GraphProto", layers: frozenset[str] | None) -> "tuple[onnx.NodeProto, ...]":
    """The weighted layers of these names, in graph order.

    Args:
        graph: Its nodes have names.
        layers: Names of weighted nodes; None for all.

    Raises:
        InputError: A name is that of no weighted layer; the message names the nearest.
    """
    weighted = weighted_layers(graph)
    if layers is None:
        return weighted
    unknown = sorted(layers - {node.name for node in weighted})
    if unknown and not weighted:
        raise InputError(f"Layer {unknown[0]!r} cannot be quantized: the model has no layer with weights.")
    if unknown:
        raise unknown_choice("layer", unknown[0], [node.name for node in weighted])
    return tuple(node for node in weighted if node.name in layers)


def float_layers(graph: "onnx.GraphProto", layers: frozenset[str] | None) -> list[str]:
    """Names of the weighted layers that are not among `layers`, in graph order; none where that is None."""
    if layers is None:
        return []
    return [node.name for node in graph.node if weighted_op(node) and node.name not in layers]


def split_shared_weights(graph: "onnx.GraphProto", chosen: frozenset[str]) -> None:
    """Give the other nodes a copy of their own of each stored tensor that a chosen layer reads, in place."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    read = {name for node in graph.node if node.name in chosen for name in node.input if name in tensors}
    copied: set[str] = set()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if node.name in chosen or name not in read:
                continue
            node.input[i] = f"{name}_float"
            if name not in copied:
                graph.initializer.add().CopyFrom(tensors[name])
                graph.initializer[-1].name = node.input[i]
                copied.add(name)


def between(graph: "onnx.GraphProto", chosen: frozenset[str], operators: frozenset[str]) -> frozenset[str]:
    """Names of the nodes that are worth computing in 8 bits when only `chosen` layers are.

    Args:
        graph: Its nodes have names and are in topological order.
        chosen: Names of weighted layers.
        operators: Those that have an 8-bit kernel.
    """
    stored = {tensor.name for tensor in graph.initializer}
    places = [
        Place(
            name=node.name,
            reads=tuple(name for name in node.input if name and name not in stored),
            makes=tuple(node.output),
            is_layer=weighted_op(node) is not None,
            has_kernel=node.op_type in operators,
            is_exact=node.op_type in _EXACT,
        )
        for node in graph.node
    ]
    return places_in_8_bits(places, chosen)
