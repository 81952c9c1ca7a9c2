"""Where axes and channels of an ONNX graph change their order, and how little of that is left.

tf2onnx brings convolutions into ONNX' NCHW, with a Transpose wherever TensorFlow's NHWC shows: at the input,
before a Flatten, around operations that its optimizer does not know.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.interface import Layout, Pixels
from export.conversion import Conversion
from export.onnx_draft import (
    ELEMENTWISE,
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    Draft,
    attribute,
    permutation,
    replace_input,
    set_attribute,
)
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

Axes = tuple[int, ...]

_ROWS_AND_COLUMNS = (1, 2)  # of NHWC


def sink_transposes(draft: Draft) -> None:
    """Move each Transpose to NHWC behind the operations that work in any layout, and remove pairs."""
    outputs = {output.name for output in draft.graph.output}
    makers: dict[str, onnx.NodeProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in draft.graph.node:
        moved = None
        if node.output[0] not in outputs:
            moved = _moved(node, makers, draft)
        for found in moved or [node]:
            _merge(found, makers)
            makers.update(dict.fromkeys(found.output, found))
            nodes.append(found)
    draft.set_nodes(nodes)
    _remove_identities(draft)
    draft.sort()


def _moved(
    node: "onnx.NodeProto", makers: "dict[str, onnx.NodeProto]", draft: Draft
) -> "list[onnx.NodeProto] | None":
    """The node on what its Transposes are given, and a Transpose of the result; None if that cannot be."""
    import onnx

    data = draft.data_inputs(node)
    sources = [makers.get(name) for name in data]
    if not data or any(permutation(source) != TO_CHANNELS_LAST for source in sources):
        return None
    if node.op_type == "ReduceMean":
        return _pooled(node, str(makers[data[0]].input[0]), draft)
    if not _works_in_any_layout(node, len(TO_CHANNELS_FIRST), draft):
        return None
    _change_layout(node, TO_CHANNELS_FIRST, draft)
    for name, source in zip(data, sources, strict=True):
        replace_input(node, name, source.input[0] if source is not None else name)
    result = node.output[0]
    node.output[0] = f"{result}/channels_first"
    last = onnx.helper.make_node(
        "Transpose", [node.output[0]], [result], f"{node.name}/Transpose", perm=TO_CHANNELS_LAST
    )
    return [node, last]


def _pooled(node: "onnx.NodeProto", before: str, draft: Draft) -> "list[onnx.NodeProto] | None":
    """A mean over rows and columns as the pooling that it is; None for a mean over others."""
    import onnx

    if tuple(sorted(axis % 4 for axis in attribute(node, "axes", ()))) != _ROWS_AND_COLUMNS:
        return None
    result, pooled = node.output[0], f"{node.output[0]}/channels_first"
    make = onnx.helper.make_node
    pool = make("GlobalAveragePool", [before], [pooled], node.name)
    name = f"{node.name}/Squeeze"
    if attribute(node, "keepdims", 1):
        last = make("Transpose", [pooled], [result], name, perm=TO_CHANNELS_LAST)
    else:
        axes = draft.add_constant(f"{result}/axes", Weight.of(np.asarray([2, 3], np.int64)))
        last = make("Squeeze", [pooled, axes], [result], name)
    return [pool, last]


def _works_in_any_layout(node: "onnx.NodeProto", rank: int, draft: Draft) -> bool:
    """Whether `_change_layout` can be called for data of that rank."""
    constants = [draft.constants[name] for name in node.input if name in draft.constants]
    if node.op_type == "Concat":
        return not constants
    if node.op_type == "Pad":
        return len(draft.data_inputs(node)) == 1 and len(node.input) <= 3  # the fourth one names axes
    return (
        node.op_type in ELEMENTWISE
        and len(node.output) == 1
        and all(len(weight.shape) <= rank for weight in constants)
    )


def _change_layout(node: "onnx.NodeProto", axes: Axes, draft: Draft) -> None:
    """Rewrite a node's constants and attributes for data whose axes are permuted."""
    if node.op_type == "Concat":
        set_attribute(node, "axis", axes.index(attribute(node, "axis") % len(axes)))
        return
    if node.op_type == "Pad":
        pads = draft.constants[node.input[1]].value().reshape(2, len(axes))[:, axes].reshape(-1)
        node.input[1] = draft.add_constant(node.input[1], Weight.of(pads))
        return
    for name in dict.fromkeys(n for n in node.input if n in draft.constants):
        weight = draft.constants[name]
        if weight.size > 1:
            full = weight.reshaped((1,) * (len(axes) - len(weight.shape)) + weight.shape)
            replace_input(node, name, draft.add_constant(name, full.transposed(axes)))


def _merge(node: "onnx.NodeProto", makers: "dict[str, onnx.NodeProto]") -> None:
    """Let a Transpose of a Transpose read what that one reads; one that changes nothing becomes Identity."""
    axes, before = permutation(node), makers.get(node.input[0]) if node.input else None
    first = permutation(before)
    if axes is None or before is None or first is None:
        return
    both = tuple(first[axis] for axis in axes)
    node.input[0] = before.input[0]
    set_attribute(node, "perm", both)
    if both == tuple(range(len(both))):
        node.op_type = "Identity"
        set_attribute(node, "perm", None)


