"""Clean-up of a converted ONNX graph whose kernels are still graph inputs.

What depends on weights alone is computed here or when it is written; what is left is the network: Conv, Relu,
MaxPool, Gemm.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import ProofError
from export.conversion import Array
from export.onnx_draft import Draft, attribute, replace_input, set_attribute
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

_SAME_VALUES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def compute_constants(draft: Draft) -> None:
    """Compute every node all of whose inputs are constants: kernel transposes, bias reshapes and so on.

    Raises:
        ProofError: An operation on weights alone cannot be computed here.
    """
    left = []
    for node in draft.graph.node:
        if all(name in draft.constants or not name for name in node.input):
            draft.constants.update(_computed(node, draft))
        else:
            left.append(node)
    draft.set_nodes(left)


def _computed(node: "onnx.NodeProto", draft: Draft) -> dict[str, Weight]:
    """Views where the values stay what they are, so that no kernel is copied."""
    if node.op_type == "Transpose":
        source = draft.constants[node.input[0]]
        axes = attribute(node, "perm", range(len(source.shape))[::-1])
        return {node.output[0]: source.transposed(tuple(axes))}
    shape = draft.shapes.get(node.output[0], (None,)) if node.output else (None,)
    if node.op_type in _SAME_VALUES and None not in shape:
        known = tuple(dim for dim in shape if dim is not None)
        return {node.output[0]: draft.constants[node.input[0]].reshaped(known)}
    return _evaluated(node, draft)


def _evaluated(node: "onnx.NodeProto", draft: Draft) -> dict[str, Weight]:
    feeds = {name: draft.constants[name].value() for name in node.input if name}
    found = evaluate(node, feeds, draft.model.opset_import)
    return {name: Weight.of(value) for name, value in found.items()}


def evaluate(node: "onnx.NodeProto", feeds: dict[str, Array], opsets: Any) -> dict[str, Array]:
    """Compute one node with the reference implementation of ONNX.

    Raises:
        ProofError: That has not got the operation.
    """
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    graph = helper.make_graph([node], "single", inputs, outputs)
    single = helper.make_model(graph, opset_imports=opsets)
    try:
        values = ReferenceEvaluator(single).run(None, feeds)
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ProofError(
            f"The operation {node.op_type} ({node.name}) works on weights alone and cannot be computed ahead "
            f"({error}). Leave ONNX out with --format."
        ) from error
    return {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}


def absorb_pads(draft: Draft) -> None:
    """Bring a Pad with zeros into the Convs behind it, whose own padding is with zeros too."""
    consumers, outputs = draft.consumers(), {output.name for output in draft.graph.output}
    for node in draft.graph.node:
        pads = _spatial_zero_pads(node, draft)
        takers = consumers.get(node.output[0], [])
        if pads is None or node.output[0] in outputs or not all(map(_pads_with_zeros, takers)):
            continue
        for conv in takers:
            own = attribute(conv, "pads", [0] * len(pads))
            set_attribute(conv, "pads", [a + b for a, b in zip(own, pads, strict=True)])
            set_attribute(conv, "auto_pad", None)
            replace_input(conv, node.output[0], node.input[0])
    draft.sort()


def _spatial_zero_pads(node: "onnx.NodeProto", draft: Draft) -> list[int] | None:
    """Pads of a Pad node as a Conv has them; None if a Conv cannot have them."""
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return None
    known = [draft.constants.get(name) for name in node.input[1:] if name]
    if None in known or len(node.input) > 3:
        return None
    pads, *values = [weight.value() for weight in known if weight is not None]
    begins, ends = np.split(pads, 2)
    if any(np.any(value != 0) for value in values) or begins[:2].any() or ends[:2].any() or pads.min() < 0:
        return None
    return [int(pad) for pad in (*begins[2:], *ends[2:])]


def _pads_with_zeros(node: "onnx.NodeProto") -> bool:
    return node.op_type == "Conv" and attribute(node, "auto_pad", b"NOTSET") in {b"NOTSET", b"VALID"}


def absorb_scale_and_offset(draft: Draft) -> None:
    """Bring a Mul or Add per channel behind a Conv into its kernel and bias."""
    uses = draft.uses()
    producers = {node.output[0]: node for node in draft.graph.node if node.op_type == "Conv"}
    left = []
    for node in draft.graph.node:
        conv = next((producers[name] for name in node.input if name in producers), None)
        if conv is None or node.op_type not in {"Mul", "Add"} or uses[conv.output[0]] != 1:
            left.append(node)
            continue
        other = next(name for name in node.input if name != conv.output[0])
        channels = _per_channel(draft.constants.get(other), conv, draft)
        if channels is None:
            left.append(node)
            continue
        _absorb(node.op_type, channels, conv, draft)
        del producers[conv.output[0]]
        conv.output[0] = node.output[0]
        producers[conv.output[0]] = conv
        draft.absorbed[node.output[0]] = node.name
    draft.set_nodes(left)


def _per_channel(weight: Weight | None, conv: "onnx.NodeProto", draft: Draft) -> Array | None:
    """(C,) values of a constant that is the same over batch, rows and columns; None if it is not."""
    if weight is None or conv.input[1] not in draft.constants:
        return None
    channels = draft.constants[conv.input[1]].shape[0]
    if weight.size == 1:
        return np.broadcast_to(weight.value().reshape(()), (channels,))
    shape = (1,) * (4 - len(weight.shape)) + weight.shape
    return weight.value().reshape(channels) if shape == (1, channels, 1, 1) else None


def _absorb(operation: str, channels: Array, conv: "onnx.NodeProto", draft: Draft) -> None:
    kernel = draft.constants[conv.input[1]]
    if len(conv.input) > 2:
        bias = draft.constants[conv.input[2]].value()
    else:
        bias = np.zeros(len(channels), kernel.dtype)
    if operation == "Mul":
        scaled = kernel.changed(lambda values: values * channels.reshape(-1, 1, 1, 1))
        conv.input[1] = draft.add_constant(f"{conv.name}/scaled_kernel", scaled)
        bias = bias * channels
    else:
        bias = bias + channels
    conv.input[2:] = [draft.add_constant(f"{conv.name}/new_bias", Weight.of(bias))]


def make_gemm(draft: Draft) -> None:
    """MatMul of a matrix and a kernel, with the Add of a bias behind it, becomes one Gemm."""
    uses = draft.uses()
    dense: dict[str, onnx.NodeProto] = {}
    left = []
    for node in draft.graph.node:
        if (
            node.op_type == "MatMul"
            and node.input[0] not in draft.constants
            and len(draft.shapes.get(node.input[0], ())) == 2
            and node.input[1] in draft.constants
        ):
            node.op_type = "Gemm"
            dense[node.output[0]] = node
        gemm = next((dense[name] for name in node.input if name in dense), None)
        bias = next((name for name in node.input if name in draft.constants), None)
        if (
            gemm is None
            or bias is None
            or node.op_type != "Add"
            or uses[gemm.output[0]] != 1
            or draft.constants[bias].size != draft.constants[gemm.input[1]].shape[1]
            or len(gemm.input) > 2
        ):
            left.append(node)
            continue
        weight = draft.constants[bias]
        gemm.input.append(draft.add_constant(f"{gemm.name}/bias", weight.reshaped((weight.size,))))
        del dense[gemm.output[0]]
        gemm.output[0] = node.output[0]
        draft.absorbed[node.output[0]] = node.name
    draft.set_nodes(left)
