"""The seam between edgepress and a runtime."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.errors import InputError


class Runner(Protocol):
    """Runs one artifact. Memory and device are touched only between `__enter__` and `__exit__`.

    Attributes:
        evidence: What really runs, e.g. "CPUExecutionProvider", known after `__enter__`.
    """

    evidence: str

    def __enter__(self) -> "Runner":
        """Load the artifact."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release memory and device."""

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits.

        Integer inputs and outputs are quantized and dequantized inside, as on a device. Returns when
        the device has finished; the result is the caller's own copy.
        """


OpenRunner = Callable[[Path, int], Runner]
"""(artifact path, threads) → a runner that has not loaded anything yet."""


def runner_for(runtime: Runtime, device: Device) -> OpenRunner:
    """The runner of a runtime on a device. Imports no framework.

    Raises:
        InputError: There is no runner for this pair.
    """
    from edgepress.runners import litert_runner, onnxruntime_runner, tensorflow_runner

    runners: dict[tuple[Runtime, Device], OpenRunner] = {
        (Runtime.TENSORFLOW, Device.CPU): tensorflow_runner.on_cpu,
        (Runtime.TENSORFLOW, Device.CUDA): tensorflow_runner.on_cuda,
        (Runtime.ONNXRUNTIME, Device.CPU): onnxruntime_runner.on_cpu,
        (Runtime.ONNXRUNTIME_EMULATION, Device.CPU): onnxruntime_runner.emulation_on_cpu,
        (Runtime.ONNXRUNTIME_CUDA, Device.CUDA): onnxruntime_runner.on_cuda,
        (Runtime.ONNXRUNTIME_TENSORRT, Device.CUDA): onnxruntime_runner.on_tensorrt,
        (Runtime.LITERT, Device.CPU): litert_runner.on_cpu,
    }
    found = runners.get((runtime, device))
    if found is None:
        raise InputError(
            f"edgepress has no runner for {runtime.value} on {device.value} yet. Choose another --device."
        )
    return found
