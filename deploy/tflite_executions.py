"""The ways in which LiteRT may rightly run a TFLite file: XNNPACK or its own kernels, one thread or two."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.executions import Execution, Ways
from edgepress.interface import Interface
from edgepress.runners.litert_runner import DEFAULT_RESOLVER, LiteRtRunner

_NO_DELEGATE = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"

# An Execution's level is here the name of the ai_edge_litert.interpreter.OpResolverType. GOLDEN is what a
# bundle's backend.py does. Phones and boards differ in what XNNPACK has for them; where it has nothing,
# LiteRT's own kernels run. Its reference kernels (BUILTIN_REF) take no part. They differ from XNNPACK by what
# its own kernels do: digits in INT8 by one step of the logits, with 0.0647 against 0.0639 in the root mean
# square; full VGG16 in FP32 by 0.0025 of 1283. There a picture takes them 39 s, own kernels 6 s, XNNPACK 1 s.
GOLDEN = Execution("as infer.py runs it, 1 thread", DEFAULT_RESOLVER)
EXECUTIONS = (
    Execution("2 threads", DEFAULT_RESOLVER, threads=2),
    Execution("LiteRT's own kernels, without XNNPACK, 2 threads", _NO_DELEGATE, threads=2),
)
_MOVED_SHARE = 0.25  # sums that lie between two steps, rounded the other way by another CPU


def run_tflite(
    execution: Execution, path: Path, inputs: NDArray[Any], interface: Interface
) -> NDArray[np.float32]:
    """First output, (N, classes) float32, of a TFLite file on the CPU, by its fixed batch.

    Integer inputs and outputs are quantized and dequantized inside, as a bundle's backend.py does.

    Args:
        execution: How.
        path: The file.
        inputs: As `interface` feeds them.
        interface: Of the file. The batch is the one in the file.

    Raises:
        InputError: LiteRT cannot load the file, or is not installed.
    """
    del interface  # the same function for every runtime; here the file says all
    with LiteRtRunner(path, execution.threads, execution.level) as runner:
        return np.asarray(runner.infer(inputs), np.float32)


def tflite_ways() -> Ways:
    """The ways for a TFLite file, on whatever CPU it is to run."""
    return Ways(run_tflite, GOLDEN, EXECUTIONS, _MOVED_SHARE)
