"""CUDA's first device, asked of fake driver libraries."""

import ctypes
from typing import Any

import pytest

from edgepress.errors import MissingDeviceError
from edgepress.local_gpu import LocalGpu, local_gpu


class FakeCuda:
    """A fake of libcuda with one device."""

    def __init__(self, *, fails: str = "") -> None:
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            return self._call(name, arguments)

        return call

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name == self._fails:
            return 999
        values: dict[str, Any] = {"cuDriverGetVersion": 12060, "cuDeviceGetCount": 1, "cuDeviceGet": 0}
        if name in values:
            arguments[0]._obj.value = values[name]
        if name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {75: 8, 76: 7}[arguments[1]]
        if name == "cuDeviceGetName":
            arguments[0].value = b"Orin"
        return 0


class FakeNvml:
    """A fake of NVML that counts another GPU first, as one that CUDA_VISIBLE_DEVICES hides."""

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == "nvmlSystemGetDriverVersion":
                arguments[0].value = b"580.65.06"
            if name == "nvmlDeviceGetName":
                arguments[1].value = b"Hidden"
            if name == "nvmlDeviceGetCount_v2":
                arguments[0]._obj.value = 1
            return 0

        return call


def _loader(**libraries: Any) -> Any:
    def load(name: str) -> Any:
        key = "nvml" if "nvidia-ml" in name else "cuda"
        if key not in libraries:
            raise OSError(f"{name}: not found")
        return libraries[key]

    return load


def _no_absence() -> None:
    return None


def test_local_gpu_is_cudas_first_device_and_nvmls_driver() -> None:
    found = local_gpu(_loader(cuda=FakeCuda(), nvml=FakeNvml()), _no_absence)
    assert found == LocalGpu("Orin", "8.7", "580.65.06")


def test_local_gpu_has_no_driver_version_on_a_jetson() -> None:
    assert local_gpu(_loader(cuda=FakeCuda()), _no_absence) == LocalGpu("Orin", "8.7", None)


def test_local_gpu_says_why_there_is_none() -> None:
    with pytest.raises(MissingDeviceError, match=r"CUDA has none here: cuInit failed\. `edgepress doctor`"):
        local_gpu(ctypes.CDLL, lambda: "cuInit failed")


@pytest.mark.parametrize("function", ["cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceGetCount"])
def test_local_gpu_never_guesses(function: str) -> None:
    with pytest.raises(MissingDeviceError, match=rf"got .*{function} failed with error 999"):
        local_gpu(_loader(cuda=FakeCuda(fails=function)), _no_absence)
