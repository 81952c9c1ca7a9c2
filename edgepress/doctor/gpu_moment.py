"""A GPU's clocks and power at one moment, and what one process holds of its memory.

From NVML; where that does not tell, as on a Jetson, from a line of tegrastats. No CUDA context is made.
"""

import ctypes
import os
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_state import ask_nvml, handle_of, number_from, slowdowns_of
from edgepress.doctor.nvidia_driver import Load, call, known
from edgepress.doctor.tegrastats import TegraLine, one_line

Fact = TypeVar("Fact")

_PATIENCE_S = 5.0
_SM_CLOCK, _MEMORY_CLOCK = 1, 2  # nvmlClockType_t
_ROOM = 64  # processes
_NOT_TOLD = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE
_PROCESSES = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")


@dataclass(frozen=True)
class GpuMoment:
    """What a GPU does at one moment. None where the system does not tell.

    Attributes:
        sm_mhz: Clock of the multiprocessors.
        memory_mhz: Clock of its memory.
        power_mw: What it draws, as its driver averages it (over a second at most).
        slowdowns: Why it is slowed down; empty if it is not.
    """

    sm_mhz: int | None
    memory_mhz: int | None
    power_mw: int | None
    slowdowns: tuple[str, ...] | None


UNTOLD = GpuMoment(None, None, None, None)


def moment_of_first(load: Load = ctypes.CDLL, patience_s: float = _PATIENCE_S) -> GpuMoment:
    """GPU 0 of NVML, or the GPU of a Jetson."""
    found = ask_nvml(patience_s, load, lambda nvml: _moment(nvml, handle_of(nvml, 0)))
    moment = UNTOLD if isinstance(found, Unknown) else found
    if moment.sm_mhz is not None:
        return moment
    line = one_line(patience_s)
    return moment if isinstance(line, Unknown) else _with_jetson(moment, line)


def _moment(nvml: Any, device: ctypes.c_void_p) -> GpuMoment:
    return GpuMoment(
        _told(known(lambda: number_from(nvml, "nvmlDeviceGetClockInfo", device, _SM_CLOCK))),
        _told(known(lambda: number_from(nvml, "nvmlDeviceGetClockInfo", device, _MEMORY_CLOCK))),
        _told(known(lambda: number_from(nvml, "nvmlDeviceGetPowerUsage", device))),
        _told(known(lambda: slowdowns_of(nvml, device))),
    )


def _told(fact: Fact | Unknown) -> Fact | None:
    return None if isinstance(fact, Unknown) else fact


def _with_jetson(moment: GpuMoment, line: TegraLine) -> GpuMoment:
    return replace(moment, sm_mhz=line.gpu_mhz, memory_mhz=line.memory_mhz, power_mw=line.power_mw)


class _Process(ctypes.Structure):
    """nvmlProcessInfo_t, since its second version."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


def process_bytes_of_first(
    pid: int | None = None, load: Load = ctypes.CDLL, patience_s: float = _PATIENCE_S
) -> int | Unknown:
    """What one process holds of the memory of GPU 0, its CUDA context included, or why that is not known.

    Args:
        pid: Of the process; None for this one.
        load: Loads a shared library, as `ctypes.CDLL`.
        patience_s: After which the driver counts as hanging.
    """
    wanted = os.getpid() if pid is None else pid
    return ask_nvml(patience_s, load, lambda nvml: _process_bytes(nvml, handle_of(nvml, 0), wanted))


def _process_bytes(nvml: Any, device: ctypes.c_void_p, pid: int) -> int:
    """Raises OSError where NVML does not tell."""
    name = next((name for name in _PROCESSES if hasattr(nvml, name)), _PROCESSES[-1])
    count, found = ctypes.c_uint(_ROOM), (_Process * _ROOM)()
    call(nvml, name, device, ctypes.byref(count), found)
    held = {found[i].pid: int(found[i].used_bytes) for i in range(count.value)}
    if pid not in held:
        raise OSError(f"NVML lists no process {pid} (in a container a process has another number)")
    if held[pid] == _NOT_TOLD:
        raise OSError("this driver does not tell the memory of a single process")
    return held[pid]
