"""CUDA's calls, checked; a fake stands for cuda-python and the GPU (tests/fakes/fake_cuda.py)."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgepress.cuda.fault import CudaError, CudaFault, fault_of
from edgepress.cuda.runtime import MODULES, Cuda, GpuDevice, GpuMemory, cuda_module
from edgepress.errors import DeviceFaultError, MissingDeviceError, MissingRuntimeError
from tests.fakes.fake_cuda import MIB, Error, FakeCuda, Injection

ROOT = Path(__file__).resolve().parents[3]


def test_call_gives_what_stands_beside_the_code() -> None:
    cuda = Cuda(FakeCuda())
    assert cuda.call("cudaGetDeviceCount") == 1
    assert cuda.call("cudaMemGetInfo") == (7892 * MIB, 8192 * MIB)
    address = cuda.call("cudaMalloc", 16)
    assert cuda.call("cudaFree", address) is None
    assert cuda.memory() == GpuMemory(7892 * MIB, 8192 * MIB)


@pytest.mark.parametrize(
    ("error", "fault", "advice"),
    [
        (Error.cudaErrorMemoryAllocation, CudaFault.OUT_OF_MEMORY, "End what else uses the GPU"),
        (Error.cudaErrorLaunchFailure, CudaFault.LAUNCH, "A kernel failed"),
        (Error.cudaErrorIllegalAddress, CudaFault.LAUNCH, "A kernel failed"),
        (Error.cudaErrorDevicesUnavailable, CudaFault.LOST, "restart the machine"),
        (Error.cudaErrorUnknown, CudaFault.LOST, "restart the machine"),
        (Error.cudaErrorInvalidValue, CudaFault.OTHER, "Look the error up"),
    ],
)
def test_call_tells_faults_apart(error: Error, fault: CudaFault, advice: str) -> None:
    cuda = Cuda(FakeCuda(Injection(error, 1, "cudaMalloc")))
    with pytest.raises(CudaError) as caught:
        cuda.call("cudaMalloc", 602112)
    assert isinstance(caught.value, DeviceFaultError)
    assert (caught.value.fault, caught.value.name) == (fault, error.name)
    assert str(caught.value).startswith(
        f"CUDA: cudaMalloc of 602112 bytes gave {error.name}, wanted cudaSuccess. "
    )
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_call_leaves_no_error_for_the_next_library() -> None:
    fake = FakeCuda(Injection(Error.cudaErrorMemoryAllocation, 1, "cudaMalloc"))
    with pytest.raises(CudaError):
        Cuda(fake).call("cudaMalloc", 16)
    assert fake.cudaGetLastError() == (Error.cudaSuccess,)


def test_release_tells_its_failure_unless_another_error_is_on_its_way() -> None:
    cuda = Cuda(FakeCuda(Injection(Error.cudaErrorInvalidValue, 1, "cudaFree")))
    address = cuda.call("cudaMalloc", 16)
    with pytest.raises(CudaError, match="cudaFree gave cudaErrorInvalidValue"):
        cuda.release("cudaFree", address)
    cuda = Cuda(FakeCuda(Injection(Error.cudaErrorInvalidValue, 1, "cudaFree")))
    address = cuda.call("cudaMalloc", 16)
    with pytest.raises(ValueError, match="the first error"):
        try:
            raise ValueError("the first error")
        finally:
            cuda.release("cudaFree", address)


def test_require_device_takes_one() -> None:
    Cuda(FakeCuda()).require_device()


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        (FakeCuda(driver_version=0), "no NVIDIA driver is loaded"),
        (FakeCuda(driver_version=12040), "the driver is for CUDA 12.4, cuda-python for 13.5"),
        (FakeCuda(devices=0), "cudaErrorNoDevice"),
    ],
    ids=["no driver", "driver too old", "no GPU"],
)
def test_require_device_says_in_one_line_why_there_is_none(fake: FakeCuda, reason: str) -> None:
    with pytest.raises(MissingDeviceError) as caught:
        Cuda(fake).require_device()
    assert str(caught.value).startswith(f"no CUDA device ({reason}). ")
    assert "\n" not in str(caught.value)


def test_require_device_refuses_a_driver_with_none() -> None:
    module = FakeCuda()
    module.cudaGetDeviceCount = lambda: (Error.cudaSuccess, 0)  # type: ignore[method-assign]
    with pytest.raises(MissingDeviceError, match=r"no CUDA device \(the driver reports 0 devices\)"):
        Cuda(module).require_device()


def test_require_device_lets_a_lost_gpu_be_a_fault() -> None:
    cuda = Cuda(FakeCuda(Injection(Error.cudaErrorUnknown, 1)))
    with pytest.raises(CudaError) as caught:
        cuda.require_device()
    assert caught.value.fault is CudaFault.LOST


def test_require_device_understands_how_older_versions_say_that_there_is_no_driver() -> None:
    module = FakeCuda()

    def without_driver() -> Any:
        raise RuntimeError('Function "cuInit" not found')

    module.cudaGetDeviceCount = without_driver  # type: ignore[method-assign]
    with pytest.raises(MissingDeviceError, match=r"no CUDA device \(cuda-python cannot load .*cuInit"):
        Cuda(module).require_device()


def test_release_is_silent_once_the_gpu_was_found_broken() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)
    address = cuda.call("cudaMalloc", 16)
    fake.fail_kernels()
    with pytest.raises(CudaError, match="cudaErrorLaunchFailure"):
        cuda.memory()
    cuda.release("cudaFree", address)
    fake.assert_nothing_left()


def test_device_has_a_name_and_a_compute_capability() -> None:
    assert Cuda(FakeCuda(capability=(8, 9))).device() == GpuDevice("Fake RTX A2000", "8.9")


def test_every_error_is_of_one_kind() -> None:
    assert fault_of("cudaErrorOfNextYear") is CudaFault.OTHER


@pytest.mark.parametrize("place", MODULES)
def test_cuda_module_is_found_in_both_places(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", *MODULES):
        monkeypatch.setitem(sys.modules, name, None)
    parts = place.split(".")
    for i in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
    assert cuda_module().__name__ == place


def test_cuda_module_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(MissingRuntimeError, match="'cuda-python' is not installed here"):
        cuda_module()


REAL = """
from edgepress.cuda import resources, runtime
from edgepress.errors import MissingDeviceError
import inspect, re

