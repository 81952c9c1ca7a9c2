"""The time of each node of a SavedModel's signature, from the trace that TensorFlow's own executor keeps.

A function cannot be asked for a trace with a public interface. A session of TensorFlow 1's interface can; it
runs the same kernels after the same graph optimizations.
"""

import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Precision
from edgepress.runners.runner import LayerTime

_WARM_UPS = 3
_TAG = "serve"


def layer_times(
    tensorflow: ModuleType,
    path: Path,
    threads: int,
    names: tuple[str, str],
    image: NDArray[np.float32],
    runs: int,
) -> tuple[LayerTime, ...]:
    """Time each node on the CPU, in the order of execution, in a session of its own.

    Args:
        tensorflow: The package.
        path: SavedModel folder, known to be sound.
        threads: As the runner takes them.
        names: Of the signature and of its output.
        image: (1, height, width, 3) preprocessed float32.
        runs: Inferences that count, after a few that do not.
    """
    v1 = tensorflow.compat.v1
    threading = v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1 if threads else 0
    )
    traced = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
    with v1.Session(graph=tensorflow.Graph(), config=threading) as session:
        signature = v1.saved_model.load(session, [_TAG], str(path)).signature_def[names[0]]
        source, target = next(iter(signature.inputs.values())).name, signature.outputs[names[1]].name
        durations: dict[str, list[int]] = {}
        described: dict[str, tuple[str, Any]] = {}
        for _ in range(_WARM_UPS + runs):
            trace = v1.RunMetadata()
            session.run(target, {source: image}, options=traced, run_metadata=trace)
            for device in trace.step_stats.dev_stats:
                for node in sorted(device.node_stats, key=lambda node: int(node.all_start_nanos)):
                    duration_ns = node.op_end_rel_nanos - node.op_start_rel_nanos
                    durations.setdefault(node.node_name, []).append(duration_ns)
                    described[node.node_name] = (_place(device.device), node)
    return tuple(
        LayerTime(
            name,
            _operator(described[name][1].timeline_label),
            described[name][0],
            precision_of(tensorflow, described[name][1]),
            float(statistics.median(found[-runs:])),
        )
        for name, found in durations.items()
    )


def _place(device: str) -> str:
    """E.g. "/job:localhost/replica:0/task:0/device:CPU:0" → "/CPU:0", as TensorFlow itself shortens it."""
    return "/" + device.rpartition("device:")[2]


def _operator(label: str) -> str:
    """E.g. "block1_conv1/Relu = _FusedConv2D(images, …)" → "_FusedConv2D"."""
    return label.partition(" = ")[2].partition("(")[0]


def precision_of(tensorflow: ModuleType, node: Any) -> Precision | None:
    """The precision that a node (NodeExecStats) computes with: the type of its first output.

    TensorFlow's float kernels compute in the type that they give. Shapes, variables and what gives nothing
    have none: None.
    """
    known = {
        tensorflow.float32: Precision.FP32,
        tensorflow.float16: Precision.FP16,
        tensorflow.qint8: Precision.INT8,
        tensorflow.int8: Precision.INT8,
    }
    outputs = node.output
    return known.get(tensorflow.as_dtype(outputs[0].tensor_description.dtype)) if outputs else None
