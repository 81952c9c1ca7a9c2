"""From the file that ONNX Runtime's own profiler writes to the time of each node.

The file is a JSON array of events in the trace format of Chromium. A node's event is
called `NODE_kernel_time`, and its arguments hold the operator, the execution provider and the types of the
inputs that are not packed away before (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).
"""

import json
import statistics
from pathlib import Path
from typing import Any

from edgepress.artifact import Precision
from edgepress.runners.runner import LayerTime

_SUFFIX = "_kernel_time"
_CONVERSIONS = {"Cast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_INTEGER_OPERATORS = {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}  # float in, integer arithmetic inside
_PRECISIONS = {
    "float": Precision.FP32,
    "float16": Precision.FP16,
    "int8": Precision.INT8,
    "uint8": Precision.INT8,
}
_NS_PER_US = 1000


def layer_times(trace: Path, runs: int) -> tuple[LayerTime, ...]:
    """The nodes of a trace, in the order of execution, each with the median over the last `runs` inferences.

    Nodes that ONNX Runtime made itself (fused ones, reorders, casts) keep the names that it gave them. Its
    clock has a resolution of 1 µs.

    Args:
        trace: What `InferenceSession.end_profiling` left.
        runs: Inferences that count; what the trace holds of earlier ones was warm-up.
    """
    events = [event for event in json.loads(trace.read_text(encoding="utf-8")) if _is_of_a_node(event)]
    durations: dict[tuple[str, str], list[float]] = {}
    described: dict[tuple[str, str], dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: float(event["ts"])):
        name, arguments = event["name"].removesuffix(_SUFFIX), event["args"]
        key = (name, arguments.get("node_index", ""))  # a file's own names need not be unique
        durations.setdefault(key, []).append(event["dur"] * _NS_PER_US)
        described[key] = arguments
    return tuple(
        LayerTime(
            key[0],
            described[key]["op_name"],
            described[key]["provider"],
            precision_of(described[key]),
            float(statistics.median(found[-runs:])),
        )
        for key, found in durations.items()
    )


def _is_of_a_node(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith(_SUFFIX)


def precision_of(arguments: dict[str, Any]) -> Precision | None:
    """The precision of the numbers that a node computes with.

    It is the type of the node's first input, its activations: (u)int8 → INT8, float16 → FP16, float → FP32.
    Operators that quantize their input themselves before an integer product are INT8. A conversion (Cast,
    QuantizeLinear, …) computes nothing in either of its types, and a node of shapes computes with none of
    these: None.

    Args:
        arguments: `args` of the node's event.
    """
    operator = arguments["op_name"]
    if operator in _CONVERSIONS:
        return None
    if operator in _INTEGER_OPERATORS:
        return Precision.INT8
    inputs = arguments.get("input_type_shape") or [{}]
    return next((_PRECISIONS.get(name) for name in inputs[0]), None)
