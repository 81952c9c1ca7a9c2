"""The table of what differs between TensorRTs, held against the lists of their programming interfaces."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from edgepress.artifact import Runtime
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.tensorrt_flavour import (
    FLAVOURS,
    EndsInReport,
    Feature,
    Flavour,
    facts_of,
    flavour_of,
    has,
    imported,
    require,
)
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

# What a feature needs of a module: (class, attribute).
_NEEDS = {
    Feature.HARDWARE_AMPERE_PLUS: ("HardwareCompatibilityLevel", "AMPERE_PLUS"),
    Feature.HARDWARE_SAME_CAPABILITY: ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"),
    Feature.VERSION_COMPATIBLE: ("BuilderFlag", "VERSION_COMPATIBLE"),
    Feature.STRIPPED_PLAN: ("BuilderFlag", "STRIP_PLAN"),
    Feature.REFIT: ("BuilderFlag", "REFIT"),
    Feature.TIMING_CACHE: ("IBuilderConfig", "set_timing_cache"),
    Feature.DEVICE_MEMORY_SIZE_V2: ("ICudaEngine", "device_memory_size_v2"),
    Feature.BUILDS_WITHOUT_GPU: ("IBuilderConfig", "set_compute_capability"),
}


def _module(name: str, version: str | None) -> Any:
    module: Any = ModuleType(name)
    if version is not None:
        module.__version__ = version
    return module


@pytest.mark.parametrize(
    ("name", "version", "flavour", "runtime", "ends"),
    [
        ("tensorrt", "10.0.1", Flavour.TENSORRT_10, Runtime.TENSORRT, EndsInReport.BINDINGS),
        ("tensorrt", "10.16.1.5", Flavour.TENSORRT_10, Runtime.TENSORRT, EndsInReport.BINDINGS),
        ("tensorrt", "11.4.0.106", Flavour.TENSORRT_11, Runtime.TENSORRT, EndsInReport.IO_TENSORS),
        ("tensorrt_rtx", "1.7.1.116", Flavour.TENSORRT_RTX, Runtime.TENSORRT_RTX, EndsInReport.IO_TENSORS),
    ],
)
def test_flavour_of_a_module(
    name: str, version: str, flavour: Flavour, runtime: Runtime, ends: EndsInReport
) -> None:
    module = _module(name, version)
    assert flavour_of(module) is flavour
    facts = facts_of(module)
    assert (facts.module, facts.runtime, facts.ends_in_report) == (name, runtime, ends)


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        (
            "tensorrt",
            "8.6.1",
            r"tensorrt 8\.6\.1 is no .*10\.x, tensorrt 11\.x, tensorrt_rtx 1\.x\. TensorRT 8",
        ),
        ("tensorrt", "9.3.0", r"9\.3\.0.*JetPack 6 or later"),
        ("tensorrt", "12.0.0", r"12\.0\.0 is no .*\. Install one of these\.$"),
        ("tensorrt_rtx", "2.0.0", r"tensorrt_rtx 2\.0\.0 is no .*\. Install one of these\.$"),
        ("tensorrt_lean", "10.3.0", r"tensorrt_lean 10\.3\.0 is no"),
        ("tensorrt", None, r"tensorrt without a version is no .*Install one of these\.$"),
        ("tensorrt", "nonsense", r"tensorrt nonsense is no .*Install one of these\.$"),
    ],
)
def test_flavour_of_refuses_what_is_not_supported(name: str, version: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        flavour_of(_module(name, version))


@pytest.mark.parametrize("feature", Feature)
@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_table_agrees_with_the_bindings_of_each_version(version: str, feature: Feature) -> None:
    trt: Any = fake_tensorrt(version)
    owner, attribute = _NEEDS[feature]
    assert has(trt, feature) is hasattr(getattr(trt, owner), attribute)


@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_creation_flags_are_there_in_each_version(version: str) -> None:
    trt: Any = fake_tensorrt(version)
    assert [hasattr(trt.NetworkDefinitionCreationFlag, name) for name in facts_of(trt).creation_flags] == [
        True
    ]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_rtx_is_what_the_table_says() -> None:
    trt = imported(Flavour.TENSORRT_RTX)
    assert flavour_of(trt) is Flavour.TENSORRT_RTX
    assert has(trt, Feature.BUILDS_WITHOUT_GPU)
    assert hasattr(trt.IBuilderConfig, "set_compute_capability")
    assert hasattr(trt.ICudaEngine, "device_memory_size_v2")
    assert hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def test_require_says_since_when_a_feature_is_there() -> None:
    require(fake_tensorrt("10.13"), Feature.HARDWARE_SAME_CAPABILITY, "Leave it out.")
    with pytest.raises(
        InputError,
        match=r"^TensorRT 10 \(10\.3\.0\.26\) cannot give plans for all GPUs of one compute capability: "
        r"10\.13 and later have that\. Leave it out\.$",
    ):
        require(fake_tensorrt("10.3"), Feature.HARDWARE_SAME_CAPABILITY, "Leave it out.")
    with pytest.raises(
        InputError,
        match=r"^TensorRT-RTX \(1\.7\.1\) cannot give a timing cache: no version of it has that\. X\.$",
    ):
        require(_module("tensorrt_rtx", "1.7.1"), Feature.TIMING_CACHE, "X.")


def test_imported_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingRuntimeError, match=r"'tensorrt' is not installed.*edgepress\[gpu-trt\]"):
        imported(Flavour.TENSORRT_10)


def test_imported_refuses_another_flavour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("11.1"))
    assert imported(Flavour.TENSORRT_11).__version__ == "11.1.0.106"
    with pytest.raises(
        InputError, match=r"^Wanted TensorRT 10, got TensorRT 11 \(11\.1\.0\.106\)\. Take an env"
    ):
        imported(Flavour.TENSORRT_10)


def test_imported_tells_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> ModuleType:
        raise ImportError("libnvonnxparser.so.11: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(
        InputError, match=r"TensorRT 11 is installed and cannot be loaded \(libnvonnxparser.so.11"
    ):
        imported(Flavour.TENSORRT_11)


def test_every_flavour_has_a_row() -> None:
    assert set(FLAVOURS) == set(Flavour)
    assert all(facts.flavour is flavour for flavour, facts in FLAVOURS.items())