module = runtime.cuda_module()
names = re.findall(r'"(cuda[A-Z]\\w+)"', inspect.getsource(runtime) + inspect.getsource(resources))
members = {"cudaSuccess", "cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"}
cuda = runtime.Cuda(module)
cuda.constant("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
for attribute in ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor"):
    cuda.constant("cudaDeviceAttr", attribute)
for direction in ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"):
    cuda.constant("cudaMemcpyKind", direction)
mentioned = [n for n in names if n not in members and not re.match("cudaMemcpy.*To|.*Mode|cudaDevAttr", n)]
missing = [n for n in mentioned if not callable(getattr(module, n, None))]
assert not missing, missing
try:
    cuda.require_device()
except MissingDeviceError as error:
    print(error)
else:
    print("there is a GPU:", cuda.memory())
"""


def test_the_real_cuda_python_has_every_function_and_says_why_there_is_no_device() -> None:
    """Needs cuda-python (any version) in an environment of its own: EDGEPRESS_CUDA_PYTHON=…/bin/python."""
    python = os.environ.get("EDGEPRESS_CUDA_PYTHON")
    if not python:
        pytest.skip("EDGEPRESS_CUDA_PYTHON names no Python with cuda-python")
    done = subprocess.run(
        [python, "-c", REAL], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("no CUDA device (", "there is a GPU:"))
    assert done.stdout.count("\n") == 1
