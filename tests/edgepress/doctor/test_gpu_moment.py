"""Clocks, power and a process's memory, from a fake NVML that stands in for a machine with a GPU."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from edgepress.doctor import gpu_moment
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_moment import UNTOLD, GpuMoment, moment_of_first, process_bytes_of_first
from edgepress.doctor.nvidia_driver import NVML
from edgepress.doctor.tegrastats import TegraLine

NOT_SUPPORTED = 3


class FakeWorkingNvml:
    """NVML of a machine whose first GPU is at work.

    Attributes:
        tells: Whether it tells clocks and power, as it does not on a Jetson.
        held: Memory in bytes by process.
    """

    def __init__(self, held: dict[int, int] | None = None, tells: bool = True) -> None:
        self.held = held or {}
        self.tells = tells

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: ctypes.c_uint, device: Any) -> int:
        device._obj.value = 0x7F00 + number.value
        return 0

    def nvmlDeviceGetClockInfo(self, device: Any, which: int, mhz: Any) -> int:
        mhz._obj.value = {1: 1410, 2: 5001}[which]
        return 0 if self.tells else NOT_SUPPORTED

    def nvmlDeviceGetPowerUsage(self, device: Any, power_mw: Any) -> int:
        power_mw._obj.value = 61_500
        return 0 if self.tells else NOT_SUPPORTED

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Any, reasons: Any) -> int:
        reasons._obj.value = 0x80
        return 0 if self.tells else NOT_SUPPORTED

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: Any, count: Any, found: Any) -> int:
        assert count._obj.value >= len(self.held)
        assert ctypes.sizeof(found[0]) == 24  # nvmlProcessInfo_t
        for i, (pid, used_bytes) in enumerate(self.held.items()):
            found[i].pid, found[i].used_bytes = pid, used_bytes
        count._obj.value = len(self.held)
        return 0


def gives(nvml: Any) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        assert name == NVML
        return nvml

    return load


def test_moment_of_first_has_clocks_power_and_slowdowns() -> None:
    assert moment_of_first(gives(FakeWorkingNvml())) == GpuMoment(1410, 5001, 61_500, ("power brake",))


def test_moment_of_first_is_untold_without_a_driver() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert moment_of_first(load) == UNTOLD


def test_moment_of_first_on_a_jetson_comes_from_tegrastats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_moment, "one_line", lambda patience_s: TegraLine(1 << 30, 0.99, 624, 2133, 7040))
    assert moment_of_first(gives(FakeWorkingNvml(tells=False))) == GpuMoment(624, 2133, 7040, None)


def test_process_bytes_of_first() -> None:
    load = gives(FakeWorkingNvml({7: 1 << 30, 8: (1 << 64) - 1}))
    assert process_bytes_of_first(7, load) == 1 << 30
    assert process_bytes_of_first(8, load) == Unknown(
        "this driver does not tell the memory of a single process"
    )
    assert process_bytes_of_first(9, load) == Unknown(
        "NVML lists no process 9 (in a container a process has another number)"
    )
