"""Values of an ONNX file's layers, with ONNX Runtime on the CPU."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import MissingRuntimeError
from edgepress.inspection.onnx_graph import consumers, is_bulk, load, without_weights
from edgepress.parity.layers import layers_in

if TYPE_CHECKING:
    import onnx

_MOVING = frozenset(
    {"Cast", "DequantizeLinear", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
_ONLY_FATAL = 4


def layers_of_onnx(
    path: Path, layers: frozenset[str], feeds: Iterable[NDArray[Any]]
) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Run the graph as it is written, and give what each layer gives, picture by picture.

    A layer's value is what its last node makes, and behind a Q/DQ pair, if one follows, what is left of it.

    Args:
        path: ONNX file whose nodes are named after layers.
        layers: Their names.
        feeds: Its input, one picture at a time.

    Yields:
        Layer → (1, …) float32, in the order of axes that the file has there.

    Raises:
        MissingRuntimeError: onnx or onnxruntime is not installed.
        InputError: It is no ONNX file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntimeError("onnxruntime", "onnxruntime") from error
    model = load(path)
    graph = without_weights(model)
    tensors = _tensors(graph.graph, layers)
    weights = _take_weights(model)
    del model
    del graph.graph.output[:]
    graph.graph.output.extend(_declared(name) for name in tensors.values())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = _ONLY_FATAL
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fed = session.get_inputs()[0].name
    for feed in feeds:
        found = session.run(list(tensors.values()), {fed: feed})
        yield {layer: np.asarray(value, np.float32) for layer, value in zip(tensors, found, strict=True)}


def _tensors(graph: "onnx.GraphProto", layers: frozenset[str]) -> dict[str, str]:
    """Layer → the tensor that holds its value; the graph's outputs, which are judged anyway, are left out."""
    named = layers_in([node.name for node in graph.node], layers)
    users = consumers(graph)
    outputs = {output.name for output in graph.output}
    found: dict[str, str] = {}
    for node in graph.node:
        layer = named.get(node.name)
        if layer is not None and node.op_type not in _MOVING and node.output[0] not in outputs:
            found[layer] = _behind_quantization(node.output[0], users)
    return found


def _behind_quantization(tensor: str, users: "dict[str, list[onnx.NodeProto]]") -> str:
    quantize = next((node for node in users.get(tensor, []) if node.op_type == "QuantizeLinear"), None)
    if quantize is None:
        return tensor
    pair = next((n for n in users.get(quantize.output[0], []) if n.op_type == "DequantizeLinear"), None)
    return tensor if pair is None else str(pair.output[0])


def _declared(name: str) -> "onnx.ValueInfoProto":
    """An output whose type and shape ONNX Runtime infers."""
    import onnx

    return onnx.ValueInfoProto(name=name)


def _take_weights(model: "onnx.ModelProto") -> dict[str, NDArray[Any]]:
    import onnx

    bulk = [tensor for tensor in model.graph.initializer if is_bulk(tensor)]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in bulk}
