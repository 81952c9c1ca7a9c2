"""The measuring process (`python -m benchmark.worker`): one runtime, one artifact, driven line by line.

Frameworks write to file descriptor 1 behind Python's back, so the replies go to a private copy of it, and
the descriptor itself is pointed at stderr, which the parent keeps as a log.
"""

import ctypes
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.latency import Clock, repeat, timed
from benchmark.memory import device_process_bytes, device_used_bytes, forget_peak, residence
from benchmark.protocol import (
    Block,
    Evaluate,
    Evaluated,
    Failure,
    FailureKind,
    First,
    Infer,
    Memory,
    Occupied,
    OnDevice,
    Open,
    Opened,
    Prepare,
    Profile,
    Profiled,
    Request,
    Samples,
    Timed,
    ToldByDevice,
    request_from_json,
)
from edgepress.artifact import Device
from edgepress.doctor.gpu_moment import GpuMoment, moment_of_first
from edgepress.errors import (
    DeviceFaultError,
    EdgepressError,
    InputError,
    MissingDeviceError,
    MissingRuntimeError,
)
from edgepress.interface import PLAIN, Activation
from edgepress.record import to_json
from edgepress.runners.runner import OnGpu, Runner, RunnerKind, runner_for, runner_kind

_PR_SET_PDEATHSIG = 1

Reply = Occupied | Opened | Timed | Samples | ToldByDevice | Profiled | Evaluated


class Worker:
    """Answers requests; holds at most one runner, which `close` releases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resources = ExitStack()
        self._device = Device.CPU
        self._path: Path | None = None
        self._runner: Runner | None = None
        self._interface, self._activation = PLAIN, Activation.NONE
        self._images: NDArray[np.float32] | None = None
        self._methods: dict[type, Callable[[Any], Reply]] = {
            Prepare: self._prepare,
            Open: self._open,
            First: self._first,
            Block: self._block,
            Memory: self._memory,
            OnDevice: self._on_device,
            Profile: _profiled,
            Evaluate: self._evaluate,
            Infer: self._infer,
        }

    def answer(self, request: Request) -> Reply:
        """Do what is asked.

        Raises:
            InputError: An artifact cannot be loaded or a picture cannot be read, or something is asked
                out of order.
        """
        for kind, method in self._methods.items():
            if isinstance(request, kind):
                reply: Reply = method(request)
                return reply
        raise InputError(f"Nothing answers {type(request).__name__}.")

    def close(self) -> None:
        """Release the runner."""
        self._resources.close()

    def _prepare(self, request: Prepare) -> Occupied:
        kind = runner_kind(request.runner, request.device)
        _import_only(kind)
        self._device = request.device
        forget_peak()  # what the import itself needed for a moment is not the model's
        return self._occupied()

    def _occupied(self) -> Occupied:
        if self._device is Device.CPU:
            return Occupied(residence(self._path), None)
        return Occupied(residence(self._path), device_used_bytes(), device_process_bytes())

    def _open(self, request: Open) -> Opened:
        runner = runner_for(request.runner, request.device)(Path(request.path), request.threads)
        _, load_ns = timed(lambda: self._resources.enter_context(runner), self._clock)
        self._runner, self._path = runner, Path(request.path)
        self._interface, self._activation = request.interface, request.activation
        return Opened(load_ns, runner.evidence, residence(self._path))

    def _opened(self) -> Runner:
        if self._runner is None:
            raise InputError("Nothing is open: wanted `Open` before this command.")
        return self._runner

    def _first(self, request: First) -> Timed:
        runner = self._opened()
        images = np.load(request.images)
        _, duration_ns = timed(lambda: runner.infer(images), self._clock)
        self._images = images
        return Timed(duration_ns)

    def _block(self, request: Block) -> Samples:
        runner, images = self._opened(), self._images
        if images is None:
            raise InputError("There is no input: wanted `First` before `Block`.")
        infer = runner.infer
        repeat(lambda: infer(images), request.settle, self._clock)
        before = self._gpu()
        if before:  # asking took a while, in which the GPU had nothing to do
            repeat(lambda: infer(images), request.settle, self._clock)
        samples_ns = repeat(lambda: infer(images), request.extent, self._clock)
        return Samples(samples_ns, before + self._gpu())

    def _gpu(self) -> tuple[GpuMoment, ...]:
        """What the GPU does now: asked while it is still at the clocks at which it has just worked."""
        return () if self._device is Device.CPU else (moment_of_first(),)

    def _on_device(self, request: OnDevice) -> ToldByDevice:
        runner, images = self._opened(), self._images
        if images is None or not isinstance(runner, OnGpu):
            return ToldByDevice(None, ())
        times = runner.device_times(images, request.runs)
        return ToldByDevice(runner.device_memory(), times)

    def _memory(self, request: Memory) -> Occupied:  # noqa: ARG002  # it asks for nothing in particular
        return self._occupied()

    def _infer(self, request: Infer) -> Evaluated:
        images = np.load(request.images)
        step = self._interface.batch or 1
        logits = self._logits(images[i : i + step] for i in range(0, len(images), step))
        np.save(request.logits, logits)
        return Evaluated(len(logits))

    def _evaluate(self, request: Evaluate) -> Evaluated:
        from edgepress.dataset import open_data
        from edgepress.preprocessing import Preprocessing

        preprocessing = Preprocessing.from_json(request.preprocessing)
        pool = open_data(request.data).evaluation
        places = {picture.name: i for i, picture in enumerate(pool.pictures)}
        if gone := [name for name in request.names if name not in places]:
            raise InputError(f"The picture {gone[0]} of {request.data} is gone. Put it back or measure anew.")
        pictures = pool.take([places[name] for name in request.names])
        logits = self._logits(pictures.inputs(preprocessing, self._interface))
        np.save(request.logits, logits)
        return Evaluated(len(logits))

    def _logits(self, inputs: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
        runner, interface = self._opened(), self._interface
        scores = np.concatenate([interface.run(runner.infer, images) for images in inputs])
        return interface.logits(scores, self._activation)


def _import_only(kind: RunnerKind) -> None:
    """Import the package of a runtime, so that the process is ready but holds no model."""
    import importlib

    try:
        importlib.import_module(kind.package)
    except ImportError as error:
        raise MissingRuntimeError(kind.distribution, kind.extra) from error


def _profiled(request: Profile) -> Profiled:
    kind = runner_kind(request.runner, request.device)
    if kind.profiler is None:
        return Profiled((), f"{kind.name} has no profiler that can be asked")
    images = np.load(request.images)
    scratch = Path(request.scratch)
    return Profiled(kind.profiler(Path(request.path), request.threads, images, request.runs, scratch), None)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone, even while it is stopped."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answered(worker: Worker, line: str) -> dict[str, Any]:
    try:
        return {"reply": to_json(worker.answer(request_from_json(json.loads(line))))}
    except (MissingRuntimeError, MissingDeviceError) as error:
        return {"failure": to_json(Failure(FailureKind.MISSING, str(error)))}
    except DeviceFaultError as error:
        return {"failure": to_json(Failure(FailureKind.DEVICE, str(error)))}
    except EdgepressError as error:
        return {"failure": to_json(Failure(FailureKind.INPUT, str(error)))}


def main() -> None:
    """Answer until stdin ends. Any other exception ends the process; its text is in the parent's log."""
    _die_with_parent()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        worker = Worker(time.perf_counter_ns)
        for line in sys.stdin:
            replies.write(json.dumps(_answered(worker, line)) + "\n")
            replies.flush()
        worker.close()


if __name__ == "__main__":
    main()
