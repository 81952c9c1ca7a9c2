"""Activation ranges of an FP32 ONNX graph, with ONNX Runtime: one picture at a time, flat memory.

The graph itself reduces each activation to its minimum and maximum, so that no activation reaches
Python and memory does not depend on the number of pictures. The weights are handed to the session as
they were read from the file: there is no second model file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.inspection.onnx_graph import inferred, is_bulk, load, values, without_weights
from edgepress.machine import usable_cores
from edgepress.progress import Progress, silent
from optimize.calibration import Range, widen

if TYPE_CHECKING:
    import onnx

_PREFIXES = {"ReduceMin": "edgepress_min:", "ReduceMax": "edgepress_max:"}


def ranges_of_onnx(
    path: Path, pictures: Iterable[NDArray[np.float32]], total: int, progress: Progress = silent
) -> dict[str, Range]:
    """Smallest and largest value of each FP32 activation over all pictures.

    Args:
        path: FP32 ONNX file with one input.
        pictures: Model inputs (1, height, width, 3) float32, read one by one.
        total: Number of pictures, for `progress` only.
        progress: Told "calibrate NAME" after each picture.

    Returns:
        Tensor name → range; inputs and outputs of the graph are among them.

    Raises:
        InputError: `path` is no ONNX file.
        ProofError: An activation is not finite.
    """
    model = load(path)
    graph = without_weights(model)
    names = _activations(graph)
    _add_reductions(graph, names)
    input_name = graph.graph.input[0].name
    weights = _take_weights(model)
    del model  # the arrays are copies; from here on the weights are in memory once
    session = _session(graph, weights)
    ranges: dict[str, Range] = {}
    for done, picture in enumerate(pictures, 1):
        found = [float(value) for value in session.run(None, {input_name: picture})]
        for name, lowest, highest in zip(names, found[0::2], found[1::2], strict=True):
            widen(ranges, name, lowest, highest)
        progress(f"calibrate {path.stem}", done, total)
    return ranges


def _activations(graph: "onnx.ModelProto") -> list[str]:
    import onnx

    found = values(inferred(graph).graph)
    return list(
        dict.fromkeys(v.name for v in found if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    )


def _add_reductions(model: "onnx.ModelProto", names: list[str]) -> None:
    """Make each tensor's minimum and maximum the only outputs of the graph."""
    import onnx

    graph = model.graph
    del graph.output[:]
    for name in names:
        for operator, prefix in _PREFIXES.items():
            reduced = f"{prefix}{name}"
            graph.node.append(onnx.helper.make_node(operator, [name], [reduced], keepdims=0))
            graph.output.append(onnx.helper.make_tensor_value_info(reduced, onnx.TensorProto.FLOAT, []))


def _take_weights(model: "onnx.ModelProto") -> dict[str, NDArray[Any]]:
    import onnx

    bulk = [tensor for tensor in model.graph.initializer if is_bulk(tensor)]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in bulk}


def _session(graph: "onnx.ModelProto", weights: dict[str, NDArray[Any]]) -> Any:
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
