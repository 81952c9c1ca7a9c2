"""The driver's answers, from fake libraries that stand in for a machine with a GPU."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgepress.doctor.fact import Unknown
from edgepress.doctor.nvidia_driver import CUDA, NVML, Driver, Gpu, driver_of

NO_DRIVER = "libcuda.so.1 not found: no NVIDIA driver"


def put(pointer: Any, value: Any) -> None:
    """What a C function does with its output argument, which is a `ctypes.byref`."""
    pointer._obj.value = value


class FakeNvml:
    """NVML of a machine with one GPU; `failing` maps a function to the code that it returns."""

    def __init__(self, failing: dict[str, int] | None = None) -> None:
        self.failing = failing or {}
        self.is_shut_down = False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.failing:
            return lambda *arguments: self.failing[name]
        return super().__getattribute__(name)

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        self.is_shut_down = True
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        assert size <= ctypes.sizeof(text)
        text.value = b"570.86.15"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> int:
        put(version, 12080)
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        put(count, 1)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number: ctypes.c_uint, device: Any) -> int:
        put(device, 0x7F00_0000_1000 + number.value)
        return 0

    def nvmlDeviceGetName(self, device: ctypes.c_void_p, text: Any, size: int) -> int:
        assert device.value == 0x7F00_0000_1000  # all 64 bits of the handle arrive
        text.value = b"NVIDIA RTX A2000"
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:
        put(major, 8)
        put(minor, 6)
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        memory._obj.total = 6 * 2**30
        return 0


class FakeCuda:
    """libcuda of a machine with one GPU, such as a Jetson, which has no NVML."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        put(version, 12060)
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        put(count, 1)
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        put(device, number)
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: Any) -> int:
        text.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        put(value, {75: 8, 76: 7}[which])
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        return 999


def loads(**libraries: Any) -> Callable[[str], Any]:
    there = {{"nvml": NVML, "cuda": CUDA}[name]: library for name, library in libraries.items()}

    def load(name: str) -> Any:
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file")
        return there[name]

    return load


def test_driver_of_nvml() -> None:
    nvml = FakeNvml()
    assert driver_of(loads(nvml=nvml, cuda=FakeCuda()), lambda: None) == Driver(
        "570.86.15", "12.8", (Gpu("NVIDIA RTX A2000", "8.6", 6 * 2**30),), None
    )
    assert nvml.is_shut_down


def test_driver_of_cuda_where_there_is_no_nvml() -> None:
    failed = Unknown("cuDeviceTotalMem_v2 failed with error 999")
    assert driver_of(loads(cuda=FakeCuda()), lambda: None) == Driver(
        Unknown("libnvidia-ml.so.1 is not there to be asked"), "12.6", (Gpu("Orin", "8.7", failed),), None
    )


def test_driver_of_a_machine_without_one() -> None:
    assert driver_of(loads(), lambda: NO_DRIVER) == Driver(None, None, (), NO_DRIVER)


def test_a_gpu_that_cuda_may_not_use_is_shown_with_the_reason() -> None:
    found = driver_of(loads(nvml=FakeNvml()), lambda: "cuInit failed with CUDA error 100")
    assert found.gpu_absence == "cuInit failed with CUDA error 100"
    assert isinstance(found.gpus, tuple)
    assert found.gpus[0].name == "NVIDIA RTX A2000"


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        ("nvmlInit_v2", 18, "error 18 (driver and library are of different versions: restart the machine)"),
        ("nvmlInit_v2", 9, "error 9 (the driver is not loaded)"),
        ("nvmlSystemGetDriverVersion", 999, "error 999"),
    ],
)
def test_a_failing_call_of_the_driver_is_named(function: str, code: int, reason: str) -> None:
    found = driver_of(loads(nvml=FakeNvml({function: code})), lambda: None)
    assert found.version == Unknown(f"{function} failed with {reason}")


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetName", "name"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
    ],
)
def test_one_failing_fact_of_a_gpu_leaves_the_others(function: str, field: str) -> None:
    found = driver_of(loads(nvml=FakeNvml({function: 4})), lambda: None)
    assert isinstance(found.gpus, tuple)
    facts = vars(found.gpus[0])
    assert facts.pop(field) == Unknown(f"{function} failed with error 4 (no permission)")
    assert not any(isinstance(fact, Unknown) for fact in facts.values())


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetCount_v2"])
def test_a_gpu_that_is_lost_is_unknown(function: str) -> None:
    found = driver_of(loads(nvml=FakeNvml({function: 15})), lambda: None)
    lost = Unknown(f"{function} failed with error 15 (the GPU is lost: restart the machine)")
    assert found.gpus in (lost, (Gpu(lost, lost, lost),))
    assert found.version == "570.86.15"


def test_a_library_without_a_function_is_no_crash() -> None:
    class FakeOldNvml:
        def nvmlInit_v2(self) -> int:
            return 0

        def nvmlShutdown(self) -> int:
            return 0

    found = driver_of(loads(nvml=FakeOldNvml()), lambda: None)
    assert found.version == Unknown("this driver has no nvmlSystemGetDriverVersion")


def test_a_driver_that_hangs_does_not_hold_the_doctor_up() -> None:
    def hangs() -> None:
        time.sleep(5)

    start_s = time.monotonic()
    found = driver_of(loads(nvml=FakeNvml()), hangs, patience_s=0.2)
    assert time.monotonic() - start_s < 4
    assert found.gpu_absence == "NVIDIA's driver gave no answer within 0 s"
