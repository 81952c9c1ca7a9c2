"""Runs an ONNX file with OpenVINO on the CPU. Only where it is asked for: `--runner openvino`."""

import contextlib
import ctypes
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format, Precision, onnx_graph_of
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.runners.runner import LayerTime, RunnerKind

_WARM_UPS = 3
_CONVERSIONS = {"Convert", "FakeQuantize"}
_PRECISIONS = {
    "f32": Precision.FP32,
    "f16": Precision.FP16,
    "i8": Precision.INT8,
    "u8": Precision.INT8,
}


def on_cpu(path: Path, threads: int) -> "OpenVinoRunner":
    """A runner on the CPU. Nothing is loaded yet; 0 threads leaves the number to OpenVINO."""
    return OpenVinoRunner(path, threads)


def profile_on_cpu(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each node on the CPU (see `Profiler`), with the settings of `on_cpu`."""
    del scratch  # OpenVINO keeps its counters in memory
    with OpenVinoRunner(path, threads, {"PERF_COUNT": True}) as runner:
        return runner.layer_times(image, runs)


class OpenVinoRunner:
    """One ONNX file, compiled for the CPU.

    Attributes:
        evidence: Device, kind of the CPU, precision of what is float in the file, threads.
    """

    def __init__(self, path: Path, threads: int, more: dict[str, Any] | None = None) -> None:
        self.evidence = ""
        self._path = path
        self._threads = threads
        self._more = more or {}
        self._request: Any = None

    def __enter__(self) -> "OpenVinoRunner":
        """Load the file and compile it.

        Raises:
            MissingRuntimeError: openvino is not installed.
            InputError: The file is missing or damaged, or OpenVINO cannot run it.
        """
        try:
            import openvino
        except ImportError as error:
            raise MissingRuntimeError("openvino", "openvino") from error
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # else a CPU with bfloat16 would compute FP32 files in that
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._threads,
            **self._more,
        }
        try:
            with _signal_stack_kept():
                compiled = openvino.Core().compile_model(str(onnx_graph_of(self._path)), "CPU", settings)
        except RuntimeError as error:
            # What stands before the last line are places in OpenVINO's sources.
            reason = str(error).strip().splitlines()[-1].strip()
            raise InputError(f"OpenVINO cannot load {self._path}: {reason}. Make the file anew.") from error
        self._request = compiled.create_infer_request()
        devices = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        self.evidence = f"{devices}, {hint}, {threads} threads"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._request = None

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits."""
        self._request.infer({0: images})
        return np.array(self._request.get_output_tensor(0).data, np.float32)

    def layer_times(self, image: NDArray[np.float32], runs: int) -> tuple[LayerTime, ...]:
        """The median time of each node over `runs` inferences, after a few that do not count.

        A node's precision is the end of what OpenVINO calls its kernel, e.g. "brgconv_avx512_f32" → FP32;
        None for a conversion.
        """
        for _ in range(_WARM_UPS):
            self.infer(image)
        durations_ns: dict[str, list[float]] = {}
        nodes: dict[str, Any] = {}
        for _ in range(runs):
            self.infer(image)
            for node in self._request.profiling_info:
                nodes[node.node_name] = node
                duration_ns = node.real_time.total_seconds() * 1e9
                durations_ns.setdefault(node.node_name, []).append(duration_ns)
        medians_ns = {name: float(statistics.median(found)) for name, found in durations_ns.items()}
        return tuple(
            LayerTime(name, node.node_type, "CPU", _precision_of(node), medians_ns[name])
            for name, node in nodes.items()
            if medians_ns[name] > 0  # else it was folded or fused away
        )


class _SignalStack(ctypes.Structure):
    """stack_t of Linux: where a thread's signal handlers run."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size_bytes", ctypes.c_size_t))


@contextlib.contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Give this thread the signal stack back that it had.

    On a CPU with AMX, OpenVINO's CPU plugin sets one of its own for the thread that loads it, and frees it in
    whatever thread lets go of the plugin. The next Ctrl-C then kills the process (seen with 2026.4).
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack, former = ctypes.CDLL(None).sigaltstack, _SignalStack()
    is_known = sigaltstack(None, ctypes.byref(former)) == 0
    try:
        yield
    finally:
        if is_known:
            sigaltstack(ctypes.byref(former), None)


def _precision_of(node: Any) -> Precision | None:
    kernel_type = node.exec_type.rpartition("_")[2].lower()
    return None if node.node_type in _CONVERSIONS else _PRECISIONS.get(kernel_type)


RUNNERS = (
    RunnerKind(
        name="openvino",
        title="OpenVINO",
        device=Device.CPU,
        formats=(Format.ONNX,),
        package="openvino",
        distribution="openvino",
        extra="openvino",
        open=on_cpu,
        places=("CPU",),
        profiler=profile_on_cpu,
        rank=40,
    ),
)
