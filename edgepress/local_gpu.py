"""The GPU that CUDA runs on here, as far as a TensorRT plan depends on it."""

import ctypes
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepress.doctor.fact import Unknown
from edgepress.doctor.nvidia_driver import NVML, Load, driver_of
from edgepress.errors import MissingDeviceError
from edgepress.machine import cuda_device_absence


@dataclass(frozen=True)
class LocalGpu:
    """CUDA's first device, and what drives it.

    Attributes:
        name: Of the product.
        capability: Compute capability, such as "8.7".
        driver: Version of NVIDIA's driver; None where it does not tell, as on a Jetson.
    """

    name: str
    capability: str
    driver: str | None


def local_gpu(load: Load = ctypes.CDLL, absence: Callable[[], str | None] = cuda_device_absence) -> LocalGpu:
    """Ask the driver for CUDA's first device.

    Args:
        load: Loads a shared library, as `ctypes.CDLL`.
        absence: Why CUDA cannot be used.

    Raises:
        MissingDeviceError: There is none, or the driver does not describe it.
    """
    if (reason := absence()) is not None:
        raise MissingDeviceError(
            f"TensorRT needs an NVIDIA GPU, and CUDA has none here: {reason}. `edgepress doctor` says more."
        )
    # libcuda, since NVML counts GPUs that CUDA_VISIBLE_DEVICES hides; NVML, since libcuda has no version.
    gpus = driver_of(_without(NVML, load), absence).gpus
    gpu = gpus[0] if isinstance(gpus, tuple) and gpus else None
    if gpu is None or isinstance(gpu.name, Unknown) or isinstance(gpu.compute_capability, Unknown):
        unknown = gpus if gpu is None else gpu
        raise MissingDeviceError(
            f"Wanted the name and the compute capability of CUDA's first device, got {unknown}. "
            "`edgepress doctor` says more."
        )
    version = driver_of(load, absence).version
    return LocalGpu(gpu.name, gpu.compute_capability, version if isinstance(version, str) else None)


def _without(library: str, load: Load) -> Load:
    def loaded(name: str) -> Any:
        if name == library:
            raise OSError(f"{name} is not asked")
        return load(name)

    return loaded


def system_name() -> str:
    """Operating system and architecture, which a plan is bound to, e.g. "Linux aarch64"."""
    return f"{platform.system()} {platform.machine()}"