def _remove_identities(draft: Draft) -> None:
    outputs = {output.name for output in draft.graph.output}
    same: dict[str, str] = {}
    left = []
    for node in draft.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        else:
            left.append(node)
    draft.set_nodes(left)


def set_interface(draft: Draft, conversion: Conversion) -> None:
    """Give the graph, which takes preprocessed NHWC pictures, the input of the conversion's interface.

    What comes first is at most one Transpose, and for RGB pixels a Cast and the arithmetic of the
    preprocessing; the order of the colours goes into the first convolution.
    """
    import onnx

    data, interface = draft.data_name, conversion.interface
    takers = draft.consumers().get(data, [])
    channels_first = bool(takers) and all(permutation(node) == TO_CHANNELS_FIRST for node in takers)
    inner = {node.output[0] for node in takers} if channels_first else {data}
    rest = [node for node in draft.graph.node if not (channels_first and node.output[0] in inner)]
    front = _Front(data, [])
    layout = interface.layout
    if interface.pixels is Pixels.RGB:
        front.then("Cast", to=onnx.TensorProto.FLOAT)  # first: TensorRT does nothing else with uint8
    if channels_first and layout is Layout.NHWC:
        front.then("Transpose", perm=TO_CHANNELS_FIRST)
        layout = Layout.NCHW
    if interface.pixels is Pixels.RGB:
        takers = [node for node in rest if inner & {*node.input}]
        _preprocess(draft, front, layout, conversion, takers if channels_first else [])
    if not channels_first and layout is Layout.NCHW:
        front.then("Transpose", perm=TO_CHANNELS_LAST)
    for node in rest:
        for name in inner:
            replace_input(node, name, front.last)
    draft.shapes[front.last] = draft.shapes[data]  # of an NHWC tensor; nobody asks for those of others
    draft.set_nodes([*front.nodes, *rest])
    _set_input_type(draft.graph.input[0], conversion)


@dataclass
class _Front:
    """The first nodes of a graph.

    Attributes:
        last: The tensor that they make.
        nodes: In their order.
    """

    last: str
    nodes: "list[onnx.NodeProto]"

    def then(self, operation: str, *constants: str, **attributes: Any) -> None:
        """Add a node that takes what the last one makes."""
        import onnx

        made = f"front/{operation}"
        node = onnx.helper.make_node(operation, [self.last, *constants], [made], made, **attributes)
        self.nodes.append(node)
        self.last = made


def _preprocess(
    draft: Draft, front: _Front, layout: Layout, conversion: Conversion, takers: "list[onnx.NodeProto]"
) -> None:
    if conversion.preprocessing is None:
        raise ValueError("RGB pixels need a preprocessing")
    affine = conversion.preprocessing.affine
    shape = (3, 1, 1) if layout is Layout.NCHW else (3,)
    for operation, values, neutral in (("Mul", affine.scale, 1.0), ("Add", affine.offset, 0.0)):
        if any(value != neutral for value in values):
            constant = Weight.of(np.asarray(values, np.float32).reshape(shape))
            front.then(operation, draft.add_constant(f"front/{operation}/constant", constant))
    if not affine.reverses_channels:
        return
    if takers and all(_takes_all_channels(node, draft) for node in takers):
        for node in takers:
            kernel = draft.constants[node.input[1]].changed(lambda values: values[:, ::-1])
            node.input[1] = draft.add_constant(f"{node.name}/rgb_kernel", kernel)
        return
    order = draft.add_constant("front/channels", Weight.of(np.asarray([2, 1, 0], np.int64)))
    front.then("Gather", order, axis=1 if layout is Layout.NCHW else 3)


def _takes_all_channels(node: "onnx.NodeProto", draft: Draft) -> bool:
    return node.op_type == "Conv" and attribute(node, "group", 1) == 1 and node.input[1] in draft.constants


def _set_input_type(value: "onnx.ValueInfoProto", conversion: Conversion) -> None:
    import onnx

    interface = conversion.interface
    _, *picture = conversion.network.inputs[0].shape
    if interface.layout is Layout.NCHW:
        picture = [picture[2], *picture[:2]]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(interface.dtype))
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, [interface.batch, *picture]))


def hoist_input_transpose(draft: Draft) -> None:
    """Bring the Transpose to NCHW before the operations in any layout that stand between it and the input."""
    consumers = draft.consumers()
    chain: list[onnx.NodeProto] = []
    name = draft.data_name
    while True:
        takers = consumers.get(name, [])
        if len(takers) != 1:
            return
        (node,) = takers
        if permutation(node) == TO_CHANNELS_FIRST:
            break
        known = _works_in_any_layout(node, len(TO_CHANNELS_FIRST), draft)
        if not known or draft.data_inputs(node) != [name]:
            return
        chain.append(node)
        name = node.output[0]
    if not chain:
        return
    for step in chain:
        _change_layout(step, TO_CHANNELS_FIRST, draft)
    result, first = node.output[0], f"{draft.data_name}/channels_first"
    node.input[0], node.output[0] = draft.data_name, first
    replace_input(chain[0], draft.data_name, first)
    chain[-1].output[0] = result
    draft.set_nodes([node, *(other for other in draft.graph.node if other.output[0] != first)])
