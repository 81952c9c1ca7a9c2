"""Names of nodes and tensors: those of Keras' layers.

A node is named after the layer that it computes: a weighted or shaping node by the layer's name alone
("fc1"), others with their operation ("fc1/Relu").

A tensor that leaves a layer, its output, has the layer's name alone; one inside a layer has its node's
operation behind it ("fc1/Gemm"). Where a layer was folded into the one before (a batch normalization), no
tensor holds what came before it: the tensor has the name of the folded layer, whose output it is, and the
node that of the layer with the kernel. What a Flatten gives is in NCHW's order and not in Keras', so its
tensor has no layer's name.

Names in nested models are joined by "/"; a layer that is called again is numbered from 2 on. Inputs and
outputs of the graph keep theirs.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from export.layer_scopes import layer_of
from export.onnx_draft import Draft
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
_ROLES = {(operation, place): role for operation in _WEIGHTED for place, role in ((1, "kernel"), (2, "bias"))}
_MAIN = frozenset({*_WEIGHTED, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape"})


def name_after_layers(draft: Draft, folded: Mapping[str, str]) -> dict[str, Weight]:
    """Name nodes, their outputs and their constants after the layers in whose scopes they were made.

    Args:
        draft: Made while `marked_layers` was open. Its inputs and outputs keep their names.
        folded: Path of a layer → path of the layer folded into it.

    Returns:
        The constants by their new names, in the order in which the nodes read them.
    """
    graph = draft.graph
    layers = _layers_of_nodes(draft, folded)
    tensors = _names_of_tensors(draft, layers, folded)
    nodes, constants = _Names(layers), _Names([])
    named: dict[str, Weight] = {}
    for node, layer in zip(graph.node, layers, strict=True):
        node.name = nodes.give(layer if layer and node.op_type in _MAIN else _inner(node, layer))
        for i, source in enumerate(node.input):
            if source in draft.constants and source not in tensors:
                role = _ROLES.get((node.op_type, i), f"constant_{i}")
                tensors[source] = constants.give(f"{node.name}/{role}")
                named[tensors[source]] = draft.constants[source]
            node.input[i] = tensors[source] if source else ""
        for i, made in enumerate(node.output):
            node.output[i] = tensors[made] if made else ""
    return named


def _layers_of_nodes(draft: Draft, folded: Mapping[str, str]) -> list[str]:
    """Path of each node's layer. tf2onnx names a Conv after its bias, which may be a normalization's.

    Or after nothing, behind a depthwise convolution with several outputs a channel: then its kernel tells.
    """
    with_kernel = {behind: layer for layer, behind in folded.items()}
    found = []
    for node in draft.graph.node:
        layer = layer_of(node.name)
        if node.op_type in _WEIGHTED:
            layer = layer or layer_of(node.input[1])
            layer = with_kernel.get(layer, layer)
        found.append(layer)
    return found


def _names_of_tensors(draft: Draft, layers: list[str], folded: Mapping[str, str]) -> dict[str, str]:
    """New names of all tensors that nodes make, and of the graph's inputs and outputs."""
    graph = draft.graph
    readers: dict[str, set[str]] = {}
    for node, layer in zip(graph.node, layers, strict=True):
        for source in node.input:
            readers.setdefault(source, set()).add(layer)
    tensors = {value.name: value.name for value in (*graph.input, *graph.output)}
    names = _Names(layers)
    for name in tensors:
        names.give(name)
    for node, layer in zip(graph.node, layers, strict=True):
        for i, made in enumerate(name for name in node.output if name and name not in tensors):
            name = _inner(node, layer)
            if layer and readers.get(made, set()) - {layer} and made not in draft.reordered:
                name = layer_of(draft.absorbed.get(made, "")) or layer
                behind = folded.get(name, name)
                name = name if behind in layers else behind
            tensors[made] = names.give(name if i == 0 else f"{name}:{i}")
    return tensors


def _inner(node: "onnx.NodeProto", layer: str) -> str:
    return f"{layer or 'graph'}/{node.op_type}"


class _Names:
    """Gives each name once; the next one gets a number, which makes it no layer's name."""

    def __init__(self, layers: Iterable[str]) -> None:
        self._layers = set(layers)
        self._taken: set[str] = set()

    def give(self, name: str) -> str:
        """The name, or one like it."""
        found, number = name, 1
        while found in self._taken or (number > 1 and found in self._layers):
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found
