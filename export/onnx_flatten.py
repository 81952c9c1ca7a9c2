"""A Flatten in Keras' order (rows, columns, channels), of a graph whose tensors have the channels first.

Where all that follows is elementwise or a dense layer, the values may have another order, if the rows of the
dense layer's kernel change theirs as well: no Transpose is left. Where the order shows (an output, a
concatenation), the Transpose stays.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.onnx_draft import ELEMENTWISE, Draft, permutation, replace_input
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx


def fold_flatten_order(draft: Draft) -> None:
    """Remove a Transpose before a Flatten: the rows of the dense layer's kernel change their order."""
    for node in list(draft.graph.node):
        axes = permutation(draft.producers().get(node.input[0])) if node.op_type == "Reshape" else None
        if axes is None or axes[0] != 0:
            continue
        before = draft.shapes.get(node.input[0], ())[1:]
        shape = tuple(dim for dim in before if dim is not None)
        target = draft.shapes.get(node.output[0], ())
        if len(shape) < len(before) or len(target) != 2 or target[1] != math.prod(shape):
            continue
        changes = _takers_in_order(node.output[0], _Flattening(shape, axes), draft)
        if changes is not None:
            node.input[0] = draft.producers()[node.input[0]].input[0]
            draft.reordered.add(node.output[0])
            for change in changes:
                change.apply(draft)
    draft.sort()


@dataclass(frozen=True)
class _Flattening:
    """A Transpose and the Flatten behind it.

    Attributes:
        shape: Of one picture's tensor before the Flatten.
        axes: What the Transpose does, the batch's axis included.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def undone(self, weight: Weight) -> Weight:
        """A constant whose first axis follows the Flatten, in the order that there is without Transpose."""
        shape = (*self.shape, *weight.shape[1:])
        inverse = [int(axis) - 1 for axis in np.argsort(self.axes)[1:]]
        order = (*inverse, *range(len(inverse), len(shape)))
        return weight.reshaped(shape).transposed(order).reshaped(weight.shape)


@dataclass(frozen=True)
class _NewOrder:
    """A node that is to take its data in another order, and those of its constants that follow."""

    node: "onnx.NodeProto"
    constants: tuple[str, ...]
    flattening: _Flattening

    def apply(self, draft: Draft) -> None:
        """Let the node read its constants in their new order."""
        dense = self.node.op_type == "Gemm"
        for name in self.constants:
            weight = draft.constants[name]
            rows = weight if dense else weight.reshaped((weight.size,))
            replace_input(
                self.node, name, draft.add_constant(f"{name}/in_order", self.flattening.undone(rows))
            )
        if not dense:
            draft.reordered.add(self.node.output[0])


def _takers_in_order(name: str, flattening: _Flattening, draft: Draft) -> list[_NewOrder] | None:
    """What must change so that all that follows a Flatten takes it in another order; None if it cannot."""
    if any(output.name == name for output in draft.graph.output):
        return None
    found: list[_NewOrder] = []
    for node in draft.consumers().get(name, []):
        if node.op_type == "Gemm" and node.input[0] == name and node.input[1] in draft.constants:
            found.append(_NewOrder(node, (node.input[1],), flattening))
            continue
        features = math.prod(flattening.shape)
        vectors = tuple(c for c in node.input if c in draft.constants and draft.constants[c].size > 1)
        if (
            node.op_type not in ELEMENTWISE
            or draft.data_inputs(node) != [name]
            or any(draft.constants[c].size != features for c in vectors)
        ):
            return None
        behind = _takers_in_order(node.output[0], flattening, draft)
        if behind is None:
            return None
        found += [_NewOrder(node, vectors, flattening), *behind]
    return found
