"""Reading ONNX graphs: weights, shapes and neighbours, without copying hundreds of megabytes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.artifact import onnx_graph_of
from edgepress.errors import InputError

if TYPE_CHECKING:
    import onnx

# Larger tensors are weights; smaller ones may hold a shape that shape inference needs.
_BULK_BYTES = 1024


@dataclass(frozen=True)
class WeightedOp:
    """How an operator uses its weight, which is always its second input.

    Attributes:
        channel_axis: Axis of the output channels in the weight.
    """

    channel_axis: int


def load(path: Path) -> "onnx.ModelProto":
    """Read an ONNX file, with the weights that lie beside it.

    Raises:
        InputError: It is no ONNX file, or a file of its weights is missing or too short.
    """
    import onnx

    model, folder = load_graph(path), onnx_graph_of(path).parent
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(
            f"{path} keeps weights in another file, which cannot be read ({error}). Put it beside the model."
        ) from error
    return model


def load_graph(path: Path) -> "onnx.ModelProto":
    """Read an ONNX file without the weights that lie beside it.

    Raises:
        InputError: It is no ONNX file, or holds no graph.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(onnx_graph_of(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}). Export the model anew.") from error
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph: wanted nodes, got none. Export the model anew.")
    return model


def external_files(model: "onnx.ModelProto") -> tuple[str, ...]:
    """Names of the files beside the model that hold weights."""
    import onnx

    return tuple(
        dict.fromkeys(
            entry.value
            for tensor in model.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        )
    )


def without_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy of the graph in which large initializers have a type and shape, but no data.

    They are marked as external, with their own name as location: shape inference works on the copy, and
    ONNX Runtime accepts the data through `SessionOptions.add_external_initializers`.
    """
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    source, graph = model.graph, bare.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    bare.functions.extend(model.functions)
    for tensor in source.initializer:
        if not is_bulk(tensor):
            graph.initializer.append(tensor)
            continue
        stub = graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        stub.data_location = onnx.TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=tensor.name)
    return bare


def is_bulk(tensor: "onnx.TensorProto") -> bool:
    """Whether `without_weights` leaves this tensor's data out."""
    return bool(math.prod(tensor.dims) * 4 >= _BULK_BYTES)


def inferred(bare: "onnx.ModelProto", batch: int | None = None) -> "onnx.ModelProto":
    """The graph with types and shapes of all tensors.

    Args:
        bare: From `without_weights`; unchanged.
        batch: Fixes the first dimension of each input; None leaves it as it is.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(bare)
    if batch is not None:
        del copy.graph.value_info[:]
        initializers = {tensor.name for tensor in copy.graph.initializer}
        for value in copy.graph.input:
            if value.name not in initializers and value.type.tensor_type.shape.dim:
                value.type.tensor_type.shape.dim[0].dim_value = batch
        for value in copy.graph.output:
            value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(copy, data_prop=True)


def values(graph: "onnx.GraphProto") -> "Iterator[onnx.ValueInfoProto]":
    """Inputs, inner tensors and outputs of a graph, without initializers."""
    initializers = {tensor.name for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.name not in initializers:
            yield value


def shape_of(value: "onnx.ValueInfoProto") -> tuple[int | None, ...]:
    """Dimensions of a tensor; None where one is dynamic."""
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)


def weighted_op(node: "onnx.NodeProto") -> WeightedOp | None:
    """How a node uses its weight; None if it is no weighted layer."""
    if node.op_type in {"Conv", "ConvTranspose"}:
        return WeightedOp(0 if node.op_type == "Conv" else 1)
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return WeightedOp(0 if transposed else 1)
    return WeightedOp(1) if node.op_type == "MatMul" else None


def producers(graph: "onnx.GraphProto") -> "dict[str, onnx.NodeProto]":
    """The node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def consumers(graph: "onnx.GraphProto") -> "dict[str, list[onnx.NodeProto]]":
    """The nodes that read each tensor."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def opset(model: "onnx.ModelProto") -> int:
    """Version of the standard operator set."""
    return int(next(item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}))
