"""Shapes that a converted ONNX graph computes from the batch (Shape → Gather → … → Reshape), made constant.

All dimensions but the batch are known, so a computed shape is evaluated for two batches: what differs between
them follows the batch.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from export.conversion import Array
from export.onnx_draft import Draft
from export.onnx_folding import evaluate
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

_BATCHES = (7, 11)  # primes that are no usual size, so that no product of others is mistaken for them


def settle_resizes(draft: Draft) -> None:
    """Make the scales of each Resize give the size that they stand for.

    A size is floor(pixels * scale), and a scale such as 20 / 12, rounded to float32, may be the least bit too
    small for that: shape inference, in float64, then says 19.
    """
    for node in draft.graph.node:
        dims = draft.shapes.get(node.input[0], ()) if node.op_type == "Resize" else ()
        if len(node.input) != 3 or node.input[2] not in draft.constants or not dims:
            continue
        scales = draft.constants[node.input[2]].value().copy()
        for i, dim in enumerate(dims):
            while dim is not None and math.floor(dim * float(scales[i])) < round(dim * float(scales[i])):
                scales[i] = np.nextafter(scales[i], np.float32(np.inf))
        node.input[2] = draft.add_constant(f"{node.name}/scales", Weight.of(scales))
        draft.infer_shapes()


def make_shapes_constant(draft: Draft) -> None:
    """Replace each computed shape by a constant: a target of a Reshape by (-1, n, …), others by their value.

    A known target tells shapes behind it, on which the next one may depend: this goes on until none is new.
    """
    while _found_some(draft):
        draft.infer_shapes()
    draft.sort()


def _found_some(draft: Draft) -> bool:
    found = False
    values = _computed_shapes(draft)
    for node in draft.graph.node:
        for i, name in enumerate(node.input):
            constant = _constant(node, i, values[name]) if name in values else None
            if constant is not None:
                node.input[i] = draft.add_constant(f"{node.name}/shape", Weight.of(constant))
                found = True
        target = draft.shapes.get(node.output[0], ())
        if node.op_type == "Reshape" and node.input[1] not in draft.constants and target.count(None) == 1:
            shape = np.asarray([-1 if dim is None else dim for dim in target], np.int64)
            node.input[1] = draft.add_constant(f"{node.name}/shape", Weight.of(shape))
            found = True
    return found


def _computed_shapes(draft: Draft) -> dict[str, tuple[Array, Array]]:
    """What depends on shapes alone, for both batches."""
    found: dict[str, tuple[Array, Array]] = {}
    for node in draft.graph.node:
        if node.op_type == "Shape" and node.input[0] in draft.of_batch and not node.attribute:
            _, *rest = draft.shapes[node.input[0]]
            first, second = (np.asarray([batch, *rest], np.int64) for batch in _BATCHES)
            found[node.output[0]] = first, second
        elif any(name in found for name in node.input) and all(
            not name or name in found or name in draft.constants for name in node.input
        ):
            both = [_value(node, found, draft, i) for i in range(len(_BATCHES))]
            found |= {name: (both[0][name], both[1][name]) for name in node.output}
    return found


def _value(
    node: "onnx.NodeProto", found: dict[str, tuple[Array, Array]], draft: Draft, which: int
) -> dict[str, Array]:
    feeds = {
        name: found[name][which] if name in found else draft.constants[name].value()
        for name in node.input
        if name
    }
    return evaluate(node, feeds, draft.model.opset_import)


def _constant(node: "onnx.NodeProto", place: int, both: tuple[Array, Array]) -> Array | None:
    """The constant to take a computed shape's place as an input of a node; None if there is none."""
    first, second = both
    if np.array_equal(first, second):
        return first
    target = node.op_type == "Reshape" and place == 1
    return np.where(first == second, first, -1) if target and np.sum(first != second) == 1 else None
