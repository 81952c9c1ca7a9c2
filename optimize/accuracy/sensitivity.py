"""Sensitivity: what the logits lose if one layer alone is quantized and all others stay FP32.

One pass over the pictures. For each picture the FP32 graph runs once and gives what each layer reads; then,
for each layer, only the part of the graph behind it runs, on its rounded input and with its rounded weight.
So nothing before a layer is computed twice, memory does not grow with the number of pictures, and no model
file is written. ONNX Runtime copies each initializer into each session; so the weights of dense layers, which
are most of VGG16, are inputs instead, and all sessions read them from one place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.inspection.onnx_graph import inferred, is_bulk, load, values, weighted_op, without_weights
from edgepress.machine import usable_cores
from edgepress.progress import Progress, silent
from optimize.accuracy.fake_quantization import Scheme, rounded_activation, rounded_weight
from optimize.calibration import CALIBRATION, Ranges

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
_ROUNDED = "edgepress_rounded:"
_DENSE = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class Responses:
    """Scores of the FP32 graph, and of the graph with one layer rounded.

    Attributes:
        reference: (N, classes) first output of the FP32 graph.
        layers: Name of a weighted layer → (N, classes), in the order of the graph.
    """

    reference: NDArray[np.float32]
    layers: Mapping[str, NDArray[np.float32]]


def responses_of(
    path: Path,
    output: str,
    ranges: Ranges,
    scheme: Scheme,
    pictures: Iterable[Array],
    total: int,
    progress: Progress = silent,
) -> Responses:
    """Run the FP32 graph, and with each weighted layer rounded alone.

    Args:
        path: FP32 ONNX file with one input.
        output: Name of the output that holds the scores.
        ranges: Activation ranges of `path`.
        scheme: How weights and activations are rounded.
        pictures: Inputs of the model with one picture each, or one picture that fills a fixed batch.
        total: Number of pictures, for `progress` only.
        progress: Told "sensitivity" after each picture.

    Raises:
        InputError: `path` is no ONNX file, no layer has a stored weight, or a layer's input has no range.
    """
    model = load(path)
    graph = without_weights(model)
    small = {tensor.name for tensor in graph.graph.initializer if not is_bulk(tensor)}
    weights = _weights(model)
    del model  # the arrays are copies
    parts = _parts_of(graph, output, ranges, weights)
    if not parts:
        raise InputError(f"{path} has no layer with stored weights: nothing to quantize. Use another model.")
    shared = _ort_values({name: array for name, array in weights.items() if name not in small})
    boundary = sorted({name for part in parts for name in part.inputs})
    reference = _Runnable(_with_outputs(graph, [output, *boundary]), shared)
    runnables = [_Runnable(part.model, {**shared, **_own_weight(part, weights, scheme)}) for part in parts]
    of_reference: list[Array] = []
    of_parts: list[list[Array]] = [[] for _ in parts]
    input_name = graph.graph.input[0].name
    for done, picture in enumerate(pictures, 1):
        scores, *found = reference([output, *boundary], {input_name: picture})
        of_reference.append(scores[:1])
        tensors = dict(zip(boundary, found, strict=True))
        for part, runnable, results in zip(parts, runnables, of_parts, strict=True):
            feed = {name: tensors[name] for name in part.fed}
            feed[part.rounded] = rounded_activation(tensors[part.activation], ranges[part.activation], scheme)
            results.append(runnable([output], feed)[0][:1])
        progress("sensitivity", done, total)
    rows = (np.concatenate(results).astype(np.float32) for results in of_parts)
    names = (part.layer for part in parts)
    return Responses(np.concatenate(of_reference).astype(np.float32), dict(zip(names, rows, strict=True)))


@dataclass(frozen=True)
class _Part:
    """What lies behind one layer, the layer itself included.

    Attributes:
        layer: Its name.
        activation: Tensor that it reads.
        weight: Its stored weight.
        channel_axis: Of the output channels in the weight.
        model: The part as a graph without large weights.
        fed: Tensors of the FP32 graph that the part reads as they are.
    """

    layer: str
    activation: str
    weight: str
    channel_axis: int
    model: "onnx.ModelProto"
    fed: tuple[str, ...]

    @property
    def rounded(self) -> str:
        """Name of the rounded activation in the part."""
        return f"{_ROUNDED}{self.activation}"

    @property
    def rounded_weight(self) -> str:
        """Name of the rounded weight in the part."""
        return f"{_ROUNDED}{self.weight}"

    @property
    def inputs(self) -> frozenset[str]:
        """Tensors of the FP32 graph that are needed to run the part."""
        return frozenset({self.activation, *self.fed})


def _parts_of(
    graph: "onnx.ModelProto", output: str, ranges: Ranges, weights: Mapping[str, Array]
) -> list[_Part]:
    types = {value.name: value for value in values(inferred(graph).graph)}
    layers = [node for node in graph.graph.node if weighted_op(node) and node.input[1] in weights]
    found = []
    for node in layers:
        if node.input[0] not in ranges:
            raise InputError(
                f"The input {node.input[0]!r} of layer {_name(node)!r} has no calibrated range. "
                f"Calibrate again: remove {CALIBRATION} and run optimize."
            )
        found.append(_part(graph, node, output, types))
    return found


def _name(node: "onnx.NodeProto") -> str:
    return str(node.name or node.output[0])


def _part(
    whole: "onnx.ModelProto", layer: "onnx.NodeProto", output: str, types: "dict[str, onnx.ValueInfoProto]"
) -> _Part:
    import onnx

    behind = _behind(whole.graph, layer)
    needed = _constants(whole.graph, behind)
    operation = weighted_op(layer)
    model = onnx.ModelProto(ir_version=whole.ir_version)
    model.opset_import.extend(whole.opset_import)
    model.functions.extend(whole.functions)
    graph = model.graph
    graph.name = "part"
    graph.node.extend([*needed, *behind])
    copy = next(node for node in graph.node if node.output[0] == layer.output[0])
    activation, weight = layer.input[0], layer.input[1]
    copy.input[0], copy.input[1] = f"{_ROUNDED}{activation}", f"{_ROUNDED}{weight}"
    axis = operation.channel_axis if operation else 0
    part = _Part(_name(layer), activation, weight, axis, model, _fed(whole, graph))
    read = {name for node in graph.node for name in node.input}
    graph.initializer.extend(tensor for tensor in whole.graph.initializer if tensor.name in read)
    stub = next(tensor for tensor in whole.graph.initializer if tensor.name == weight)
    own = graph.initializer.add(name=part.rounded_weight, data_type=stub.data_type, dims=stub.dims)
    own.data_location = onnx.TensorProto.EXTERNAL
    own.external_data.add(key="location", value=part.rounded_weight)
    for name in part.fed:
        graph.input.append(types[name])
    graph.input.append(types[activation])
    graph.input[-1].name = part.rounded
    graph.output.append(next(value for value in whole.graph.output if value.name == output))
    return part


def _behind(graph: "onnx.GraphProto", layer: "onnx.NodeProto") -> "list[onnx.NodeProto]":
    """The layer and all nodes that depend on it, in topological order."""
    reached = {layer.output[0]}
    found = []
    for node in graph.node:
        if node.output[0] == layer.output[0] or reached & set(node.input):
            found.append(node)
            reached |= set(node.output)
    return found


def _constants(graph: "onnx.GraphProto", nodes: "list[onnx.NodeProto]") -> "list[onnx.NodeProto]":
    """The nodes without inputs that these read."""
    read = {name for node in nodes for name in node.input}
    return [node for node in graph.node if not node.input and read & set(node.output)]


def _fed(whole: "onnx.ModelProto", part: "onnx.GraphProto") -> tuple[str, ...]:
    """Tensors that a part reads, and that neither it nor the initializers give; without what is rounded."""
    given = {tensor.name for tensor in whole.graph.initializer}
    given |= {name for node in part.node for name in node.output}
    read = dict.fromkeys(name for node in part.node for name in node.input if name)
    return tuple(name for name in read if name not in given and not name.startswith(_ROUNDED))


def _with_outputs(graph: "onnx.ModelProto", names: list[str]) -> "onnx.ModelProto":
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    types = {value.name: value for value in values(inferred(graph).graph)}
    del copy.graph.output[:]
    copy.graph.output.extend(types[name] for name in dict.fromkeys(names))
    return copy


def _weights(model: "onnx.ModelProto") -> dict[str, Array]:
    import onnx

    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _own_weight(part: _Part, weights: Mapping[str, Array], scheme: Scheme) -> dict[str, Any]:
    weight = weights[part.weight]
    axis = part.channel_axis if weight.ndim > 1 else 0
    return _ort_values({part.rounded_weight: rounded_weight(weight, axis, scheme)})


def _ort_values(arrays: Mapping[str, Array]) -> dict[str, Any]:
    import onnxruntime

    return {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in arrays.items()
    }


class _Runnable:
    """A graph in a session; the weights of its dense layers are inputs, and stay where they are."""

    def __init__(self, model: "onnx.ModelProto", weights: Mapping[str, Any]) -> None:
        import onnx

        graph = model.graph
        dense = {node.input[1] for node in graph.node if node.op_type in _DENSE}
        stubs = {tensor.name: tensor for tensor in graph.initializer if tensor.name in weights}
        self._fed = {name: weights[name] for name in stubs if name in dense}
        for name in self._fed:
            tensor = stubs[name]
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
            graph.initializer.remove(tensor)
        kept = {name: weights[name] for name in stubs if name not in self._fed}
        self._session = _session(model, kept)

    def __call__(self, outputs: list[str], feed: Mapping[str, Array]) -> list[Array]:
        """The outputs of these names."""
        found = self._session.run_with_ort_values(outputs, {**_ort_values(feed), **self._fed})
        return [value.numpy() for value in found]


def _session(model: "onnx.ModelProto", weights: Mapping[str, Any]) -> Any:
    """A session that packs none of its weights into one more copy."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Many sessions take turns: threads of the last one must not keep the cores busy while they wait.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        options.add_external_initializers(list(weights), list(weights.values()))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
