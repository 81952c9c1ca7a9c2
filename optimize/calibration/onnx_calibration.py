"""Calibration of an FP32 ONNX graph with ONNX Runtime: one picture at a time, flat memory.

The graph itself reduces each activation to its minimum, maximum and mean, so that no activation reaches
Python but those of which a histogram is wanted, and memory does not depend on the number of pictures. The
weights are handed to the session as they were read from the file: there is no second model file.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.inspection.onnx_graph import (
    inferred,
    is_bulk,
    load,
    load_graph,
    opset,
    shape_of,
    values,
    weighted_op,
    without_weights,
)
from edgepress.machine import usable_cores
from edgepress.progress import Progress, silent
from optimize.calibration.method import CalibrationMethod
from optimize.calibration.observation import Observation, Seen
from optimize.calibration.quantized_tensors import Operation, QuantizedTensors, quantized_tensors
from optimize.calibration.range import Range
from optimize.calibration.table import GraphCalibration

if TYPE_CHECKING:
    import onnx

# They select or move values of their first input; so does Pad, if it pads with 0. What MaxPool pads is not
# read.
_MOVING = frozenset(
    {
        *(
            "DepthToSpace",
            "Dropout",
            "Expand",
            "Flatten",
            "Gather",
            "Identity",
            "MaxPool",
            "Reshape",
            "Slice",
        ),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
_AFFINE = frozenset({"Add", "Cast", "Concat", "Div", "Mul", "Sub"})
_CLIPPING = frozenset({"Clip", "Relu"})
_SCORING = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
# The minimum and the maximum of a tensor do not show a NaN in it; its sum does.
_REDUCTIONS = ("ReduceMin", "ReduceMax", "ReduceSum")
_OPSET_WITH_AXES_AS_INPUT = 18


def calibrate_onnx(
    path: Path,
    pictures: Iterable[NDArray[Any]],
    names: Sequence[str],
    method: CalibrationMethod = CalibrationMethod.MINMAX,
    progress: Progress = silent,
) -> GraphCalibration:
    """Run the graph on each picture once.

    Args:
        path: FP32 ONNX file with one input.
        pictures: The model's input, such as (1, height, width, 3) float32, read one by one.
        names: Of the pictures.
        method: How ranges are taken.
        progress: Told "calibrate NAME" after each picture.

    Returns:
        Ranges of all FP32 activations, the graph's input and output among them; per weighted layer the mean
        of its input.

    Raises:
        InputError: `path` is no ONNX file.
        ProofError: An activation is not finite.
    """
    model = load(path)
    graph = without_weights(model)
    tensors = tensors_of_onnx(graph)
    reduced = _Reduced(graph, tensors, method)
    input_name = graph.graph.input[0].name
    weights = _take_weights(model)
    del model  # the arrays are copies; from here on the weights are in memory once
    session = _session_of(graph, weights)
    observation = Observation(method, tensors, len(names))
    for done, (picture, name) in enumerate(zip(pictures, names, strict=True), 1):
        observation.take([reduced.seen(session.run(None, {input_name: picture}))], name)
        progress(f"calibrate {path.stem}", done, len(names))
    return observation.result()


def tensors_of_onnx(graph: "onnx.ModelProto") -> QuantizedTensors:
    """How the FP32 activations of a graph get their ranges.

    Args:
        graph: From `without_weights`; unchanged.
    """
    proto = graph.graph
    constants = {tensor.name for tensor in proto.initializer}
    constants |= {node.output[0] for node in proto.node if node.op_type == "Constant"}
    return quantized_tensors(
        _operations(proto, constants),
        [value.name for value in proto.input if value.name not in constants],
        [value.name for value in proto.output],
    )


def tensors_of_onnx_file(path: Path) -> QuantizedTensors:
    """The same of a file.

    Raises:
        InputError: `path` is no ONNX file.
    """
    return tensors_of_onnx(without_weights(load_graph(path)))


def _operations(graph: "onnx.GraphProto", constants: set[str]) -> Iterator[Operation]:
    zeros = {tensor.name for tensor in graph.initializer if _is_zero(tensor)}
    for node in graph.node:
        inputs = tuple(name for name in node.input if name and name not in constants)
        yield Operation(
            inputs=inputs,
            outputs=tuple(name for name in node.output if name),
            moves=_moves(node, zeros) and inputs[:1] == tuple(node.input[:1]),
            is_affine=node.op_type in _AFFINE,
            clips=node.op_type in _CLIPPING,
            scores=node.op_type in _SCORING,
        )


def _moves(node: "onnx.NodeProto", zeros: set[str]) -> bool:
    if node.op_type == "Pad":  # its third input is what it pads with
        return len(node.input) < 3 or not node.input[2] or node.input[2] in zeros
    return node.op_type in _MOVING


def _is_zero(tensor: "onnx.TensorProto") -> bool:
    import onnx

    return not is_bulk(tensor) and not np.any(onnx.numpy_helper.to_array(tensor))


class _Reduced:
    """Makes what calibration reads the only outputs of a graph, in place, and sorts these out afterwards."""

    def __init__(
        self, model: "onnx.ModelProto", tensors: QuantizedTensors, method: CalibrationMethod
    ) -> None:
        shapes = {value.name: shape_of(value) for value in _activations(model)}
        self._names = list(shapes)
        self._fetched = sorted(tensors.clippable & shapes.keys()) if method.needs_histograms else []
        self._means = _channel_axes(model.graph, shapes)
        graph, version = model.graph, opset(model)
        del graph.output[:]
        for name in self._names:
            for operator in _REDUCTIONS:
                _add_reduction(graph, operator, name)
        for name in self._fetched:
            _add_output(graph, name)
        for name, axis in self._means.items():
            _add_mean(graph, name, [i for i in range(len(shapes[name])) if i != axis], version)

    def seen(self, found: "list[NDArray[Any]]") -> Seen:
        """What one picture gave: the outputs of the graph, in order."""
        count, fetched = len(self._names) * len(_REDUCTIONS), len(self._fetched)
        numbers = [float(value) for value in found[:count]]
        triples = zip(self._names, numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
        return Seen(
            ranges={
                name: Range(math.nan, math.nan) if math.isnan(total) else Range(low, high)
                for name, low, high, total in triples
            },
            values=dict(zip(self._fetched, found[count : count + fetched], strict=True)),
            means=dict(zip(self._means, found[count + fetched :], strict=True)),
        )


def _activations(graph: "onnx.ModelProto") -> "list[onnx.ValueInfoProto]":
    import onnx

    found = values(inferred(graph).graph)
    floats = {v.name: v for v in found if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    constants = {node.output[0] for node in graph.graph.node if node.op_type == "Constant"}
    return [value for name, value in floats.items() if name not in constants]


def _channel_axes(graph: "onnx.GraphProto", shapes: "dict[str, tuple[int | None, ...]]") -> dict[str, int]:
    """Activation that a weighted layer reads → axis of its channels, or of a dense layer's features."""
    found: dict[str, int] = {}
    for node in graph.node:
        name = node.input[0] if node.input else ""
        if weighted_op(node) and len(shapes.get(name, ())) > 1 and not _reads_transposed(node):
            found.setdefault(name, 1 if node.op_type.startswith("Conv") else len(shapes[name]) - 1)
    return found


