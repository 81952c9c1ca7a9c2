"""CUDA's runtime API, each call checked. The module is a parameter: tests pass one that needs no GPU."""

import importlib
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgepress.cuda.fault import CudaError, CudaFault
from edgepress.errors import MissingDeviceError, MissingRuntimeError

logger = logging.getLogger(__name__)

MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Where cuda-python has the runtime API: since 12.6, and before."""

_ABSENCES = {CudaFault.ABSENT, CudaFault.OLD_DRIVER}
_LASTING = {CudaFault.LAUNCH, CudaFault.LOST}  # every later call of the process gives the same error


def cuda_module() -> ModuleType:
    """The runtime API of cuda-python, wherever its version has it.

    Raises:
        MissingRuntimeError: cuda-python is not installed.
    """
    newer, older = MODULES
    try:
        return importlib.import_module(newer)
    except ImportError:
        logger.debug("no %s: this may be a cuda-python before 12.6", newer)
    try:
        return importlib.import_module(older)
    except ImportError as error:
        raise MissingRuntimeError("cuda-python", "gpu-trt") from error


@dataclass(frozen=True)
class GpuDevice:
    """The current GPU.

    Attributes:
        name: Of the product.
        compute_capability: Such as "8.6".
    """

    name: str
    compute_capability: str


@dataclass(frozen=True)
class GpuMemory:
    """Memory of the current GPU, for every process together, in bytes (on a Jetson: of the whole system)."""

    free_bytes: int
    total_bytes: int


class Cuda:
    """The runtime API of one module, whose functions give a tuple of a code and their values."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._success = module.cudaError_t.cudaSuccess
        self._is_broken = False

    def constant(self, enumeration: str, name: str) -> Any:
        """A member of one of CUDA's enumerations."""
        return getattr(getattr(self._module, enumeration), name)

    def call(self, function: str, *arguments: Any) -> Any:
        """What a function gives beside its code: None, one value, or a tuple of them.

        Raises:
            CudaError: The code is not `cudaSuccess`.
            MissingDeviceError: cuda-python found no driver (as versions before 13 say it).
        """
        try:
            code, *values = getattr(self._module, function)(*arguments)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise MissingDeviceError(
                f"no CUDA device (cuda-python cannot load NVIDIA's driver: {reason}). "
                "Install the driver, or use --device cpu."
            ) from error
        if code != self._success:
            self._forget_last_error()
            failure = CudaError(_described(function, arguments), _name_of(code))
            self._is_broken |= failure.fault in _LASTING
            raise failure
        return values[0] if len(values) == 1 else tuple(values) or None

    def _forget_last_error(self) -> None:
        """CUDA keeps the error, and the next library that asks after its own launch would take it for its."""
        self._module.cudaGetLastError()

    def release(self, function: str, *arguments: Any) -> None:
        """Call a function that gives something back.

        Raises:
            CudaError: It failed. Where another error is on its way, or the GPU was found broken before, that
                was told already, and this is logged.
        """
        was_broken = self._is_broken
        try:
            self.call(function, *arguments)
        except CudaError as error:
            if error.__context__ is None and not was_broken:
                raise
            logger.debug("after another error: %s", error)

    def require_device(self) -> None:
        """Make sure that there is a GPU to be used.

        Raises:
            MissingDeviceError: No driver, one that is too old for this cuda-python, or no GPU.
            CudaError: The GPU is there, and fails.
        """
        try:
            count = self.call("cudaGetDeviceCount")
        except CudaError as error:
            if error.fault not in _ABSENCES:
                raise
            raise MissingDeviceError(
                f"no CUDA device ({self._absence(error)}). {error.fault.value}"
            ) from error
        if not count:
            raise MissingDeviceError(
                "no CUDA device (the driver reports 0 devices). Check nvidia-smi and CUDA_VISIBLE_DEVICES."
            )

    def _absence(self, error: CudaError) -> str:
        if error.fault is not CudaFault.OLD_DRIVER:
            return error.name
        driver, runtime = self.call("cudaDriverGetVersion"), self.call("cudaRuntimeGetVersion")
        if not driver:
            return "no NVIDIA driver is loaded"
        return f"the driver is for CUDA {_version(driver)}, cuda-python for {_version(runtime)}"

    def device(self) -> GpuDevice:
        """Ask which GPU it is.

        Raises:
            CudaError: The GPU does not tell.
        """
        number = self.call("cudaGetDevice")
        name = bytes(self.call("cudaGetDeviceProperties", number).name).split(b"\0")[0]
        major, minor = (
            self.call("cudaDeviceGetAttribute", self.constant("cudaDeviceAttr", attribute), number)
            for attribute in ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
        )
        return GpuDevice(name.decode("utf-8", errors="replace"), f"{major}.{minor}")

    def memory(self) -> GpuMemory:
        """Ask how much memory the GPU has (makes this process's CUDA context, if there is none).

        Raises:
            CudaError: The GPU does not tell.
        """
        free_bytes, total_bytes = self.call("cudaMemGetInfo")
        return GpuMemory(int(free_bytes), int(total_bytes))


def _name_of(code: Any) -> str:
    return str(getattr(code, "name", code))


def _described(function: str, arguments: tuple[Any, ...]) -> str:
    """An allocation says how much it wanted; the arguments of other functions are addresses."""
    is_allocation = function in {"cudaMalloc", "cudaHostAlloc"}
    return f"{function} of {arguments[0]} bytes" if is_allocation else function


def _version(number: int) -> str:
    """13050 → "13.5"."""
    return f"{number // 1000}.{number % 1000 // 10}"
