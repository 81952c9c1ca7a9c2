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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.latency import Clock, repeat, timed
from benchmark.memory import Residence, forget_peak, residence
from benchmark.protocol import (
    Block,
    Evaluate,
    Evaluated,
    Failure,
    FailureKind,
    First,
    Memory,
    Open,
    Opened,
    Prepare,
    Prepared,
    Request,
    Samples,
    Timed,
    request_from_json,
)
from edgepress.artifact import Runtime
from edgepress.errors import EdgepressError, InputError, MissingDeviceError, MissingRuntimeError
from edgepress.record import to_json
from edgepress.runners.runner import Runner, runner_for

_PR_SET_PDEATHSIG = 1

Reply = Prepared | Opened | Timed | Samples | Residence | Evaluated


class Worker:
    """Answers requests; holds at most one runner, which `close` releases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resources = ExitStack()
        self._runner: Runner | None = None
        self._images: NDArray[np.float32] | None = None

    def answer(self, request: Request) -> Reply:
        """Do what is asked.

        Raises:
            InputError: An artifact cannot be loaded or a picture cannot be read, or something is asked
                out of order.
        """
        if isinstance(request, Prepare):
            return self._prepare(request)
        if isinstance(request, Open):
            return self._open(request)
        if isinstance(request, First):
            return self._first(request)
        if isinstance(request, Block):
            return self._block(request)
        if isinstance(request, Memory):
            return residence()
        return self._evaluate(request)

    def close(self) -> None:
        """Release the runner."""
        self._resources.close()

    def _prepare(self, request: Prepare) -> Prepared:
        _import_only(request.runtime)
        forget_peak()  # what the import itself needed for a moment is not the model's
        return Prepared(residence().rss_bytes)

    def _open(self, request: Open) -> Opened:
        runner = runner_for(request.runtime, request.device)(Path(request.path), request.threads)
        _, load_ns = timed(lambda: self._resources.enter_context(runner), self._clock)
        self._runner = runner
        return Opened(load_ns, runner.evidence)

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
        return Samples(repeat(lambda: infer(images), request.extent, self._clock))

    def _evaluate(self, request: Evaluate) -> Evaluated:
        from edgepress.dataset import open_data
        from edgepress.preprocessing import Preprocessing

        runner = self._opened()
        preprocessing = Preprocessing.from_json(request.preprocessing)
        pool = open_data(request.data).evaluation
        places = {picture.name: i for i, picture in enumerate(pool.pictures)}
        if gone := [name for name in request.names if name not in places]:
            raise InputError(f"The picture {gone[0]} of {request.data} is gone. Put it back or measure anew.")
        pictures = pool.take([places[name] for name in request.names])
        logits = np.concatenate([runner.infer(images) for images in pictures.inputs(preprocessing)])
        np.save(request.logits, logits)
        return Evaluated(len(logits))


def _import_only(runtime: Runtime) -> None:
    """Import the package of a runtime, so that the process is ready but holds no model."""
    import importlib

    package, extra = {
        Runtime.TENSORFLOW: ("tensorflow", "keras"),
        Runtime.LITERT: ("ai_edge_litert.interpreter", "litert"),
    }.get(runtime, ("onnxruntime", "onnxruntime"))
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingRuntimeError(package, extra) from error


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone, even while it is stopped."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answered(worker: Worker, line: str) -> dict[str, Any]:
    try:
        return {"reply": to_json(worker.answer(request_from_json(json.loads(line))))}
    except (MissingRuntimeError, MissingDeviceError) as error:
        return {"failure": to_json(Failure(FailureKind.MISSING, str(error)))}
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
