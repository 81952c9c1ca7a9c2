"""INT8 ONNX for TensorRT: explicit Q/DQ where TensorRT looks for it, from our calibration table.

Q/DQ stands at the inputs of weighted layers and nowhere else: none between a convolution and its Relu
(that would break their fusion), none on outputs. Everything is symmetric int8 with scales amax / 127,
per output channel for weights and per tensor for activations; the bias stays in floating point, since
TensorRT refuses an int32 DequantizeLinear. Weights are stored as int8 with a DequantizeLinear alone: ¼ of the
size. All dense layers are included unless they are left out by name: they are 89 % of VGG16.

What is not int8 is in FP32 or in FP16. In an FP16 graph the scales are FP16 too, which takes operator set 19,
and none lies below the smallest normal number: weights are quantized with the scale that is stored.

Source: NVIDIA TensorRT Developer Guide, "Explicit Quantization"; H. Wu et al., arXiv 2004.09602.
The insertion is our own: ONNX Runtime's quantizer needs seven options switched off to come near this
form, and still leaves Q/DQ between a convolution and its Relu.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.inspection.onnx_graph import load, weighted_op
from optimize.calibration import CALIBRATION, Range, Ranges
from optimize.layer_subset import chosen_layers, float_layers, name_nodes, split_shared_weights
from optimize.onnx_fp16_from_fp32 import halve
from optimize.onnx_opset import raise_opset
from optimize.recipe import NumberFormat

if TYPE_CHECKING:
    import onnx

INT8_MAX = 127  # symmetric: -128 is not used
# Scales must be positive. Small weights of a large dense layer reach 1e-6, so the bound lies far below.
_SMALLEST_SCALE = 1e-12
_SMALLEST_FP16 = 2.0**-14  # the smallest normal number
_OPSET_OF_FP16_SCALES = 19


def onnx_tensorrt_qdq_from_fp32(
    source: Path,
    destination: Path,
    ranges: Ranges,
    *,
    layers: frozenset[str] | None = None,
    rest: NumberFormat = NumberFormat.F32,
) -> Mapping[str, Any]:
    """Write the Q/DQ version of an FP32 ONNX file for TensorRT.

    Args:
        source: FP32 ONNX file; unchanged.
        destination: New file.
        ranges: Activation ranges of `source`.
        layers: Names of the weighted layers to quantize; the others stay in floating point. None for all.
        rest: F32 or F16: what is not quantized computes in it.

    Returns:
        Provenance: the number of quantized layers; `float_layers` where `layers` is given; what
        `onnx_fp16_from_fp32` tells, and `raised_scales`, where the rest is FP16.

    Raises:
        InputError: The input of a layer has no range, or a layer is unknown; nothing is written.
        ProofError: What `onnx_fp16_from_fp32` raises; nothing is written.
    """
    import onnx

    model = load(source)
    if rest is NumberFormat.F16:
        raise_opset(model, _OPSET_OF_FP16_SCALES)
    graph = model.graph
    name_nodes(graph)
    chosen = chosen_layers(graph, layers)
    split_shared_weights(graph, frozenset(node.name for node in chosen))
    insertion = _Insertion(graph, ranges, rest)
    for node in chosen:
        insertion.quantize(node)
    insertion.finish()
    made: dict[str, Any] = {"quantized_layers": len(chosen)}
    if layers is not None:
        made["float_layers"] = float_layers(graph, layers)
    if rest is NumberFormat.F16:
        made |= {**halve(model, {**ranges, **insertion.ranges}), "raised_scales": insertion.raised_scales}
    onnx.save(model, destination)
    return made


class _Insertion:
    """Adds Q/DQ nodes to a graph, in place, each directly before the layer that needs it first.

    Attributes:
        ranges: Of the dequantized activations.
        raised_scales: How many scales were below the smallest that the format has.
    """

    def __init__(self, graph: "onnx.GraphProto", ranges: Ranges, rest: NumberFormat) -> None:
        self.ranges: dict[str, Range] = {}
        self.raised_scales = 0
        self._rest = rest
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._ranges = ranges
        self._dequantized: dict[str, str] = {}
        self._before: dict[str, list[onnx.NodeProto]] = {}

    def quantize(self, node: "onnx.NodeProto") -> None:
        """Put Q/DQ on the activation and DQ on the weight of a weighted layer."""
        new: list[onnx.NodeProto] = []
        activation, weight = node.input[0], self._tensors[node.input[1]]
        if activation not in self._dequantized:
            self._dequantized[activation] = self._activation(node, activation, new)
        if weight.name not in self._dequantized:
            self._dequantized[weight.name] = self._weight(node, weight, new)
        node.input[0] = self._dequantized[activation]
        node.input[1] = self._dequantized[weight.name]
        self._before[node.output[0]] = new

    def finish(self) -> None:
        """Bring the new nodes into topological order."""
        nodes = [
            added for node in self._graph.node for added in (*self._before.get(node.output[0], ()), node)
        ]
        copies = [_copy(node) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _activation(self, node: "onnx.NodeProto", name: str, new: "list[onnx.NodeProto]") -> str:
        import onnx

        found = self._ranges.get(name)
        if found is None:
            raise InputError(
                f"tensorrt_static_wi8_ai8: the input {name!r} of layer {node.name!r} has no calibrated "
                f"range. Calibrate again: remove {CALIBRATION}."
            )
        scale = self._scales(np.asarray(found.magnitude, np.float32))
        parameters = self._parameters(name, scale)
        stored, result = f"{name}_quantized", f"{name}_dequantized"
        self.ranges[result] = found
        make = onnx.helper.make_node
        new.append(make("QuantizeLinear", [name, *parameters], [stored], f"{name}_quantize"))
        new.append(make("DequantizeLinear", [stored, *parameters], [result], f"{name}_dequantize"))
        return result

    def _weight(self, node: "onnx.NodeProto", tensor: "onnx.TensorProto", new: "list[onnx.NodeProto]") -> str:
        import onnx

        operation, name = weighted_op(node), tensor.name
        axis = operation.channel_axis if operation and len(tensor.dims) > 1 else 0
        weight = onnx.numpy_helper.to_array(tensor)
        scales = self._scales(largest_of_channels(weight, axis))
        stored = quantize_with(weight, axis, scales)
        tensor.CopyFrom(onnx.numpy_helper.from_array(stored, name))
        result = f"{name}_dequantized"
        parameters = self._parameters(name, scales)
        new.append(
            onnx.helper.make_node(
                "DequantizeLinear", [name, *parameters], [result], f"{name}_dequantize", axis=axis
            )
        )
        return result

    def _scales(self, largest: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._rest is NumberFormat.F16:
            self.raised_scales += int(np.count_nonzero(largest / INT8_MAX < _SMALLEST_FP16))
        return scales_of(largest, self._rest)

    def _parameters(self, name: str, scale: NDArray[np.float32]) -> tuple[str, str]:
        import onnx

        names = (f"{name}_scale", f"{name}_zero_point")
        zero_point = np.zeros(scale.shape, np.int8)
        self._graph.initializer.append(onnx.numpy_helper.from_array(scale, names[0]))
        self._graph.initializer.append(onnx.numpy_helper.from_array(zero_point, names[1]))
        return names


def quantize_weight(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 weights with a scale per index of `axis`.

    Returns:
        Stored values in -127…127 of the weight's shape, and (channels,) float32 scales, all positive:
        a channel of zeros would have scale 0, which TensorRT's parser refuses.
    """
    scales = scales_of(largest_of_channels(weight, axis), NumberFormat.F32)
    return quantize_with(weight, axis, scales), scales


def largest_of_channels(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Largest absolute value for each index of `axis`, (channels,) float32."""
    largest: NDArray[np.float32] = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    return largest


def scales_of(largest: NDArray[np.float32], rest: NumberFormat) -> NDArray[np.float32]:
    """The scales for these largest values: float32, positive, and exactly representable in `rest`."""
    if rest is not NumberFormat.F16:
        return np.maximum(largest / INT8_MAX, np.float32(_SMALLEST_SCALE)).astype(np.float32)
    return np.maximum(largest / INT8_MAX, _SMALLEST_FP16).astype(np.float16).astype(np.float32)


def quantize_with(weight: NDArray[np.float32], axis: int, scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """The weight in steps of these scales, in -127…127."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps: NDArray[np.float32] = np.rint(weight / scales.reshape(shape))
    return steps.clip(-INT8_MAX, INT8_MAX).astype(np.int8)


def _copy(node: "onnx.NodeProto") -> "onnx.NodeProto":
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
