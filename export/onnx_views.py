"""Operations that only give values another shape: the order in memory stays.

A Transpose that moves axes of length 1 is one, and a Reshape of pooled values (N, C, 1, 1) to (N, 1, 1, C) is
a Transpose. tf2onnx writes the one or the other, by the order in which it happens to meet the nodes. Here
each is brought into the form that helps, and chains of them become one, or none.
"""

from typing import TYPE_CHECKING

import numpy as np

from export.onnx_draft import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Draft, Shape, permutation, set_attribute
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def collapse_views(draft: Draft) -> None:
    """Let each view read what its chain began with; one that restores a former shape goes, with the chain."""
    draft.infer_shapes()
    outputs = {output.name for output in draft.graph.output}
    begins: dict[str, tuple[str, ...]] = {}
    same: dict[str, str] = {}
    for node in draft.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
        if not _is_view(node, draft):
            continue
        source, result = node.input[0], node.output[0]
        chain = (*begins.get(source, ()), source)
        shape = draft.shapes[result]
        equal = next((name for name in chain if _is_known(name, draft) and draft.shapes[name] == shape), None)
        if equal is not None and result not in outputs:
            same[result] = equal
            continue
        begins[result] = chain
        if len(chain) > 1 or node.op_type == "Transpose":
            _become_reshape(node, chain[0], shape, draft)
    draft.sort()


def write_moved_units_as_transposes(draft: Draft) -> None:
    """A Reshape between (N, C, 1, 1) and (N, 1, 1, C) becomes the Transpose that it is."""
    for node in draft.graph.node:
        if node.op_type != "Reshape" or not _is_view(node, draft):
            continue
        before, after = draft.shapes[node.input[0]], draft.shapes[node.output[0]]
        if len(before) != len(TO_CHANNELS_LAST) or before == after:
            continue
        for axes in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST):
            if tuple(before[axis] for axis in axes) == after and _moves_units_only(before, axes):
                node.op_type = "Transpose"
                del node.input[1:]
                set_attribute(node, "allowzero", None)
                set_attribute(node, "perm", axes)
                break


def _is_view(node: "onnx.NodeProto", draft: Draft) -> bool:
    """Whether a node is a view of data whose shapes are known, but for the first side."""
    source, result = (node.input[0] if node.input else ""), node.output[0]
    if source in draft.constants or not (_is_known(source, draft) and _is_known(result, draft)):
        return False
    axes = permutation(node)
    return node.op_type in _VIEWS or (axes is not None and _moves_units_only(draft.shapes[source], axes))


def _is_known(name: str, draft: Draft) -> bool:
    """Of views of the same values, the number of values tells one side that is open."""
    return name in draft.shapes and None not in draft.shapes[name][1:]


def _moves_units_only(shape: Shape, axes: tuple[int, ...]) -> bool:
    kept = [axis for axis in axes if shape[axis] != 1]
    return kept == sorted(kept)


def _become_reshape(node: "onnx.NodeProto", source: str, shape: Shape, draft: Draft) -> None:
    target = np.asarray([-1 if side is None else side for side in shape], np.int64)
    node.op_type = "Reshape"
    del node.attribute[:]
    node.input[:] = [source, draft.add_constant(f"{node.output[0]}/shape", Weight.of(target))]
