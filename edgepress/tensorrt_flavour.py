"""What each TensorRT has: the one table of what differs between 10.x, 11.x and TensorRT-RTX.

All three build strongly typed networks, whose precision is that of the ONNX file, and run plans by the same
calls. The rest of edgepress asks this table, never a version number. Sources: the Python bindings of
NVIDIA/TensorRT, branches release/10.0 to 11.1, and TensorRT-RTX 1.7 itself.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from edgepress.artifact import Runtime
from edgepress.errors import InputError, MissingRuntimeError


class Flavour(str, Enum):
    """A line of TensorRT with one programming interface; the value is its name in files."""

    TENSORRT_10 = "tensorrt-10"
    TENSORRT_11 = "tensorrt-11"
    TENSORRT_RTX = "tensorrt-rtx"


class Feature(str, Enum):
    """What some TensorRTs can do and others cannot; the value is what a message calls it."""

    BUILDS_WITHOUT_GPU = "building without a GPU, for named compute capabilities"
    HARDWARE_AMPERE_PLUS = "plans for all GPUs from Ampere on"
    HARDWARE_SAME_CAPABILITY = "plans for all GPUs of one compute capability"
    VERSION_COMPATIBLE = "version compatible plans"
    STRIPPED_PLAN = "plans without weights"
    REFIT = "plans whose weights can be exchanged"
    TIMING_CACHE = "a timing cache"
    DEVICE_MEMORY_SIZE_V2 = "ICudaEngine.device_memory_size_v2"


class EndsInReport(str, Enum):
    """The key under which an inspector's report lists inputs and outputs."""

    BINDINGS = "Bindings"  # names
    IO_TENSORS = "I/O Tensors"  # objects


Since = tuple[int, int]
_ANY: Since = (0, 0)
_STRONGLY_TYPED = ("STRONGLY_TYPED",)


@dataclass(frozen=True)
class FlavourFacts:
    """A row of the table.

    Attributes:
        flavour: Which it is of.
        title: As its makers write it.
        module: Name in Python.
        distribution: Package that brings it.
        extra: Of edgepress, that installs it.
        runtime: Name of what runs its plans.
        creation_flags: Names of the flags that make a network strongly typed. In 11 and RTX every network is;
            the flag is still there. In 10 a network without it is weakly typed.
        versions: The first (major, minor) that is supported, and the first major that is not.
        since: Since which (major, minor) it has a feature; one that it never has is missing.
        ends_in_report: Key of an inspector's report.
    """

    flavour: Flavour
    title: str
    module: str
    distribution: str
    extra: str
    runtime: Runtime
    creation_flags: tuple[str, ...]
    versions: tuple[Since, int]
    since: Mapping[Feature, Since]
    ends_in_report: EndsInReport


_PROPER: Mapping[Feature, Since] = {
    Feature.HARDWARE_AMPERE_PLUS: _ANY,
    Feature.HARDWARE_SAME_CAPABILITY: (10, 13),
    Feature.VERSION_COMPATIBLE: _ANY,
    Feature.STRIPPED_PLAN: _ANY,
    Feature.REFIT: _ANY,
    Feature.TIMING_CACHE: _ANY,
    Feature.DEVICE_MEMORY_SIZE_V2: (10, 3),
}

# RTX takes the calls for hardware compatibility and a timing cache, and warns that they do nothing. With
# REFIT or STRIP_PLAN it builds only where there is a GPU, and for VERSION_COMPATIBLE it needs a library that
# its package lacks (tried with 1.7.1).
_RTX: Mapping[Feature, Since] = {
    Feature.BUILDS_WITHOUT_GPU: _ANY,
    Feature.DEVICE_MEMORY_SIZE_V2: _ANY,
}

FLAVOURS: Mapping[Flavour, FlavourFacts] = MappingProxyType(
    {
        facts.flavour: facts
        for facts in (
            FlavourFacts(
                Flavour.TENSORRT_10,
                "TensorRT 10",
                "tensorrt",
                "tensorrt",
                "gpu-trt",
                Runtime.TENSORRT,
                _STRONGLY_TYPED,
                ((10, 0), 11),
                _PROPER,
                EndsInReport.BINDINGS,
            ),
            FlavourFacts(
                Flavour.TENSORRT_11,
                "TensorRT 11",
                "tensorrt",
                "tensorrt",
                "gpu-trt",
                Runtime.TENSORRT,
                _STRONGLY_TYPED,
                ((11, 0), 12),
                _PROPER,
                EndsInReport.IO_TENSORS,
            ),
            FlavourFacts(
                Flavour.TENSORRT_RTX,
                "TensorRT-RTX",
                "tensorrt_rtx",
                "tensorrt-rtx",
                "tensorrt-rtx",
                Runtime.TENSORRT_RTX,
                _STRONGLY_TYPED,
                ((1, 0), 2),
                _RTX,
                EndsInReport.IO_TENSORS,
            ),
        )
    }
)


