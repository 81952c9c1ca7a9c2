"""What the measuring process and its parent say to each other: one JSON object per line.

A request is `{"command": NAME, "arguments": {…}}`; the answer is `{"reply": {…}}` or
`{"failure": {"kind": …, "message": …}}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from benchmark.latency import Extent
from edgepress.artifact import Device, Runtime
from edgepress.record import from_json, to_json


@dataclass(frozen=True)
class Prepare:
    """Import the runtime and nothing else → `Prepared`."""

    runtime: Runtime


@dataclass(frozen=True)
class Open:
    """Load an artifact → `Opened`.

    Attributes:
        path: Of the file or folder.
        threads: As given to the runtime.
    """

    runtime: Runtime
    device: Device
    path: str
    threads: int


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
    """Tell what the process occupies → `benchmark.memory.Residence`."""


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


Request: TypeAlias = Prepare | Open | First | Block | Memory | Evaluate


@dataclass(frozen=True)
class Prepared:
    """RSS of the process with the runtime imported, the "empty" process."""

    rss_bytes: int | None


@dataclass(frozen=True)
class Opened:
    """Time to load, and the runner's evidence."""

    load_ns: int
    evidence: str


@dataclass(frozen=True)
class Timed:
    """Time of one action."""

    duration_ns: int


@dataclass(frozen=True)
class Samples:
    """Time of each counted inference, in ns and in order."""

    samples_ns: tuple[int, ...]


@dataclass(frozen=True)
class Evaluated:
    """Number of pictures whose logits were written."""

    images: int


class FailureKind(str, Enum):
    """Why there is no answer."""

    MISSING = "missing"  # the runtime or its device is not there: the row is skipped
    INPUT = "input"
    CRASH = "crash"  # the process ended, or was killed
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Failure:
    """A request that could not be fulfilled, in one line."""

    kind: FailureKind
    message: str


_COMMANDS: dict[str, type[Request]] = {
    command.__name__: command for command in (Prepare, Open, First, Block, Memory, Evaluate)
}


def request_to_json(request: Request) -> dict[str, Any]:
    """As sent to the measuring process."""
    return {"command": type(request).__name__, "arguments": to_json(request)}


def request_from_json(value: Mapping[str, Any]) -> Request:
    """The inverse of `request_to_json`."""
    return from_json(_COMMANDS[value["command"]], value["arguments"])
