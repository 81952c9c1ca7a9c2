"""The seam between edgepress and a runtime: what a runner does, and what a runner's file says of it.

A runtime is one file, `edgepress/runners/NAME_runner.py`, with a tuple `RUNNERS`. It is found by its name:
nothing else needs to know of it (docs/adding-a-runner.md adds one).
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact, Device, Format, Precision
from edgepress.errors import InputError
from edgepress.interface import Scores

_SUFFIX = "_runner"
_HEADS = tuple(scores.value for scores in Scores)


class Runner(Protocol):
    """Runs one artifact. Memory and device are touched only between `__enter__` and `__exit__`.

    Attributes:
        evidence: What really runs, e.g. "CPUExecutionProvider", known after `__enter__`.
    """

    evidence: str

    def __enter__(self) -> "Runner":
        """Load the artifact."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release memory and device."""

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits.

        Integer inputs and outputs are quantized and dequantized inside, as on a device. Returns when
        the device has finished; the result is the caller's own copy.
        """


@runtime_checkable
class NamedOutputs(Protocol):
    """A runner that also gives what a model has beside its scores: an auxiliary head, a feature vector."""

    def outputs(self, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The input of `Runner.infer` → every output by its name in the file, (N, …) each.

        For proofs, not for timing. Quantized outputs are dequantized inside; other integers keep their dtype.
        """


@dataclass(frozen=True)
class DeviceTime:
    """One inference by the GPU's own clock, in ns.

    Attributes:
        upload_ns: Input to the GPU.
        compute_ns: From the first kernel to the last.
        download_ns: Scores from the GPU.
    """

    upload_ns: int
    compute_ns: int
    download_ns: int


@dataclass(frozen=True)
class DeviceMemoryUse:
    """What a loaded model takes of a GPU. None where the runtime does not tell.

    Attributes:
        activation_bytes: For what lies between layers, as the runtime tells; the weights are not in it.
        taken_bytes: By how much free memory fell from before the model was loaded until now, as CUDA tells
            (cudaMemGetInfo): weights, activations, kernels and buffers, and what others took meanwhile.
    """

    activation_bytes: int | None
    taken_bytes: int | None


@runtime_checkable
class OnGpu(Protocol):
    """A runner that can ask the GPU itself about the model that it has loaded."""

    def device_times(self, images: NDArray[np.float32], runs: int) -> tuple[DeviceTime, ...]:
        """Run the input of `Runner.infer` so many times, each timed by events on the stream."""

    def device_memory(self) -> DeviceMemoryUse:
        """What it takes now."""


@runtime_checkable
class Inspectable(Protocol):
    """A runner whose runtime tells what it made of the model that it has loaded."""

    def inspector_report(self) -> str:
        """The report of the runtime's own inspector, as JSON."""


def head_among(names: Iterable[str]) -> str | None:
    """The name of the output that holds the scores of the classes; None if no name says so.

    Runtimes order outputs in their own way (TFLite's signatures by name), so their position says nothing.
    """
    found = set(names)
    return next((head for head in _HEADS if head in found), None)


OpenRunner = Callable[[Path, int], Runner]
"""(artifact path, threads) → a runner that has not loaded anything yet."""


@dataclass(frozen=True)
class LayerTime:
    """What the runtime's own profiler says of one node that it ran.

    Attributes:
        name: Of the node, as the runtime calls it; fused nodes have one name.
        operator: Of the node, as the runtime calls it.
        place: Execution provider or delegate that ran it, e.g. "CPUExecutionProvider", "XNNPACK".
        precision: Of the numbers that it computes with; None where the profiler does not tell.
        duration_ns: Of one inference: the median over the profiled ones.
    """

    name: str
    operator: str
    place: str
    precision: Precision | None
    duration_ns: float


