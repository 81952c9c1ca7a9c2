"""Conversions between integers and floating point that a runtime cannot take into an 8-bit layer."""

from typing import TYPE_CHECKING

from edgepress.inspection.onnx_graph import consumers, weighted_op

if TYPE_CHECKING:
    import onnx

# What runtimes compute in 8 bits after an 8-bit layer, or fuse with it.
_CARRIES = frozenset(
    {
        *("Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat", "Pad", "Resize", "Slice", "Split"),
    }
)


def reformats_of(graph: "onnx.GraphProto", stored: set[str]) -> int:
    """How many Q and DQ nodes stand between an 8-bit part of a graph and a floating-point one.

    A Q after an 8-bit layer (and its Relu, its MaxPool) is that layer's own rounding, and a DQ before an
    8-bit layer is its input: both cost nothing. A Q after anything else is work, and so is a DQ before it.

    Args:
        graph: In topological order.
        stored: Names of its constants.
    """
    eight_bit, count = _EightBit(stored), 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            count += node.input[0] not in eight_bit.tensors and node.input[0] not in stored
        eight_bit.follow(node)
    readers, outputs = consumers(graph), {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.output[0] in eight_bit.weights:
            continue
        read_by = readers.get(node.output[0], [])
        is_free = all(reader.output[0] in eight_bit.tensors for reader in read_by)
        count += not is_free or node.output[0] in outputs
    return count


class _EightBit:
    """Follows 8-bit values through a graph.

    Attributes:
        tensors: Activations in 8 bits, or made from them in one go.
        weights: Weights that are dequantized.
    """

    def __init__(self, stored: set[str]) -> None:
        self.tensors: set[str] = set()
        self.weights: set[str] = set()
        self._stored = stored

    def follow(self, node: "onnx.NodeProto") -> None:
        if self._is_in_8_bits(node):
            self.tensors.update(node.output)
        elif node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            is_weight = node.input[0] in self._stored or node.input[0] in self.weights
            (self.weights if is_weight else self.tensors).update(node.output)

    def _is_in_8_bits(self, node: "onnx.NodeProto") -> bool:
        if weighted_op(node) is not None:
            return all(name in self.tensors or name in self.weights for name in node.input[:2])
        computed = [name for name in node.input if name and name not in self._stored]
        of_activations = [name for name in computed if name not in self.weights]
        known = self.tensors
        return node.op_type in _CARRIES and bool(of_activations) and known.issuperset(of_activations)
