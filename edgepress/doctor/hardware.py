"""CPU features, cores, memory, disk and GPU, as the system tells them."""

import ctypes
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgepress.doctor.control_group import limits_under
from edgepress.doctor.fact import Unknown, text_of
from edgepress.doctor.nvidia_driver import Driver, driver_of
from edgepress.doctor.nvidia_libraries import Library, libraries_under, nvcc_version
from edgepress.isa import Isa, cpu_flags_of, cpu_model_of, isa_of
from edgepress.machine import cuda_device_absence, memory_bytes, usable_cores

Number = TypeVar("Number", int, float)

_FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "AVX-VNNI": ("avx_vnni",),
    "AVX512-VNNI": ("avx512_vnni",),
    "AMX-INT8": ("amx_int8",),
    "F16C": ("f16c",),
    "NEON": ("neon", "asimd"),
    "dot product": ("asimddp",),
    "I8MM": ("i8mm",),
    "SVE": ("sve",),
}
_X86_ONLY = ("AVX2", "AVX-512", "AVX-VNNI", "AVX512-VNNI", "AMX-INT8", "F16C")
_X86 = frozenset({"x86_64", "amd64"})


@dataclass(frozen=True)
class Disk:
    """A place that edgepress writes to.

    Attributes:
        use: What for.
        folder: That is or will be written to.
        free_bytes: For this user.
    """

    use: str
    folder: str
    free_bytes: int | Unknown


@dataclass(frozen=True)
class Hardware:
    """The machine.

    Attributes:
        system: Operating system and architecture.
        board: Model of the board, as ARM systems name it; None elsewhere.
        jetson: The release line of a Jetson, or None.
        cpu: Name of the CPU.
        isa: Family that decides the INT8 format.
        features: Name of each feature that matters on this architecture, and whether the CPU has it.
        governor: Of the CPU's frequency; several where the cores differ.
        cores: That this process may use, by affinity and by the quota of its container.
        machine_cores: Of the machine.
        memory_bytes: Of the machine, or of the container if that is less.
        machine_memory_bytes: Of the machine.
        disks: Free space in the working folder and in the cache.
        driver: NVIDIA's driver and GPUs.
        libraries: CUDA, cuDNN and TensorRT.
        nvcc: Release of CUDA's compiler; None without one.
    """

    system: str
    board: str | None
    jetson: str | None
    cpu: str | Unknown
    isa: Isa
    features: Mapping[str, bool] | Unknown
    governor: str | Unknown
    cores: float | Unknown
    machine_cores: int | Unknown
    memory_bytes: int | Unknown
    machine_memory_bytes: int | Unknown
    disks: tuple[Disk, ...]
    driver: Driver
    libraries: tuple[Library, ...]
    nvcc: str | Unknown | None


def this_hardware(cache: Path, root: Path = Path("/")) -> Hardware:
    """Describe the machine, without its name.

    Args:
        cache: The folder of weights and features; need not exist.
        root: "/", or a copy of /proc, /sys, /etc and /usr.
    """
    architecture = platform.machine().lower()
    cpuinfo = text_of(root / "proc/cpuinfo")
    flags = cpu_flags_of(cpuinfo) if isinstance(cpuinfo, str) else frozenset()
    limits = limits_under(root)
    memory = memory_bytes() or Unknown("the system does not tell")
    board = text_of(root / "proc/device-tree/model")
    jetson = text_of(root / "etc/nv_tegra_release")
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        board=board.strip("\0\n ") if isinstance(board, str) else None,
        jetson=jetson.strip() if isinstance(jetson, str) else None,
        cpu=_cpu(cpuinfo),
        isa=isa_of(architecture, flags),
        features=features_of(architecture, flags) if flags else _no_flags(cpuinfo),
        governor=governor_of(root),
        cores=_least(usable_cores(root), limits.cores),
        machine_cores=os.cpu_count() or Unknown("the system does not tell"),
        memory_bytes=_least(memory, limits.memory_bytes),
        machine_memory_bytes=memory,
        disks=(
            _disk("working folder", Path()),
            _disk("cache", cache),
        ),
        driver=driver_of(ctypes.CDLL, cuda_device_absence),
        libraries=libraries_under(root, search=os.environ.get("LD_LIBRARY_PATH", "")),
        nvcc=nvcc_version(root),
    )


def features_of(architecture: str, flags: frozenset[str]) -> dict[str, bool]:
    """The features that matter on an architecture (as `uname -m`), and whether the flags have them."""
    return {
        name: any(flag in flags for flag in wanted)
        for name, wanted in _FEATURES.items()
        if (name in _X86_ONLY) is (architecture in _X86)
    }


def _no_flags(cpuinfo: str | Unknown) -> Unknown:
    return cpuinfo if isinstance(cpuinfo, Unknown) else Unknown("/proc/cpuinfo lists no flags")


def _cpu(cpuinfo: str | Unknown) -> str | Unknown:
    named = cpu_model_of(cpuinfo) if isinstance(cpuinfo, str) else None
    return named or platform.processor() or _no_name(cpuinfo)


def _no_name(cpuinfo: str | Unknown) -> Unknown:
    return cpuinfo if isinstance(cpuinfo, Unknown) else Unknown("/proc/cpuinfo has no model name")


def governor_of(root: Path) -> str | Unknown:
    """Of the CPU's frequency; several where the cores differ. `root` is "/" or a copy of /sys."""
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    texts = [text_of(file) for file in files]
    unreadable = next((text for text in texts if isinstance(text, Unknown)), None)
    if unreadable is not None:
        return unreadable
    names = sorted({text.strip() for text in texts if isinstance(text, str)})
    return ", ".join(names) or Unknown("no cpufreq in /sys, as in most virtual machines")


def _least(machine: Number | Unknown, limit: Number | Unknown | None) -> Number | Unknown:
    if isinstance(machine, Unknown) or limit is None:
        return machine
    return limit if isinstance(limit, Unknown) else min(machine, limit)


def _disk(use: str, folder: Path) -> Disk:
    """Free space where the folder is, or where it will be made."""
    try:
        folder = folder.absolute()
        there = next(place for place in (folder, *folder.parents) if place.exists())
        return Disk(use, str(folder), shutil.disk_usage(there).free)
    except OSError as error:  # also a working folder that was removed
        return Disk(use, str(folder), Unknown(f"{folder}: {error.strerror}"))
