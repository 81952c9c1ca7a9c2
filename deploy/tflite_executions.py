"""The ways in which LiteRT may rightly run a TFLite file: XNNPACK or its own kernels, one thread or two.

The counterpart of `deploy.executions`, with the same names in it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.interface import Interface
from edgepress.runners.litert_runner import DEFAULT_RESOLVER, LiteRtRunner

_NO_DELEGATE = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"


@dataclass(frozen=True)
class Execution:
    """Options of an interpreter.

    Attributes:
        name: In words, as in the manifest.
        resolver: Name of the ai_edge_litert.interpreter.OpResolverType.
        threads: Of the interpreter.
    """

    name: str
    resolver: str = DEFAULT_RESOLVER
    threads: int = 1


# GOLDEN is what a bundle's backend.py does, and gives the golden logits. Phones and boards differ in what
# XNNPACK has for them; where it has nothing, LiteRT's own kernels run. Its reference kernels (BUILTIN_REF) take
# no part: in the digits network they round as its own kernels do (INT8: both differ from XNNPACK by one step of
# the logits, with 0.0639 or 0.0647 in the root mean square), they take 10 to 50 times as long, and no device
# runs them unasked.
GOLDEN = Execution("as infer.py runs it, 1 thread")
EXECUTIONS = (
    Execution("2 threads", threads=2),
    Execution("LiteRT's own kernels, without XNNPACK", _NO_DELEGATE),
    Execution("LiteRT's own kernels, without XNNPACK, 2 threads", _NO_DELEGATE, threads=2),
)


def run(execution: Execution, path: Path, inputs: NDArray[Any], interface: Interface) -> NDArray[np.float32]:
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
    del interface  # the same function of every runtime; here the file says all
    with LiteRtRunner(path, execution.threads, execution.resolver) as runner:
        return np.asarray(runner.infer(inputs), np.float32)