def flavour_of(trt: Any) -> Flavour:
    """The flavour of an imported module, `tensorrt` or `tensorrt_rtx`.

    Raises:
        InputError: It is of a version that edgepress does not support, or no TensorRT.
    """
    name, found = str(trt.__name__), _major_minor(trt)
    for facts in FLAVOURS.values():
        first, end = facts.versions
        if facts.module == name and first <= found and found[0] < end:
            return facts.flavour
    raise InputError(
        f"{name} {getattr(trt, '__version__', 'without a version')} is no TensorRT that edgepress works "
        f"with: wanted {_supported()}. {_remedy(name, found)}"
    )


def facts_of(trt: Any) -> FlavourFacts:
    """The row of the table for an imported module; raises as `flavour_of`."""
    return FLAVOURS[flavour_of(trt)]


def has(trt: Any, feature: Feature) -> bool:
    """Whether the version of an imported module can do something; raises as `flavour_of`."""
    since = facts_of(trt).since.get(feature)
    return since is not None and since <= _major_minor(trt)


def require(trt: Any, feature: Feature, remedy: str) -> None:
    """Refuse what the version of an imported module cannot do, before anything is built.

    Args:
        trt: The module.
        feature: What is wanted.
        remedy: What to do instead: a sentence.

    Raises:
        InputError: It cannot do that, or it is of a version that edgepress does not support.
    """
    if has(trt, feature):
        return
    facts = facts_of(trt)
    since = facts.since.get(feature)
    which = "no version of it has that" if since is None else f"{since[0]}.{since[1]} and later have that"
    raise InputError(f"{facts.title} ({trt.__version__}) cannot give {feature.value}: {which}. {remedy}")


def facts_for(runtime: Runtime) -> FlavourFacts:
    """A row of the table whose plans a runtime runs; 10 and 11 have the same module and package."""
    return next(facts for facts in FLAVOURS.values() if facts.runtime is runtime)


def imported_for(runtime: Runtime) -> Any:
    """The module that runs a runtime's plans, whatever its version.

    Raises:
        MissingRuntimeError: It is not installed.
        InputError: It is installed and cannot be loaded.
    """
    facts = facts_for(runtime)
    return _imported(facts, facts.module)


def _imported(facts: FlavourFacts, title: str) -> Any:
    try:
        return importlib.import_module(facts.module)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(facts.distribution, facts.extra) from error
    except ImportError as error:
        raise InputError(
            f"{title} is installed and cannot be loaded ({' '.join(str(error).split())}). Install "
            f"{facts.distribution} again, with its libraries; `edgepress doctor` shows what is missing."
        ) from error


def imported(flavour: Flavour) -> Any:
    """The module of a flavour.

    Raises:
        MissingRuntimeError: It is not installed.
        InputError: What is installed under its name is of another flavour, or cannot be loaded.
    """
    facts = FLAVOURS[flavour]
    module = _imported(facts, facts.title)
    found = flavour_of(module)
    if found is not flavour:
        raise InputError(
            f"Wanted {facts.title}, got {FLAVOURS[found].title} ({module.__version__}). Take an environment "
            f"with {facts.title}, or build the plan anew with what is here."
        )
    return module


def _major_minor(trt: Any) -> Since:
    """Read without the package `packaging`: a device has only numpy. (-1, 0) for no version."""
    found = re.match(r"(\d+)(?:\.(\d+))?", str(getattr(trt, "__version__", "")))
    return (int(found[1]), int(found[2] or 0)) if found else (-1, 0)


def _supported() -> str:
    spans = (
        f"{facts.module} {first[0]}.x" if first[1] == 0 else f"{facts.module} {first[0]}.{first[1]} and later"
        for facts in FLAVOURS.values()
        for first, _ in (facts.versions,)
    )
    return ", ".join(spans)


def _remedy(name: str, found: Since) -> str:
    if name == "tensorrt" and (0, 0) <= found < (10, 0):
        return (
            "TensorRT 8 (JetPack 5) has no strongly typed networks: use JetPack 6 or later, or pip install "
            "'tensorrt>=10'."
        )
    return "Install one of these."
