"""NVIDIA's driver and GPUs, asked without a package of NVIDIA's and without a framework.

Through NVML (libnvidia-ml) and, where there is none, as on a Jetson, through libcuda. Every return code is
looked at: what a function does not give is unknown, and says which function failed.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from edgepress.doctor.fact import Unknown

Load = Callable[[str], Any]  # a shared library by name, as ctypes.CDLL, which raises OSError
Answer = TypeVar("Answer")

NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
_PATIENCE_S = 10.0  # a driver whose GPU is lost can hang for ever
_TEXT_BYTES = 96
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_NVML_REASONS = {
    3: "not supported",
    4: "no permission",
    9: "the driver is not loaded",
    15: "the GPU is lost: restart the machine",
    18: "driver and library are of different versions: restart the machine",
}


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it.

    Attributes:
        name: Of the product.
        compute_capability: Such as "8.6".
        memory_bytes: In total.
    """

    name: str | Unknown
    compute_capability: str | Unknown
    memory_bytes: int | Unknown


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver and what it drives.

    Attributes:
        version: Such as "570.86.15"; None without a driver.
        cuda: The newest CUDA version that it supports, such as "12.8"; None without a driver.
        gpus: Those that the driver sees, whether or not CUDA may use them.
        gpu_absence: Why CUDA cannot use one here; None if it can.
    """

    version: str | Unknown | None
    cuda: str | Unknown | None
    gpus: tuple[Gpu, ...] | Unknown
    gpu_absence: str | None


def driver_of(load: Load, absence: Callable[[], str | None], patience_s: float = _PATIENCE_S) -> Driver:
    """Ask the driver.

    Args:
        load: Loads a shared library, as `ctypes.CDLL`.
        absence: Why CUDA cannot be used, as `edgepress.machine.cuda_device_absence`.
        patience_s: After which the driver counts as hanging.
    """
    reason = f"NVIDIA's driver gave no answer within {patience_s:.0f} s"
    silent = Driver(Unknown(reason), Unknown(reason), Unknown(reason), reason)
    return within(patience_s, lambda: _asked(load, absence), silent)


def within(patience_s: float, ask: Callable[[], Answer], silent: Answer) -> Answer:
    """The answer of a driver, or `silent` if it gives none in time.

    A thread that hangs inside the driver cannot be ended, but as a daemon it does not keep the process.
    """
    found: list[Answer] = []
    asking = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    asking.start()
    asking.join(patience_s)
    return found[0] if found else silent


def _asked(load: Load, absence: Callable[[], str | None]) -> Driver:
    reason = absence()
    for name, of_library in ((NVML, _driver_of_nvml), (CUDA, _driver_of_cuda)):
        try:
            library = load(name)
        except OSError:
            continue
        return of_library(library, reason)
    return Driver(None, None, (), reason)


def known(ask: Callable[[], Answer]) -> Answer | Unknown:
    """The answer, or why the driver does not give it."""
    try:
        return ask()
    except OSError as error:
        return Unknown(str(error))


def call(library: Any, name: str, *arguments: Any) -> None:
    """Call a function of NVML or CUDA; both return 0 for success.

    Raises:
        OSError: The library is too old to have it, or it failed.
    """
    function = getattr(library, name, None)
    if function is None:
        raise OSError(f"this driver has no {name}")
    code = function(*arguments)
    if code != 0:
        meaning = f" ({_NVML_REASONS[code]})" if name.startswith("nvml") and code in _NVML_REASONS else ""
        raise OSError(f"{name} failed with error {code}{meaning}")


def text_from(library: Any, name: str, *before: Any) -> str:
    """What a function of NVML writes into a buffer of text, its last two arguments; raises as `call`."""
    buffer = ctypes.create_string_buffer(_TEXT_BYTES)
    call(library, name, *before, buffer, _TEXT_BYTES)
    return buffer.value.decode("utf-8", errors="replace")


def _cuda_version(library: Any, name: str) -> str:
    version = ctypes.c_int()
    call(library, name, ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


class NvmlMemory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _driver_of_nvml(nvml: Any, gpu_absence: str | None) -> Driver:
    try:
        call(nvml, "nvmlInit_v2")
    except OSError as error:
        reason = Unknown(str(error))
        return Driver(reason, reason, reason, gpu_absence)
    try:
        return Driver(
            known(lambda: text_from(nvml, "nvmlSystemGetDriverVersion")),
            known(lambda: _cuda_version(nvml, "nvmlSystemGetCudaDriverVersion_v2")),
            known(lambda: _nvml_gpus(nvml)),
            gpu_absence,
        )
    finally:
        nvml.nvmlShutdown()


def _nvml_gpus(nvml: Any) -> tuple[Gpu, ...]:
    count = ctypes.c_uint()
    call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    return tuple(_nvml_gpu(nvml, number) for number in range(count.value))


def _nvml_gpu(nvml: Any, number: int) -> Gpu:
    device, memory = ctypes.c_void_p(), NvmlMemory()
    try:
        call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(number), ctypes.byref(device))
    except OSError as error:
        return Gpu(Unknown(str(error)), Unknown(str(error)), Unknown(str(error)))

    def capability() -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        call(nvml, "nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def size_bytes() -> int:
        call(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        return int(memory.total)

    return Gpu(
        known(lambda: text_from(nvml, "nvmlDeviceGetName", device)), known(capability), known(size_bytes)
    )


def _driver_of_cuda(cuda: Any, gpu_absence: str | None) -> Driver:
    return Driver(
        Unknown(f"{NVML} is not there to be asked"),
        known(lambda: _cuda_version(cuda, "cuDriverGetVersion")),
        known(lambda: _cuda_gpus(cuda)) if gpu_absence is None else (),
        gpu_absence,
    )


def _cuda_gpus(cuda: Any) -> tuple[Gpu, ...]:
    count = ctypes.c_int()
    call(cuda, "cuInit", 0)
    call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    return tuple(_cuda_gpu(cuda, number) for number in range(count.value))


def _cuda_gpu(cuda: Any, number: int) -> Gpu:
    name, size, device = ctypes.create_string_buffer(_TEXT_BYTES), ctypes.c_size_t(), ctypes.c_int()
    call(cuda, "cuDeviceGet", ctypes.byref(device), number)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    def product() -> str:
        call(cuda, "cuDeviceGetName", name, _TEXT_BYTES, device)
        return name.value.decode("utf-8", errors="replace")

    def size_bytes() -> int:
        call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
        return int(size.value)

    return Gpu(
        known(product),
        known(lambda: f"{attribute(_CAPABILITY_MAJOR)}.{attribute(_CAPABILITY_MINOR)}"),
        known(size_bytes),
    )
