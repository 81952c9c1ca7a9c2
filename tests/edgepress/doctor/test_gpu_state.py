"""What a GPU is doing, from a fake NVML that stands in for a machine with one."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_state import Clock, GpuState, gpu_states, used_bytes_of_first
from edgepress.doctor.nvidia_driver import NVML

HANDLE = 0x7F00_0000_1000


class FakeBusyNvml:
    """NVML of a machine with one GPU that somebody uses, and that is too hot."""

    def __init__(self, processes: int = 2) -> None:
        self.processes = processes
        self.is_shut_down = False

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        self.is_shut_down = True
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: ctypes.c_uint, device: Any) -> int:
        device._obj.value = HANDLE + number.value
        return 0

    def nvmlDeviceGetName(self, device: ctypes.c_void_p, text: Any, size: int) -> int:
        assert (device.value, size) == (HANDLE, ctypes.sizeof(text))
        text.value = b"NVIDIA RTX A2000"
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:
        rates._obj.gpu, rates._obj.memory = 37, 5
        return 0

    def nvmlDeviceGetClockInfo(self, device: Any, which: int, mhz: Any) -> int:
        mhz._obj.value = {1: 210, 2: 405}[which]
        return 0

    def nvmlDeviceGetMaxClockInfo(self, device: Any, which: int, mhz: Any) -> int:
        mhz._obj.value = {1: 2100, 2: 6001}[which]
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = 6 * 2**30, 2**30
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v2(self, device: Any, count: Any, infos: None) -> int:
        had_room, count._obj.value = count._obj.value, self.processes
        return 0 if had_room >= self.processes else 7

    def nvmlDeviceGetPersistenceMode(self, device: Any, mode: Any) -> int:
        mode._obj.value = 1
        return 0

    def nvmlDeviceGetMigMode(self, device: Any, now: Any, later: Any) -> int:
        return 3  # as every GPU answers that cannot be divided

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Any, reasons: Any) -> int:
        reasons._obj.value = 0x01 | 0x20  # idle, and too hot
        return 0


def gives(nvml: Any) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        assert name == NVML
        return nvml

    return load


def test_gpu_states_reads_everything_that_the_driver_tells() -> None:
    nvml = FakeBusyNvml()
    assert gpu_states(gives(nvml)) == (
        GpuState(
            "NVIDIA RTX A2000",
            0.37,
            Clock(210, 2100),
            Clock(405, 6001),
            2**30,
            2,
            True,
            Unknown("nvmlDeviceGetMigMode failed with error 3 (not supported)"),
            ("software thermal slowdown",),
        ),
    )
    assert nvml.is_shut_down


def test_a_gpu_without_processes_has_none() -> None:
    (found,) = gpu_states(gives(FakeBusyNvml(processes=0)))  # type: ignore[misc]
    assert found.processes == 0


def test_used_bytes_of_first() -> None:
    assert used_bytes_of_first(gives(FakeBusyNvml())) == 2**30


def test_gpu_states_says_why_it_cannot_be_asked() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert gpu_states(load) == Unknown(f"{NVML}: cannot open shared object file")
    no_library = Unknown("this driver has no nvmlInit_v2")
    assert used_bytes_of_first(lambda name: object()) == no_library
    hanging = Unknown("NVIDIA's driver gave no answer within 0.01 s")
    assert gpu_states(lambda name: time.sleep(1), patience_s=0.01) == hanging
