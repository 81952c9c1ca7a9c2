"""A working process (`python -m edgepress.cli.gpu_check.worker`), in the environment that has TensorRT.

It builds and runs one variant, so that a crash costs no other. It runs with Python 3.10, too: a Jetson's own
Python has JetPack's TensorRT.
"""

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.latency import Clock, Extent, repeat
from benchmark.protocol import Failure, FailureKind
from edgepress.artifact import Device, Runtime
from edgepress.cli.gpu_check.questions import Around, Build, LookAround, Ran, Run
from edgepress.cuda.runtime import MODULES
from edgepress.doctor.gpu_moment import GpuMoment, moment_of_first
from edgepress.engine_card import EngineCard, write_card
from edgepress.errors import EdgepressError, MissingDeviceError, MissingRuntimeError
from edgepress.local_gpu import local_gpu
from edgepress.record import from_json, to_json
from edgepress.runners.runner import Inspectable, OnGpu, OpenRunner, Profiler, runner_kind
from edgepress.tensorrt_flavour import imported_for
from optimize.build_options import BuildOptions
from optimize.engine_from_onnx import engine_from_onnx

BuildEngine = Callable[[Build], EngineCard]
"""Writes the plan and its card."""

Openers = Callable[[str], tuple[OpenRunner, Profiler | None]]
"""What opens a plan with the runner of a name, and what times its layers."""

_PROFILED_RUNS = 20


def build_engine(request: Build) -> EngineCard:
    """With the TensorRT that is installed.

    Raises:
        MissingRuntimeError: It is not installed.
        MissingDeviceError: It needs a GPU, and there is none.
        InputError: It does not build for that GPU.
        ProofError: It refused the graph.
    """
    trt = imported_for(Runtime(request.runner))
    place = local_gpu() if request.capability is None else request.capability
    source, plan = Path(request.source), Path(request.plan)
    made = engine_from_onnx(trt, source, plan, place, BuildOptions(request.tf32))
    card = made.card_of(plan, source, request.calibration)
    write_card(card, plan)
    return card


def installed_runner(name: str) -> tuple[OpenRunner, Profiler | None]:
    """That of edgepress itself; raises InputError where there is none."""
    kind = runner_kind(name, Device.CUDA)
    return kind.open, kind.profiler


class Worker:
    """Answers questions, one after the other.

    Args:
        build: Builds an engine.
        openers: Give what opens it.
        clock: Of the host.
        moment: What the GPU does now.
        around: What is installed.
    """

    def __init__(
        self,
        build: BuildEngine = build_engine,
        openers: Openers = installed_runner,
        clock: Clock = time.perf_counter_ns,
        moment: Callable[[], GpuMoment] = moment_of_first,
        around: Callable[[], Around] | None = None,
    ) -> None:
        self._build, self._openers, self._clock, self._moment = build, openers, clock, moment
        self._methods: dict[str, tuple[type, Callable[[Any], Around | EngineCard | Ran]]] = {
            LookAround.__name__: (LookAround, lambda _: (around or around_here)()),
            Build.__name__: (Build, self._build),
            Run.__name__: (Run, self._ran),
        }

    def answered(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, or why there is none, as JSON."""
        kind, method = self._methods[value["command"]]
        try:
            return {"reply": to_json(method(from_json(kind, value["arguments"])))}
        except (MissingRuntimeError, MissingDeviceError) as error:
            return {"failure": to_json(Failure(FailureKind.MISSING, str(error)))}
        except EdgepressError as error:
            return {"failure": to_json(Failure(FailureKind.INPUT, str(error)))}

    def _ran(self, request: Run) -> Ran:
        inputs = np.load(request.inputs)
        blocks = [inputs[start : start + request.batch] for start in range(0, len(inputs), request.batch)]
        opener, profiler = self._openers(request.runner)
        plan = Path(request.plan)
        layers = () if profiler is None else profiler(plan, 0, blocks[0], _PROFILED_RUNS, plan.parent)
        start_ns = self._clock()
        with opener(plan, 0) as runner:
            load_ns = self._clock() - start_ns
            np.save(request.scores, np.concatenate([runner.infer(block) for block in blocks]))
            repeat(lambda: runner.infer(blocks[0]), Extent(request.warm_up_ns, 1), self._clock)
            before = self._moment()
            extent = Extent(request.duration_ns, request.count)
            end_to_end_ns = repeat(lambda: runner.infer(blocks[0]), extent, self._clock)
            if not isinstance(runner, OnGpu):
                raise TypeError(f"{request.runner} cannot ask the GPU for its times")
            times = runner.device_times(blocks[0], len(end_to_end_ns))
            after = self._moment()
            memory = runner.device_memory()
            return Ran(
                runner.evidence,
                load_ns,
                end_to_end_ns,
                tuple(each.upload_ns for each in times),
                tuple(each.compute_ns for each in times),
                tuple(each.download_ns for each in times),
                memory.activation_bytes,
                memory.taken_bytes,
                before,
                after,
                layers,
                runner.inspector_report() if isinstance(runner, Inspectable) else None,
            )


def around_here() -> Around:
    """What this interpreter's environment has."""
    return Around(
        platform.python_version(), _version_of("tensorrt"), _version_of("tensorrt_rtx"), _cuda_python()
    )


def _version_of(package: str) -> str | None:
    try:
        return str(importlib.import_module(package).__version__)
    except ImportError:
        return None


def _cuda_python() -> str | None:
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    return None


def main() -> None:
    """Answer until stdin ends. What a library prints is no answer: see `benchmark.worker`."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        worker = Worker()
        for line in sys.stdin:
            replies.write(json.dumps(worker.answered(json.loads(line))) + "\n")
            replies.flush()


if __name__ == "__main__":
    main()
