"""Where an 8-bit part of an ONNX graph ends: layers in FP32 must stay so in ONNX Runtime.

ONNX Runtime's optimizer `WeightBiasQuantization` (seen in 1.32) rounds the FP32 weight of a convolution or
Gemm to 8 bits, with one scale for all channels, wherever its input comes from a DequantizeLinear with one
scale: a layer that was left in FP32 for its accuracy would get the worst of all quantizations, in silence.
It lets a layer be whose DequantizeLinear has a scale per channel. So there the one scale is written once per
channel, which gives the same numbers. (With a single channel the two are the same, and nothing helps.)
"""

from typing import TYPE_CHECKING

import numpy as np

from edgepress.inspection.onnx_graph import producers, weighted_op

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def keep_float_layers_in_float(graph: "onnx.GraphProto", in_8_bits: frozenset[str]) -> None:
    """Give each node outside of `in_8_bits` the best input there is, in place.

    A tensor that was made in FP32 and quantized for another reader is read as it was made. Weighted layers
    that read 8-bit results get a DequantizeLinear of their own, see above.

    Args:
        graph: Quantized; its order need not be topological any more afterwards.
        in_8_bits: Names of the nodes with Q/DQ at their inputs and outputs.
    """
    makers, stored = producers(graph), {tensor.name for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type in _QUANTIZERS or node.name in in_8_bits:
            continue
        for i, name in enumerate(node.input):
            node.input[i] = _before_quantization(name, makers, in_8_bits)
        dequantize = makers.get(node.input[0]) if weighted_op(node) and node.input[1] in stored else None
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            _dequantize_per_channel(graph, node, dequantize)
    _remove_unread(graph)


def _remove_unread(graph: "onnx.GraphProto") -> None:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.output[0] not in read]:
        graph.node.remove(node)


def _before_quantization(name: str, makers: "dict[str, onnx.NodeProto]", in_8_bits: frozenset[str]) -> str:
    """What was quantized to make a tensor, if that was made in FP32; else the tensor itself."""
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return name
    quantize = makers.get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return name
    exact = str(quantize.input[0])
    maker = makers.get(exact)
    return name if maker is not None and maker.name in in_8_bits else exact


def _dequantize_per_channel(
    graph: "onnx.GraphProto", node: "onnx.NodeProto", dequantize: "onnx.NodeProto"
) -> None:
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    channels, axis = _input_channels(node, tensors[node.input[1]])
    stored, scale, zero_point = dequantize.input
    names = [f"{node.name}_input{suffix}" for suffix in ("", "_scale", "_zero_point")]
    for name, one in zip(names[1:], (scale, zero_point), strict=True):
        value = onnx.numpy_helper.to_array(tensors[one]).reshape(())
        graph.initializer.append(onnx.numpy_helper.from_array(np.full(channels, value), name))
    graph.node.append(
        onnx.helper.make_node(
            "DequantizeLinear",
            [stored, *names[1:]],
            [names[0]],
            f"{node.name}_input_dequantize",
            axis=axis,
        )
    )
    node.input[0] = names[0]


def _input_channels(node: "onnx.NodeProto", weight: "onnx.TensorProto") -> tuple[int, int]:
    """Number of channels of a weighted layer's input, and their axis there."""
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return weight.dims[1] * attributes.get("group", 1), 1
    if node.op_type == "ConvTranspose":
        return weight.dims[0], 1
    if node.op_type == "Gemm":
        return weight.dims[1 if attributes.get("transB") else 0], 0 if attributes.get("transA") else 1
    return weight.dims[-2 if len(weight.dims) > 1 else 0], -1