def _reads_transposed(node: "onnx.NodeProto") -> bool:
    return any(attribute.name == "transA" and attribute.i for attribute in node.attribute)


def _add_reduction(graph: "onnx.GraphProto", operator: str, name: str) -> None:
    import onnx

    reduced = f"edgepress_{operator}:{name}"
    graph.node.append(onnx.helper.make_node(operator, [name], [reduced], keepdims=0))
    _add_output(graph, reduced)


def _add_mean(graph: "onnx.GraphProto", name: str, axes: list[int], version: int) -> None:
    import onnx

    reduced = f"edgepress_ReduceMean:{name}"
    if version < _OPSET_WITH_AXES_AS_INPUT:
        node = onnx.helper.make_node("ReduceMean", [name], [reduced], keepdims=0, axes=axes)
    else:
        place = f"{reduced}:axes"
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(axes, np.int64), place))
        node = onnx.helper.make_node("ReduceMean", [name, place], [reduced], keepdims=0)
    graph.node.append(node)
    _add_output(graph, reduced)


def _add_output(graph: "onnx.GraphProto", name: str) -> None:
    """Declare an output whose type and shape ONNX Runtime infers."""
    import onnx

    graph.output.append(onnx.ValueInfoProto(name=name))


def fetching_session(model: "onnx.ModelProto", names: Sequence[str]) -> Any:
    """An ONNX Runtime session whose outputs are these tensors.

    Args:
        model: With its weights; unchanged.
        names: Activations of it.
    """
    graph = without_weights(model)
    inputs = {value.name for value in graph.graph.input}
    del graph.graph.output[:]
    for name in names:
        _add_output(graph.graph, name if name not in inputs else _copied(graph.graph, name))
    return _session_of(graph, _take_weights(model))


def _copied(graph: "onnx.GraphProto", name: str) -> str:
    """A tensor with the values of an input, which cannot be an output itself."""
    import onnx

    copy = f"edgepress_copy:{name}"
    graph.node.append(onnx.helper.make_node("Identity", [name], [copy]))
    return copy


def _take_weights(model: "onnx.ModelProto") -> dict[str, NDArray[Any]]:
    """Copies of the weights that `without_weights` leaves out."""
    import onnx

    bulk = [tensor for tensor in model.graph.initializer if is_bulk(tensor)]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in bulk}


def _session_of(graph: "onnx.ModelProto", weights: dict[str, NDArray[Any]]) -> Any:
    """An ONNX Runtime session for a graph without weights and the weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    if weights:
        tensors = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), tensors)
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
