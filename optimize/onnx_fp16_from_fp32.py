"""FP16 ONNX from FP32 ONNX: weights and arithmetic in half precision, input and output in FP32.

Precision lives in the file: TensorRT builds it as a strongly typed network. Only the graph's input and
output have a Cast, so callers see the FP32 file's signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import load
from optimize.calibration import Ranges

if TYPE_CHECKING:
    import onnx

FP16_MAX = 65504.0  # IEEE 754 binary16

# Inputs that the ONNX specification fixes to FP32: Resize's roi and scales.
_FP32_INPUTS = {"Resize": (1, 2)}


@dataclass
class _Flushed:
    """Counts the non-zero weights that became zero."""

    weights: int = 0


def onnx_fp16_from_fp32(source: Path, destination: Path, ranges: Ranges | None) -> Mapping[str, Any]:
    """Write the FP16 version of an FP32 ONNX file.

    Args:
        source: FP32 ONNX file; unchanged.
        destination: New file.
        ranges: Activation ranges of `source` if there are any; None leaves activations unchecked.

    Returns:
        Provenance: `weights_flushed_to_zero`, and `largest_activation` if ranges were given.

    Raises:
        ProofError: A weight or activation does not fit into FP16; nothing is written.
    """
    import onnx

    largest = _require_activations_fit(ranges) if ranges is not None else None
    model = load(source)
    graph, flushed = model.graph, _Flushed()
    kept = _fp32_inputs(graph)
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _halve(tensor, flushed)
    for node in graph.node:
        _halve_attributes(node, kept, flushed)
    del graph.value_info[:]  # they state FP32; the inner types follow from the nodes
    _cast_inputs(graph)
    _cast_outputs(graph)
    onnx.save(model, destination)
    provenance: dict[str, Any] = {"weights_flushed_to_zero": flushed.weights}
    return provenance if largest is None else {**provenance, "largest_activation": largest}


def _require_activations_fit(ranges: Ranges) -> float:
    name, widest = max(ranges.items(), key=lambda item: item[1].magnitude)
    if widest.magnitude > FP16_MAX:
        raise ProofError(
            f"onnx_wf16_af16: activation {name!r} reaches {widest.magnitude:.6g}, FP16 ends at "
            f"{FP16_MAX:.0f}. Leave this recipe out for this model."
        )
    return widest.magnitude


def _fp32_inputs(graph: "onnx.GraphProto") -> set[str]:
    places = ((node, i) for node in graph.node for i in _FP32_INPUTS.get(node.op_type, ()))
    return {node.input[i] for node, i in places if i < len(node.input)}


def _halve(tensor: "onnx.TensorProto", flushed: _Flushed) -> None:
    """Turn a FLOAT tensor into FLOAT16 in place; other types stay."""
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    values: NDArray[np.float32] = onnx.numpy_helper.to_array(tensor)
    largest = float(np.max(np.abs(values), initial=0))
    if not largest <= FP16_MAX:  # also catches NaN
        raise ProofError(
            f"onnx_wf16_af16: weight {tensor.name!r} reaches {largest:.6g}, FP16 ends at {FP16_MAX:.0f}. "
            "Leave this recipe out for this model."
        )
    halves = values.astype(np.float16)
    flushed.weights += int(np.count_nonzero(values)) - int(np.count_nonzero(halves))
    tensor.CopyFrom(onnx.numpy_helper.from_array(halves, tensor.name))


def _halve_attributes(node: "onnx.NodeProto", kept: set[str], flushed: _Flushed) -> None:
    """Constants become FP16, and Casts to FP32 become Casts to FP16."""
    import onnx

    for attribute in node.attribute:
        if node.op_type in {"Constant", "ConstantOfShape"} and attribute.name == "value":
            if node.output[0] not in kept:
                _halve(attribute.t, flushed)
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16


def _cast_inputs(graph: "onnx.GraphProto") -> None:
    import onnx

    initializers = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in initializers or value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        half = f"{value.name}_fp16"
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == value.name:
                    node.input[i] = half
        cast = onnx.helper.make_node(
            "Cast", [value.name], [half], f"{half}_cast", to=onnx.TensorProto.FLOAT16
        )
        graph.node.insert(0, cast)


def _cast_outputs(graph: "onnx.GraphProto") -> None:
    import onnx

    for value in graph.output:
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        half = f"{value.name}_fp16"
        for node in graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == value.name:
                        names[i] = half
        cast = onnx.helper.make_node(
            "Cast", [half], [value.name], f"{value.name}_cast", to=onnx.TensorProto.FLOAT
        )
        graph.node.append(cast)