Profiler = Callable[[Path, int, NDArray[np.float32], int, Path], tuple[LayerTime, ...]]
"""(artifact path, threads, one preprocessed image, inferences, scratch folder) → nodes in their order.

Slows the runtime down, so it is a pass of its own. Raises MissingRuntimeError or InputError.
"""


class Purpose(Enum):
    """What the numbers of a runner are good for."""

    LATENCY_AND_ACCURACY = "latency and accuracy"
    ACCURACY = "accuracy"  # the logits of another runtime, never its speed


@dataclass(frozen=True)
class RunnerKind:
    """What a runner's file says of a runner.

    Attributes:
        name: On the command line and in results.json.
        device: Where it runs.
        formats: That it can load.
        package: That it imports, e.g. "ai_edge_litert.interpreter".
        distribution: That brings it, e.g. "ai-edge-litert"; its version is recorded.
        extra: Of edgepress, that installs it.
        open: Makes a runner.
        places: What `LayerTime.place` may be, e.g. "CPUExecutionProvider"; empty where any is right.
        profiler: Times each node; None where the runtime has no profiler that can be asked.
        purpose: What its numbers are good for.
        rank: The lowest rank whose FP32 artifact can run is the reference of accuracy.
        title: As its makers write it, e.g. "ONNX Runtime"; empty for its `name`.
        unfit: Precisions that it has no kernels for, with the reason: such an artifact is not run.
    """

    name: str
    device: Device
    formats: tuple[Format, ...]
    package: str
    distribution: str
    extra: str
    open: OpenRunner
    places: tuple[str, ...] = ()
    profiler: Profiler | None = None
    purpose: Purpose = Purpose.LATENCY_AND_ACCURACY
    rank: int = 100
    title: str = ""
    unfit: Mapping[Precision, str] = field(default_factory=dict)

    def is_made_for(self, artifact: Artifact) -> bool:
        """Whether the artifact was made for this runner (others of its format can run, too, if asked)."""
        made_for = {runtime.value for runtime in artifact.runtimes}
        return artifact.format in self.formats and self.name in made_for


@lru_cache(maxsize=1)
def runner_kinds() -> tuple[RunnerKind, ...]:
    """Every runner that a file in edgepress/runners declares, by rank. Imports no framework."""
    from edgepress import runners

    names = sorted(module.name for module in pkgutil.iter_modules(runners.__path__))
    files = [f"{runners.__name__}.{name}" for name in names if name.endswith(_SUFFIX)]
    found: list[RunnerKind] = [kind for file in files for kind in importlib.import_module(file).RUNNERS]
    return tuple(sorted(found, key=lambda kind: kind.rank))


def runner_names() -> tuple[str, ...]:
    """Their names, each once."""
    return tuple(dict.fromkeys(kind.name for kind in runner_kinds()))


def runner_kind(name: str, device: Device) -> RunnerKind:
    """The runner of a name (`Runtime` or text) on a device.

    Raises:
        InputError: There is none.
    """
    plain = name.value if isinstance(name, Enum) else name
    for kind in runner_kinds():
        if (kind.name, kind.device) == (plain, device):
            return kind
    known = ", ".join(f"{kind.name} on {kind.device.value}" for kind in runner_kinds())
    raise InputError(
        f"edgepress has no runner for {plain} on {device.value}. Choose another --device or runner: {known}."
    )


def runner_for(name: str, device: Device) -> OpenRunner:
    """What opens an artifact with the runner of a name on a device.

    Raises:
        InputError: There is no runner for this pair.
    """
    return runner_kind(name, device).open


def places_of(name: str, device: Device) -> tuple[str, ...]:
    """`RunnerKind.places` of a runner; empty for one that this version does not know."""
    for kind in runner_kinds():
        if (kind.name, kind.device) == (name, device):
            return kind.places
    return ()


def title_of(name: str) -> str:
    """`RunnerKind.title` of a runner; the name itself of one that this version does not know."""
    return next((kind.title for kind in runner_kinds() if kind.name == name and kind.title), name)
