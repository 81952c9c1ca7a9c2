"""What the measuring process and its parent say to each other: one JSON object per line.

A request is `{"command": NAME, "arguments": {…}}`; the answer is `{"reply": {…}}` or
`{"failure": {"kind": …, "message": …}}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from benchmark.latency import Extent
from benchmark.memory import Residence
from edgepress.artifact import Device
from edgepress.doctor.gpu_moment import GpuMoment
from edgepress.interface import PLAIN, Activation, Interface
from edgepress.record import from_json, to_json
from edgepress.runners.runner import DeviceMemoryUse, DeviceTime, LayerTime


@dataclass(frozen=True)
class Prepare:
    """Import the runtime and nothing else → `Occupied`, of the "empty" process."""

    runner: str
    device: Device


@dataclass(frozen=True)
class Open:
    """Load an artifact → `Opened`.

    Attributes:
        runner: Name of what opens it.
        device: Where it runs.
        path: Of the file or folder.
        threads: As given to the runtime.
        interface: Of the artifact.
        activation: Of the model.
    """

    runner: str
    device: Device
    path: str
    threads: int
    interface: Interface = PLAIN
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class First:
    """Take an input (path of an .npy file) and run the very first inference → `Timed`."""

    images: str


@dataclass(frozen=True)
class Block:
    """Repeat inference without counting, then with → `Samples`."""

    settle: Extent
    extent: Extent


@dataclass(frozen=True)
class Memory:
    """Tell what the process occupies → `Occupied`."""


@dataclass(frozen=True)
class OnDevice:
    """Ask the GPU itself about the open model → `ToldByDevice`.

    Attributes:
        runs: Inferences to time by its clock.
    """

    runs: int


@dataclass(frozen=True)
class Profile:
    """Time each node in the runtime's own profiler → `Profiled`. Nothing needs to be open.

    Attributes:
        images: Path of an .npy file with one input.
        runs: Inferences to profile.
        scratch: Folder that the profiler may write to.
    """

    runner: str
    device: Device
    path: str
    threads: int
    images: str
    runs: int
    scratch: str


@dataclass(frozen=True)
class Evaluate:
    """Run pictures one at a time, and write their logits → `Evaluated`.

    Attributes:
        data: DATA, as given to `open_data`.
        names: Pictures of its evaluation pool, in order.
        preprocessing: `Preprocessing.to_json()`.
        logits: Path of the .npy file to write, (N, classes) float32.
    """

    data: str
    names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    logits: str


@dataclass(frozen=True)
class Infer:
    """Run inputs one at a time, and write their logits → `Evaluated`.

    Attributes:
        images: Path of an .npy file, (N, height, width, 3) float32.
        logits: Path of the .npy file to write, (N, classes) float32.
    """

    images: str
    logits: str


Request: TypeAlias = Prepare | Open | First | Block | Memory | OnDevice | Profile | Evaluate | Infer


@dataclass(frozen=True)
class Opened:
    """Time to load, and the runner's evidence.

    Attributes:
        load_ns: From the file to a ready runtime.
        evidence: What really runs.
        residence: After loading.
    """

    load_ns: int
    evidence: str
    residence: Residence


@dataclass(frozen=True)
class Timed:
    """Time of one action."""

    duration_ns: int


@dataclass(frozen=True)
class Samples:
    """A block.

    Attributes:
        samples_ns: Time of each counted inference, in order.
        gpu: What the GPU did just before the first and just after the last of them; empty on a CPU.
    """

    samples_ns: tuple[int, ...]
    gpu: tuple[GpuMoment, ...] = ()


@dataclass(frozen=True)
class Occupied:
    """What the process occupies now.

    Attributes:
        residence: Its memory.
        device_used_bytes: In use on the GPU, by whomever; None on a CPU.
        device_process_bytes: Of it, by this process; None on a CPU, and where NVML does not tell.
    """

    residence: Residence
    device_used_bytes: int | None
    device_process_bytes: int | None = None


@dataclass(frozen=True)
class ToldByDevice:
    """What a runner asked the GPU. Nothing for a runner that cannot.

    Attributes:
        memory: What the model takes there.
        times: Of each inference, by the GPU's clock.
    """

    memory: DeviceMemoryUse | None
    times: tuple[DeviceTime, ...]


@dataclass(frozen=True)
class Profiled:
    """What the profiler found; no layers with the reason why."""

    layers: tuple[LayerTime, ...]
    note: str | None


@dataclass(frozen=True)
class Evaluated:
    """Number of pictures whose logits were written."""

    images: int


class FailureKind(str, Enum):
    """Why there is no answer."""

    MISSING = "missing"  # the runtime or its device is not there: the row is skipped
    INPUT = "input"
    DEVICE = "device"  # the GPU failed: its memory is full, a kernel failed, or it is lost
    CRASH = "crash"  # the process ended, or was killed
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Failure:
    """A request that could not be fulfilled, in one line."""

    kind: FailureKind
    message: str


_COMMANDS: dict[str, type[Request]] = {
    command.__name__: command
    for command in (Prepare, Open, First, Block, Memory, OnDevice, Profile, Evaluate, Infer)
}


def request_to_json(request: object) -> dict[str, Any]:
    """As sent to the measuring process."""
    return {"command": type(request).__name__, "arguments": to_json(request)}


def request_from_json(value: Mapping[str, Any]) -> Request:
    """The inverse of `request_to_json`."""
    return from_json(_COMMANDS[value["command"]], value["arguments"])
