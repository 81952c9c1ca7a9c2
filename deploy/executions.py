"""The ways in which a model may rightly be run by ONNX Runtime: other kernels, other graph, other threads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.interface import Interface

_ONLY_FATAL = 4
_FLOAT_QDQ = (("session.disable_quant_qdq", "1"),)


class Place(str, Enum):
    """Which kernels the device has, seen from here."""

    LIKE_HERE = "like here"  # this machine's own integer kernels tell what the device's do
    OTHER_CPU = "another CPU"  # its integer kernels are right, and those of this machine may saturate
    GPU = "GPU"  # TensorRT computes each Q/DQ pair where it stands in the graph


@dataclass(frozen=True)
class Execution:
    """Options of a session.

    Attributes:
        name: In words, as in the manifest.
        level: Name of the onnxruntime.GraphOptimizationLevel.
        threads: That share one operator.
        entries: Further configuration of the session, as names and values.
    """

    name: str
    level: str = "ORT_ENABLE_ALL"
    threads: int = 1
    entries: tuple[tuple[str, str], ...] = ()


# ONNX Runtime computes Q/DQ pairs with integer kernels or in float, and moves them first where it may change
# the graph. Its version and the CPU decide which.
_INTEGERS = Execution("as infer.py runs it, 1 thread")
_OTHERS = (
    Execution("2 threads", threads=2),
    Execution("without optimizations that are for this CPU", "ORT_ENABLE_EXTENDED"),
    Execution("graph as written", "ORT_DISABLE_ALL"),
)
_FLOAT = Execution("Q/DQ in float, where the file has it", "ORT_ENABLE_BASIC", entries=_FLOAT_QDQ)
_FLOAT_MOVED = Execution("Q/DQ in float, moved as for integer kernels", entries=_FLOAT_QDQ)


def run_onnx(
    execution: Execution, path: Path, inputs: NDArray[Any], interface: Interface
) -> NDArray[np.float32]:
    """First output, (N, classes) float32, of an ONNX file on the CPU: one by one, or by its fixed batch.

    Args:
        execution: How.
        path: The file.
        inputs: As `interface` feeds them.
        interface: Of the file.

    Raises:
        InputError: ONNX Runtime cannot load the file, or is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingRuntimeError("onnxruntime", "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, execution.level)
    options.intra_op_num_threads = execution.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    for name, value in execution.entries:
        options.add_session_config_entry(name, value)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base
        reason = " ".join(str(error).split())
        raise InputError(
            f"ONNX Runtime cannot load {path} ({execution.name}): {reason}. Bundle another --variant."
        ) from error
    name, head = session.get_inputs()[0].name, session.get_outputs()[0].name
    in_turn = replace(interface, batch=interface.batch or 1)
    scores = in_turn.run(lambda block: session.run([head], {name: block})[0], inputs)
    return np.asarray(scores, np.float32)


Run = Callable[[Execution, Path, NDArray[Any], Interface], NDArray[np.float32]]


@dataclass(frozen=True)
class Ways:
    """How a file may rightly be run, as far as this machine can show it.

    Attributes:
        run: Runs the file in one of these ways: (N, classes) float32.
        golden: Gives the golden logits.
        others: Give what a device may differ by.
        moved_share: By what share of that which its precision moved (against FP32) a device may differ at
            least.
    """

    run: Run
    golden: Execution
    others: tuple[Execution, ...]
    moved_share: float


_HERE_SHARE = 0.25  # sums that lie between two steps, rounded the other way by another CPU
# ARM's integer kernels (full VGG16, real weights, under qemu-user) were 0.38 of that away from float answers
# in the largest logit, and 0.48 of it in the root mean square.
_OTHER_CPU_SHARE = 0.75
_GPU_SHARE = 1.0  # other products, sums and roundings than any CPU's, and none of them could be tried here


def onnx_ways(place: Place) -> Ways:
    """The ways for an ONNX file, by where it is to run."""
    if place is Place.LIKE_HERE:
        return Ways(run_onnx, _INTEGERS, (*_OTHERS, _FLOAT, _FLOAT_MOVED), _HERE_SHARE)
    golden = _FLOAT_MOVED if place is Place.OTHER_CPU else _FLOAT
    two_threads = replace(golden, name=f"{golden.name}, 2 threads", threads=2)
    if place is Place.OTHER_CPU:
        return Ways(run_onnx, golden, (two_threads, _FLOAT), _OTHER_CPU_SHARE)
    as_written = Execution("Q/DQ in float, graph as written", "ORT_DISABLE_ALL", entries=_FLOAT_QDQ)
    return Ways(run_onnx, golden, (two_threads, as_written), _GPU_SHARE)
