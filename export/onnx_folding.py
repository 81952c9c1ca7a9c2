"""Clean-up of a converted ONNX graph whose kernels are still graph inputs.

What depends on weights alone is computed once, here; what is left is the network: Conv, Relu, MaxPool, Gemm.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import ProofError

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
ReadWeight = Callable[[], Array]
Constants = dict[str, ReadWeight]
"""Name → how to get at its value. Kernels are read only when and where they are needed."""

Shapes = Mapping[str, tuple[int | None, ...]]


def fold(model: "onnx.ModelProto", weights: Mapping[str, ReadWeight], layers: frozenset[str]) -> None:
    """Turn graph inputs into initializers and clean the graph, in place.

    Args:
        model: Its first graph input is the data, all others are in `weights`.
        weights: Value of each other graph input. Large ones are read one at a time.
        layers: Names of the network's layers, which the nodes are named after.

    Raises:
        ProofError: An operation on weights alone cannot be computed here.
    """
    graph = model.graph
    constants: Constants = {**_take_initializers(graph), **weights}
    del graph.input[1:]
    shapes = _shapes(model, constants)
    _make_reshapes_constant(graph, constants, shapes)
    _remove_dead(graph)
    _compute_constants(model, constants)
    _absorb_scale_and_offset(graph, constants)
    _make_gemm(graph, constants, shapes)
    _remove_dead(graph)
    renamed = _name_after_layers(graph, constants, layers)
    del graph.value_info[:]
    _write_initializers(graph, constants, renamed)


def _take_initializers(graph: "onnx.GraphProto") -> Constants:
    from onnx import numpy_helper

    found = {tensor.name: _known(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    del graph.initializer[:]
    return found


def _known(value: Array) -> ReadWeight:
    return lambda: value


def _shapes(model: "onnx.ModelProto", constants: Constants) -> Shapes:
    """Inferred shape of every tensor; None stands for a dimension that follows the batch."""
    import onnx
    from onnx import numpy_helper

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name, read in constants.items():
        value = read()
        if value.ndim <= 1:  # values that shapes are computed from
            probe.graph.initializer.append(numpy_helper.from_array(value, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            probe.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True).graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }


def _make_reshapes_constant(graph: "onnx.GraphProto", constants: Constants, shapes: Shapes) -> None:
    """Replace a target shape computed from the batch (Shape → Gather → … → Concat) by (-1, n, …)."""
    for node in graph.node:
        target = shapes.get(node.output[0], ())
        if node.op_type == "Reshape" and node.input[1] not in constants and target.count(None) == 1:
            name = f"{node.name}/shape"
            constants[name] = _known(np.asarray([-1 if dim is None else dim for dim in target], np.int64))
            node.input[1] = name


def _remove_dead(graph: "onnx.GraphProto") -> None:
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    _set_nodes(graph, kept[::-1])


def _set_nodes(graph: "onnx.GraphProto", nodes: "list[onnx.NodeProto]") -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _compute_constants(model: "onnx.ModelProto", constants: Constants) -> None:
    """Compute every node all of whose inputs are constants: kernel transposes, bias reshapes and so on."""
    left = []
    for node in model.graph.node:
        if all(name in constants or not name for name in node.input):
            constants.update(_computed(node, constants, model.opset_import))
        else:
            left.append(node)
    _set_nodes(model.graph, left)


def _computed(node: "onnx.NodeProto", constants: Constants, opsets: Any) -> Constants:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    feeds = {name: constants[name]() for name in node.input if name}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    single = helper.make_model(helper.make_graph([node], "single", inputs, outputs), opset_imports=opsets)
    try:
        values = ReferenceEvaluator(single).run(None, feeds)
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ProofError(
            f"The operation {node.op_type} ({node.name}) works on weights alone and cannot be computed ahead "
            f"({error}). Leave ONNX out with --format."
        ) from error
    return {name: _known(np.asarray(value)) for name, value in zip(node.output, values, strict=True)}


def _consumers(graph: "onnx.GraphProto") -> Counter[str]:
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    return uses


def _absorb_scale_and_offset(graph: "onnx.GraphProto", constants: Constants) -> None:
    """Bring a Mul or Add per channel behind a Conv (a batch normalization) into its kernel and bias."""
    uses = _consumers(graph)
    producers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    left = []
    for node in graph.node:
        conv = next((producers[name] for name in node.input if name in producers), None)
        if conv is None or node.op_type not in {"Mul", "Add"} or uses[conv.output[0]] != 1:
            left.append(node)
            continue
        other = next(name for name in node.input if name != conv.output[0])
        channels = _per_channel(constants[other](), conv, constants) if other in constants else None
        if channels is None:
            left.append(node)
            continue
        _absorb(node.op_type, channels, conv, constants)
        del producers[conv.output[0]]
        conv.output[0] = node.output[0]
        producers[conv.output[0]] = conv
    _set_nodes(graph, left)


def _per_channel(value: Array, conv: "onnx.NodeProto", constants: Constants) -> Array | None:
    """(C,) values of a constant that is the same over batch, rows and columns; None if it is not."""
    channels = constants[conv.input[1]]().shape[0]
    if value.size == 1:
        return np.broadcast_to(value.reshape(()), (channels,))
    shape = (1,) * (4 - value.ndim) + value.shape
    return value.reshape(channels) if shape == (1, channels, 1, 1) else None


def _absorb(operation: str, channels: Array, conv: "onnx.NodeProto", constants: Constants) -> None:
    kernel = constants[conv.input[1]]()
    bias = constants[conv.input[2]]() if len(conv.input) > 2 else np.zeros(len(channels), kernel.dtype)
    if operation == "Mul":
        kernel_name = f"{conv.output[0]}/scaled_kernel"
        constants[kernel_name] = _known(kernel * channels.reshape(-1, 1, 1, 1))
        conv.input[1] = kernel_name
        bias = bias * channels
    else:
        bias = bias + channels
    bias_name = f"{conv.output[0]}/{operation}_bias"
    constants[bias_name] = _known(bias)
    conv.input[2:] = [bias_name]


def _make_gemm(graph: "onnx.GraphProto", constants: Constants, shapes: Shapes) -> None:
    """MatMul of a matrix and a kernel, with the Add of a bias behind it, becomes one Gemm."""
    uses = _consumers(graph)
    dense: dict[str, onnx.NodeProto] = {}
    left = []
    for node in graph.node:
        if (
            node.op_type == "MatMul"
            and node.input[1] in constants
            and len(shapes.get(node.input[0], ())) == 2
        ):
            node.op_type = "Gemm"
            dense[node.output[0]] = node
        gemm = next((dense[name] for name in node.input if name in dense), None)
        bias = next((name for name in node.input if name in constants), None)
        if gemm is None or bias is None or node.op_type != "Add" or uses[gemm.output[0]] != 1:
            left.append(node)
            continue
        value = constants[bias]()
        constants[bias] = _known(value.reshape(value.size))
        gemm.input.append(bias)
        gemm.output[0] = node.output[0]
    _set_nodes(graph, left)


_ROLES = {("Conv", 1): "kernel", ("Conv", 2): "bias", ("Gemm", 1): "kernel", ("Gemm", 2): "bias"}
_MAIN = frozenset({"Conv", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape"})


def _name_after_layers(
    graph: "onnx.GraphProto", constants: Constants, layers: frozenset[str]
) -> dict[str, str]:
    """Name nodes, their outputs and their constants after layers; returns the constants' new names."""
    taken: Counter[str] = Counter()
    tensors: dict[str, str] = {graph.input[0].name: graph.input[0].name}
    tensors |= {output.name: output.name for output in graph.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        layer = _layer_of(node.name, layers)
        name = layer if layer and node.op_type in _MAIN else f"{layer or 'graph'}/{node.op_type}"
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        for i, source in enumerate(node.input):
            if source in constants:
                role = _ROLES.get((node.op_type, i), f"constant_{i}")
                tensors.setdefault(source, f"{node.name}/{role}")
                renamed.setdefault(source, tensors[source])
            node.input[i] = tensors[source] if source else ""
        for i, made in enumerate(node.output):
            tensors.setdefault(made, node.name if i == 0 else f"{node.name}:{i}")
            node.output[i] = tensors[made]
    return renamed


def _layer_of(node_name: str, layers: frozenset[str]) -> str:
    """Layer in a name such as "model_1/fc1_1/MatMul"; TensorFlow appends numbers to make scopes unique."""
    found = []
    for part in node_name.split("/")[:-1]:
        base, _, number = part.rpartition("_")
        name = part if part in layers else base if number.isdigit() and base in layers else None
        if name:
            found.append(name)
    return "/".join(found)


def _write_initializers(graph: "onnx.GraphProto", constants: Constants, renamed: Mapping[str, str]) -> None:
    """One copy of each weight, straight from the array to the graph."""
    from onnx import helper

    for old, name in renamed.items():
        value = constants.pop(old)()
        tensor = graph.initializer.add()
        tensor.name = name
        tensor.dims.extend(value.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.raw_data = value.tobytes()
