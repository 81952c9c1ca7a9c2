"""Two files of the same network, timed in turn: each has a process, stopped while the other one runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from edgepress.machine import usable_cores
from edgepress.metrics import grouped_ci95, resampled_medians

_RESTARTS = 3
_PAIRS = 8
_WARM_UP_MS = 1000
_BLOCK_MS = 500
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3"}

_LOOP = """
for line in sys.stdin:
    end = time.perf_counter() + float(line) / 1000
    samples = []
    while time.perf_counter() < end or len(samples) < 3:
        start = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - start)
    print(*samples, flush=True)
"""
_HEAD = """
import sys, time
import numpy as np
path, images, threads = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
"""


class Engine(Enum):
    """Runs a file, with no edgepress in it."""

    ONNXRUNTIME = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
run = lambda: session.run(None, {name: images})
"""
    OPENVINO = """
import openvino
core = openvino.Core()
options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
request = core.compile_model(path, "CPU", options).create_infer_request()
run = lambda: request.infer([images])
"""
    LITERT = """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(path, num_threads=threads)
interpreter.allocate_tensors()
taken = interpreter.get_input_details()[0]
interpreter.set_tensor(taken["index"], images.astype(taken["dtype"]))
run = interpreter.invoke
"""


@dataclass(frozen=True)
class Version:
    """A file, and what runs it."""

    path: Path
    engine: Engine


@dataclass(frozen=True)
class Ratio:
    """How much faster a version is than another one.

    Attributes:
        ours_ms: Median latency of the first.
        theirs_ms: Median latency of the second.
        median: Of their latency over ours in neighbouring blocks: above 1, ours is faster.
        low: Lower end of the 95 % interval of `median`.
        high: Upper end.
    """

    ours_ms: float
    theirs_ms: float
    median: float
    low: float
    high: float


def ratio(ours: Version, theirs: Version, inputs: Path) -> Ratio:
    """Time two versions block by block, in fresh processes three times.

    Args:
        ours: The one that is judged.
        theirs: The one beside it.
        inputs: A .npy file with one input, (1, h, w, 3) float32.
    """
    found = np.empty((_RESTARTS, _PAIRS, 2))
    for restart in range(_RESTARTS):
        with bare_loop(ours, inputs) as first, bare_loop(theirs, inputs) as second:
            for loop in (first, second):
                loop.median_ms(_WARM_UP_MS)
            for pair in range(_PAIRS):
                for place in (0, 1) if pair % 2 == 0 else (1, 0):
                    found[restart, pair, place] = (first, second)[place].median_ms(_BLOCK_MS)
    ratios = found[..., 1] / found[..., 0]
    draws = resampled_medians(ratios.ravel(), [_PAIRS] * _RESTARTS, 0)
    low, high = grouped_ci95(draws, _RESTARTS)
    ours_ms, theirs_ms = np.median(found, axis=(0, 1))
    return Ratio(float(ours_ms), float(theirs_ms), float(np.median(ratios)), low, high)


class Loop:
    """A process that runs a file, and is stopped between its turns."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def median_ms(self, duration_ms: int) -> float:
        """Median latency over so much time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.stdin.write(f"{duration_ms}\n")
        self._process.stdin.flush()
        samples = [int(word) for word in self._process.stdout.readline().split()]
        os.kill(self._process.pid, signal.SIGSTOP)
        return float(np.median(samples)) / 1e6


@contextmanager
def bare_loop(version: Version, inputs: Path) -> Iterator[Loop]:
    """What a reader would write to time a file, on all cores; `inputs` is a .npy file with one input."""
    code = f"{_HEAD}{version.engine.value}{_LOOP}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, version.path, inputs, str(usable_cores())],
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Loop(process)
    finally:
        process.kill()
        process.communicate()
