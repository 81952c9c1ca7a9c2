"""What the machine at hand can do: instruction sets, cores, memory, and whether there is a CUDA device."""

import ctypes
import math
import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgepress.doctor.control_group import limits_under
from edgepress.isa import Isa, cpu_model_of, host_isa, read_cpuinfo


@lru_cache(maxsize=1)
def cuda_device_absence() -> str | None:
    """Why no CUDA device can be used here, e.g. "libcuda.so.1 not found"; None if there is one.

    Asks the driver itself (cuInit, cuDeviceGetCount), with no framework.
    """
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"{name} not found: no NVIDIA driver"
    if (code := driver.cuInit(0)) != 0:
        return f"cuInit failed with CUDA error {code}"
    count = ctypes.c_int()
    if (code := driver.cuDeviceGetCount(ctypes.byref(count))) != 0:
        return f"cuDeviceGetCount failed with CUDA error {code}"
    return None if count.value else "the driver reports 0 devices"


def usable_cores(root: Path = Path("/")) -> int:
    """As many threads as this process can keep running: its affinity, and no more than its container's quota.

    A container with a quota is stopped for the rest of each period once its threads have used it up, so more
    threads than the quota has cores (rounded up) only wait. A quota that cannot be read counts as none.

    Args:
        root: "/", or a copy of /proc and /sys.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = limits_under(root).cores
    return max(1, min(cores, math.ceil(quota))) if isinstance(quota, (int, float)) else cores


def memory_bytes() -> int | None:
    """Physical memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def cpu_model() -> str:
    """Marketing name of the CPU, or the architecture where the system does not tell."""
    return cpu_model_of(read_cpuinfo()) or platform.processor() or platform.machine()


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement."""

    system: str
    cpu: str
    isa: Isa
    cores: int
    memory_bytes: int | None
    cuda_absence: str | None

    def to_json(self) -> dict[str, Any]:
        """As written to results.json."""
        return {
            "system": self.system,
            "cpu": self.cpu,
            "isa": self.isa.value,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "cuda_absence": self.cuda_absence,
        }


def this_machine() -> Machine:
    """Describe the machine at hand, without its name."""
    return Machine(
        f"{platform.system()} {platform.machine()}",
        cpu_model(),
        host_isa(),
        usable_cores(),
        memory_bytes(),
        cuda_device_absence(),
    )
