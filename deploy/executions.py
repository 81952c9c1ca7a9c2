"""The ways in which ONNX Runtime may rightly run a model: other kernels, other graph, other threads."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.interface import Interface

_ONLY_FATAL = 4
_FLOAT_QDQ = (("session.disable_quant_qdq", "1"),)


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


# GOLDEN is what a bundle's infer.py does, and gives the golden logits. ONNX Runtime computes Q/DQ pairs with
# integer kernels or in float, and moves them first where it may change the graph. Its version and the CPU
# decide which.
GOLDEN = Execution("as infer.py runs it, 1 thread")
EXECUTIONS = (
    Execution("2 threads", threads=2),
    Execution("without optimizations that are for this CPU", "ORT_ENABLE_EXTENDED"),
    Execution("graph as written", "ORT_DISABLE_ALL"),
    Execution("Q/DQ in float, where the file has it", "ORT_ENABLE_BASIC", entries=_FLOAT_QDQ),
    Execution("Q/DQ in float, moved as for integer kernels", entries=_FLOAT_QDQ),
)


def run(execution: Execution, path: Path, inputs: NDArray[Any], interface: Interface) -> NDArray[np.float32]:
    """First output, (N, classes) float32, of an ONNX file on the CPU: one by one, or by its fixed batch.

    Args:
        execution: How.
        path: The file.
        inputs: As `interface` feeds them.
        interface: Of the file.

    Raises:
        InputError: ONNX Runtime cannot load the file.
    """
    import onnxruntime

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
