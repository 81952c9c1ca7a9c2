"""A Q/DQ graph with its indices, for the rules of `qdq_lint`."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgepress.inspection.onnx_graph import (
    consumers,
    inferred,
    producers,
    values,
    weighted_op,
    without_weights,
)

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class QdqGraph:
    """A graph and what is asked of it.

    Attributes:
        model: The whole.
        left_in_float: Names of the weighted layers that are not to be quantized.
        makers: The node that makes each tensor.
        readers: The nodes that read each tensor.
        tensors: The initializers.
        types: Element type of each tensor, as far as it can be told.
    """

    model: "onnx.ModelProto"
    left_in_float: frozenset[str]
    makers: "dict[str, onnx.NodeProto]"
    readers: "dict[str, list[onnx.NodeProto]]"
    tensors: "dict[str, onnx.TensorProto]"
    types: dict[str, int]

    @classmethod
    def of(cls, model: "onnx.ModelProto", left_in_float: frozenset[str]) -> "QdqGraph":
        """Index a model."""
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        makers, readers = producers(model.graph), consumers(model.graph)
        return cls(model, left_in_float, makers, readers, tensors, _types(model))

    def nodes(self, *operators: str) -> "Iterator[onnx.NodeProto]":
        """The nodes of these operators, in order."""
        return (node for node in self.model.graph.node if node.op_type in operators)

    def layers(self) -> "Iterator[onnx.NodeProto]":
        """The layers whose weight is stored, as it is or quantized, in order."""
        for node in self.model.graph.node:
            if weighted_op(node) is not None and self.stored(node.input[1]) is not None:
                yield node

    def maker(self, name: str, operator: str) -> "onnx.NodeProto | None":
        """The node that makes a tensor, if it is of that operator."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == operator else None

    def stored(self, name: str) -> str | None:
        """The initializer behind a tensor and its Q/DQ; None for an activation."""
        for operator in ("DequantizeLinear", "QuantizeLinear"):
            node = self.maker(name, operator)
            name = node.input[0] if node is not None else name
        return name if name in self.tensors else None

    def constant(self, name: str) -> NDArray[Any]:
        """The values of an initializer."""
        import onnx

        return onnx.numpy_helper.to_array(self.tensors[name])


Rule = Callable[[QdqGraph], Iterator[str]]


def _types(model: "onnx.ModelProto") -> dict[str, int]:
    import onnx

    graph = model.graph
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # of a foreign operator: its own finding
        graph = inferred(without_weights(model)).graph
    found = {value.name: value.type.tensor_type.elem_type for value in values(graph)}
    found |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:  # whose result is of the type of their scale, whatever the inference says
        if node.op_type == "DequantizeLinear" and node.input[1] in found:
            found[node.output[0]] = found[node.input[1]]
    return found
