"""What NVIDIA's GPUs are doing now, from NVML alone: no CUDA context is made, so looking disturbs nothing.

Numbers of GPUs are NVML's, in the order of the PCI bus (NVML API reference, "Device Queries").
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from edgepress.doctor.fact import Unknown
from edgepress.doctor.nvidia_driver import NVML, Load, NvmlMemory, call, known, text_from, within

Answer = TypeVar("Answer")

_PATIENCE_S = 5.0  # a driver that is not persistent is loaded first
_SM_CLOCK, _MEMORY_CLOCK = 1, 2  # nvmlClockType_t
_TOO_SMALL = 7  # NVML_ERROR_INSUFFICIENT_SIZE
_PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
_SLOWDOWNS = {  # nvmlClocksThrottleReasons; that a GPU is idle, or has reached its power limit, is no fault
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Clock:
    """A clock of a GPU, in MHz: now, and at most."""

    now_mhz: int
    most_mhz: int


@dataclass(frozen=True)
class GpuState:
    """One GPU.

    Attributes:
        name: Of the product.
        busy: Share in [0, 1] of the driver's last sampling period (1 s at most) in which a kernel ran.
        sm_clock: Of the multiprocessors.
        memory_clock: Of its memory.
        used_bytes: Of its memory, by every process and the driver itself.
        processes: That have a CUDA context on it.
        is_persistent: Whether the driver stays loaded while nobody uses the GPU.
        is_split: Whether it is divided into instances (MIG).
        slowdowns: Why it is slowed down right now; empty if it is not.
    """

    name: str | Unknown
    busy: float | Unknown
    sm_clock: Clock | Unknown
    memory_clock: Clock | Unknown
    used_bytes: int | Unknown
    processes: int | Unknown
    is_persistent: bool | Unknown
    is_split: bool | Unknown
    slowdowns: tuple[str, ...] | Unknown


def gpu_states(load: Load = ctypes.CDLL, patience_s: float = _PATIENCE_S) -> tuple[GpuState, ...] | Unknown:
    """Every GPU that NVML sees, or why it cannot be asked."""
    return ask_nvml(patience_s, load, _states)


def used_bytes_of_first(load: Load = ctypes.CDLL, patience_s: float = _PATIENCE_S) -> int | Unknown:
    """`GpuState.used_bytes` of GPU 0, or why it is not known."""
    return ask_nvml(patience_s, load, lambda nvml: _used_bytes(nvml, handle_of(nvml, 0)))


def ask_nvml(patience_s: float, load: Load, ask: Callable[[Any], Answer]) -> Answer | Unknown:
    """What `ask` gets out of NVML, which is loaded for it; or why there is no answer.

    Args:
        patience_s: After which the driver counts as hanging.
        load: Loads a shared library, as `ctypes.CDLL`.
        ask: Is given the library; raises OSError for what the library does not tell.
    """

    def asked() -> Answer | Unknown:
        return known(lambda: _initialized(load, ask))

    silent: Answer | Unknown = Unknown(f"NVIDIA's driver gave no answer within {patience_s:g} s")
    return within(patience_s, asked, silent)


def _initialized(load: Load, ask: Callable[[Any], Answer]) -> Answer:
    nvml = load(NVML)
    call(nvml, "nvmlInit_v2")
    try:
        return ask(nvml)
    finally:
        nvml.nvmlShutdown()


def _states(nvml: Any) -> tuple[GpuState, ...]:
    count = ctypes.c_uint()
    call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    return tuple(_state(nvml, handle_of(nvml, number)) for number in range(count.value))


def handle_of(nvml: Any, number: int) -> ctypes.c_void_p:
    """NVML's handle of a GPU by its number; raises OSError."""
    device = ctypes.c_void_p()
    call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(number), ctypes.byref(device))
    return device


def _state(nvml: Any, device: ctypes.c_void_p) -> GpuState:
    return GpuState(
        known(lambda: text_from(nvml, "nvmlDeviceGetName", device)),
        known(lambda: _busy(nvml, device)),
        known(lambda: _clock(nvml, device, _SM_CLOCK)),
        known(lambda: _clock(nvml, device, _MEMORY_CLOCK)),
        known(lambda: _used_bytes(nvml, device)),
        known(lambda: _processes(nvml, device)),
        known(lambda: number_from(nvml, "nvmlDeviceGetPersistenceMode", device) == 1),
        known(lambda: _is_split(nvml, device)),
        known(lambda: slowdowns_of(nvml, device)),
    )


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def _busy(nvml: Any, device: ctypes.c_void_p) -> float:
    rates = _Utilization()
    call(nvml, "nvmlDeviceGetUtilizationRates", device, ctypes.byref(rates))
    return float(rates.gpu) / 100


def number_from(nvml: Any, name: str, *before: Any) -> int:
    """What a function of NVML writes into its last argument; raises OSError."""
    value = ctypes.c_uint()
    call(nvml, name, *before, ctypes.byref(value))
    return value.value


def _clock(nvml: Any, device: ctypes.c_void_p, which: int) -> Clock:
    return Clock(
        number_from(nvml, "nvmlDeviceGetClockInfo", device, which),
        number_from(nvml, "nvmlDeviceGetMaxClockInfo", device, which),
    )


def _used_bytes(nvml: Any, device: ctypes.c_void_p) -> int:
    memory = NvmlMemory()
    call(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
    return int(memory.used)


def _processes(nvml: Any, device: ctypes.c_void_p) -> int:
    """Asked with room for none of them: the driver then says how many there are."""
    names = (f"{_PROCESSES}{version}" for version in ("_v3", "_v2", ""))
    name = next((name for name in names if hasattr(nvml, name)), _PROCESSES)
    count = ctypes.c_uint(0)
    if not (hasattr(nvml, name) and getattr(nvml, name)(device, ctypes.byref(count), None) == _TOO_SMALL):
        count.value = 0
        call(nvml, name, device, ctypes.byref(count), None)
    return count.value


def _is_split(nvml: Any, device: ctypes.c_void_p) -> bool:
    now, later = ctypes.c_uint(), ctypes.c_uint()
    call(nvml, "nvmlDeviceGetMigMode", device, ctypes.byref(now), ctypes.byref(later))
    return now.value == 1


def slowdowns_of(nvml: Any, device: ctypes.c_void_p) -> tuple[str, ...]:
    """Why a GPU is slowed down right now; raises OSError where NVML does not tell."""
    reasons = ctypes.c_ulonglong()
    call(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", device, ctypes.byref(reasons))
    return tuple(text for bit, text in _SLOWDOWNS.items() if reasons.value & bit)
