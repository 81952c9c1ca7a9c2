"""CPU features, cores, memory and GPU, as the system tells them."""

import ctypes
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from edgepress.machine import (
    Isa,
    cpu_flags,
    cpu_model,
    cuda_device_absence,
    host_isa,
    memory_bytes,
    usable_cores,
)

_FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX-INT8": ("amx_int8",),
    "F16C": ("f16c",),
    "NEON": ("neon", "asimd"),
    "dot product": ("asimddp",),
    "I8MM": ("i8mm",),
    "SVE": ("sve",),
}
_X86_ONLY = ("AVX2", "AVX-512", "VNNI", "AMX-INT8", "F16C")
_NAME_BYTES = 256
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it.

    Attributes:
        name: Of the product.
        compute_capability: Such as "8.6".
        memory_bytes: In total.
    """

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Hardware:
    """The machine.

    Attributes:
        system: Operating system and architecture.
        cpu: Name of the CPU.
        isa: Family that decides the INT8 format.
        features: Name of each feature that matters on this architecture, and whether the CPU has it.
        cores: That this process may use, by affinity and by the quota of its container.
        memory_bytes: Of the machine, or of the container if that is less; None where unknown.
        disk_free_bytes: In the current folder.
        jetson: The release line of a Jetson, or None.
        driver: CUDA version of the NVIDIA driver, such as "12.4"; None without one.
        gpus: Those that CUDA can use.
        gpu_absence: Why there is none; None if there is one.
    """

    system: str
    cpu: str
    isa: Isa
    features: dict[str, bool]
    cores: float
    memory_bytes: int | None
    disk_free_bytes: int
    jetson: str | None
    driver: str | None
    gpus: tuple[Gpu, ...]
    gpu_absence: str | None


def this_hardware() -> Hardware:
    """Describe the machine, without its name."""
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=cpu_model(),
        isa=host_isa(),
        features=features_of(platform.machine().lower(), cpu_flags()),
        cores=min(usable_cores(), quota_of(_read("/sys/fs/cgroup/cpu.max")) or usable_cores()),
        memory_bytes=_least(memory_bytes(), limit_of(_read("/sys/fs/cgroup/memory.max"))),
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        jetson=(_read("/etc/nv_tegra_release") or "").strip() or None,
        driver=_driver_version(),
        gpus=_gpus(),
        gpu_absence=cuda_device_absence(),
    )


def features_of(architecture: str, flags: frozenset[str]) -> dict[str, bool]:
    """The features that matter on an architecture (as `uname -m`), and whether the flags have them."""
    x86 = architecture in {"x86_64", "amd64"}
    return {
        name: any(flag in flags for flag in wanted)
        for name, wanted in _FEATURES.items()
        if (name in _X86_ONLY) is x86
    }


def quota_of(text: str | None) -> float | None:
    """Cores that a control group may use, from its cpu.max ("150000 100000" is 1.5); None for no limit."""
    words = (text or "").split()
    if len(words) != 2 or not (words[0].isdecimal() and words[1].isdecimal()) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def limit_of(text: str | None) -> int | None:
    """Bytes that a control group may use, from its memory.max; None for no limit."""
    word = (text or "").strip()
    return int(word) if word.isdecimal() else None


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _driver() -> "ctypes.CDLL | None":
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _driver_version() -> str | None:
    """The CUDA version that the driver supports; it can be asked without a GPU."""
    driver, version = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _gpus() -> tuple[Gpu, ...]:
    driver = _driver()
    if driver is None or cuda_device_absence() is not None:
        return ()
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return tuple(_gpu(driver, number) for number in range(count.value))


def _gpu(driver: "ctypes.CDLL", number: int) -> Gpu:
    name, size = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    major, minor, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return Gpu(os.fsdecode(name.value), f"{major.value}.{minor.value}", size.value)
