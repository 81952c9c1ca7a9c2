"""A runner that runs no model: it does what a script says. For tests of the harness, and for trying it.

No artifact names it, so it is used only by `--runner fake`. Beside the artifact lies its script,
`ARTIFACT.fake.json`, e.g. `onnx-fp32.onnx.fake.json`:

    {"logits": [0.5, 2.0], "durations_ns": [1000000], "fault": "none", "fault_at": 0}
"""

import contextlib
import itertools
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format
from edgepress.cuda.fault import CudaError
from edgepress.errors import InputError
from edgepress.record import from_json
from edgepress.runners.runner import RunnerKind

NAME = "fake"
_SUFFIX = ".fake.json"
_SPIN_NS = 2_000_000  # the end of each duration is awaited awake: a sleep alone may last longer
_STDOUT = 1
_CHUNK_BYTES = 1 << 30
_DESCRIPTORS = 256  # the first ones


class Fault(str, Enum):
    """What goes wrong."""

    NONE = "none"
    REFUSE = "refuse"  # InputError at loading: a file that the runtime does not take
    CRASH_AT_LOAD = "crash at load"  # SIGABRT, as a failed assertion in native code
    CRASH = "crash"
    RAISE = "raise"  # an exception that is none of ours
    HANG = "hang"
    KILLED = "killed"  # SIGKILL, as when the kernel is out of memory
    EXIT = "exit"  # with code 0, and without a word
    PRINT = "print"  # to file descriptor 1, as native code does, and goes on
    OUT_OF_MEMORY = "out of memory"
    GPU_LOST = "gpu lost"  # as CUDA says it
    GARBAGE = "garbage"  # on every pipe that the process writes to, so on the channel of its replies, too


@dataclass(frozen=True)
class FakeScript:
    """What the runner does.

    Attributes:
        logits: One value per class for every image; or None, and "ARTIFACT.fake.npy", (N, classes) float32,
            holds a row for each image in the order in which they come, and starts again after the last.
        durations_ns: Of each inference of one image, repeated from the first after the last.
        fault: What goes wrong.
        fault_at: The inference (from 0) at which it does; of no account for the faults at loading.
    """

    logits: tuple[float, ...] | None
    durations_ns: tuple[int, ...]
    fault: Fault
    fault_at: int


def on_cpu(path: Path, threads: int) -> "FakeRunner":
    """A runner that follows the script beside `path`. Nothing is read yet; the threads do not matter."""
    del threads
    return FakeRunner(path)


class FakeRunner:
    """Follows a script.

    Attributes:
        evidence: "a script, no model".
    """

    def __init__(self, path: Path) -> None:
        self.evidence = ""
        self._path = path
        self._script = FakeScript(None, (), Fault.NONE, 0)
        self._rows: Iterator[NDArray[np.float32]] = iter(())
        self._durations_ns: Iterator[int] = iter(())
        self._count = 0

    def __enter__(self) -> "FakeRunner":
        """Read the script.

        Raises:
            InputError: There is none beside the artifact, it is none, or it says that the file is refused.
        """
        self._script = _script_of(self._path)
        if self._script.fault is Fault.REFUSE:
            raise InputError(f"The script of {self._path} refuses it. Set its fault to none.")
        if self._script.fault is Fault.CRASH_AT_LOAD:
            os.abort()
        self._rows = itertools.cycle(_logits_of(self._script, self._path))
        self._durations_ns = itertools.cycle(self._script.durations_ns)
        self._count = 0
        self.evidence = "a script, no model"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows, self._durations_ns = iter(()), iter(())

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) float32 → (N, classes) float32 from the script, after N of its durations."""
        return np.stack([self._infer_one() for _ in images])

    def _infer_one(self) -> NDArray[np.float32]:
        until_ns = time.perf_counter_ns() + next(self._durations_ns)
        if self._count == self._script.fault_at:
            _go_wrong(self._script.fault)
        self._count += 1
        _wait_until(until_ns)
        return next(self._rows)


def _script_of(path: Path) -> FakeScript:
    script = path.with_name(path.name + _SUFFIX)
    try:
        found = from_json(FakeScript, json.loads(script.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"The runner {NAME} needs a script at {script}: {error.strerror}. See docs/adding-a-runner.md."
        ) from error
    except ValueError as error:
        raise InputError(f"{script} is no script of the runner {NAME}: {error}. Correct it.") from error
    if not found.durations_ns or min(found.durations_ns) < 0:
        raise InputError(f"{script}: durations_ns has to hold at least one, and none below 0. Correct it.")
    return found


def _logits_of(script: FakeScript, path: Path) -> list[NDArray[np.float32]]:
    if script.logits is not None:
        return [np.asarray(script.logits, np.float32)]
    table = path.with_name(path.name + ".fake.npy")
    try:
        rows = np.load(table)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The script of {path} has no logits, and {table} cannot be read: {error}. Write either."
        ) from error
    return [np.asarray(row, np.float32) for row in rows]


def _wait_until(until_ns: int) -> None:
    left_ns = until_ns - time.perf_counter_ns() - _SPIN_NS
    if left_ns > 0:
        time.sleep(left_ns / 1e9)
    while time.perf_counter_ns() < until_ns:
        pass


def _go_wrong(fault: Fault) -> None:
    """Do it; return where the process is to go on."""
    actions: dict[Fault, Callable[[], object]] = {
        Fault.CRASH: os.abort,
        Fault.KILLED: lambda: os.kill(os.getpid(), signal.SIGKILL),
        Fault.EXIT: lambda: os._exit(0),
        Fault.RAISE: _fail,
        Fault.GPU_LOST: _lose_gpu,
        Fault.OUT_OF_MEMORY: _allocate_all,
        Fault.HANG: signal.pause,
        Fault.PRINT: lambda: os.write(_STDOUT, b"native code speaks\n"),
        Fault.GARBAGE: _write_garbage,
    }
    if action := actions.get(fault):
        action()


def _fail() -> None:
    raise ValueError("the script of the runner fake says so")


def _lose_gpu() -> None:
    raise CudaError("cudaStreamSynchronize", "cudaErrorUnknown")


def _allocate_all() -> None:
    """Reserve ever more until it is refused; its pages are never touched, so no memory is taken."""
    reserved: list[NDArray[np.uint8]] = []
    while True:
        reserved.append(np.empty(_CHUNK_BYTES << len(reserved), np.uint8))


def _write_garbage() -> None:
    """Write to every pipe; one that can only be read refuses."""
    for descriptor in range(_DESCRIPTORS):
        with contextlib.suppress(OSError):  # not open, or not for writing
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"{garbage\n")


RUNNERS = (
    RunnerKind(
        name=NAME,
        title="the fake",
        device=Device.CPU,
        formats=tuple(Format),
        package="numpy",
        distribution="numpy",
        extra="data",
        open=on_cpu,
        rank=1000,
    ),
)
