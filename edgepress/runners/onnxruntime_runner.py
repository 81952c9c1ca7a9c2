"""Runs an ONNX file with ONNX Runtime: on the CPU, with CUDA or with its TensorRT provider."""

import os
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format, Precision, Runtime, onnx_graph_of
from edgepress.errors import InputError, MissingDeviceError, MissingRuntimeError
from edgepress.inspection.onnx_places import stored_precisions
from edgepress.runners.onnxruntime_profile import layer_times
from edgepress.runners.runner import LayerTime, OpenRunner, Purpose, RunnerKind, head_among

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_GPU = "cuda"  # OrtDevice
_TENSORRT = "TensorrtExecutionProvider"
_ON_GPU = frozenset({_CUDA, _TENSORRT})
_NO_TF32 = {"use_tf32": "0"}
_TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"  # read by TensorRT, cuBLAS and cuDNN when they are loaded
_ONLY_FATAL = 4
_WARM_UPS = 3
# Of a node that is left for the CPU; and of ONNX Runtime's own retry with the CPU, if a provider fails.
_REFUSED_FALLBACKS = (
    "fallback to CPU EP has been explicitly disabled",
    "explicitly added the CPU EP to the session",
)


def on_cpu(path: Path, threads: int) -> "OnnxRuntimeRunner":
    """A runner on the CPU. Nothing is loaded yet; 0 threads leaves the number to ONNX Runtime."""
    return OnnxRuntimeRunner(path, threads, [(_CPU, {})])


def emulation_on_cpu(path: Path, threads: int) -> "OnnxRuntimeRunner":
    """A runner on the CPU that computes every Q/DQ pair exactly where the file has it, in float.

    For the accuracy of a graph that was made for TensorRT. By default ONNX Runtime moves Q/DQ nodes
    through the graph for the sake of its own INT8 kernels: full VGG16 with random weights then lies 31 dB
    from the unoptimized graph, and 125 dB with these settings.
    """
    return OnnxRuntimeRunner(path, threads, [(_CPU, {})], Graph.AS_WRITTEN)


def on_cuda(path: Path, threads: int) -> "OnnxRuntimeRunner":
    """A runner with the CUDA provider, TF32 off: what it cannot place on the GPU is an error."""
    return OnnxRuntimeRunner(path, threads, [(_CUDA, _NO_TF32)])


def on_tensorrt(path: Path, threads: int) -> "OnnxRuntimeRunner":
    """A runner with the TensorRT provider, TF32 off: what it cannot place on the GPU is an error.

    The provider builds networks that are not strongly typed: it is told to use FP16 and INT8 where the file
    does, and nowhere else. Building takes minutes, and counts as loading.
    """
    return OnnxRuntimeRunner(path, threads, [(_TENSORRT, {}), (_CUDA, _NO_TF32)])


def profile_on_cpu(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each node on the CPU (see `Profiler`), in a session with the settings of `on_cpu`."""
    return on_cpu(path, threads).profiled(image, runs, scratch)


class Graph(Enum):
    """What ONNX Runtime may do to the graph before it runs it."""

    OPTIMIZED = "optimized"
    AS_WRITTEN = "as written"  # weights may be dequantized ahead, but no Q/DQ node moves


class OnnxRuntimeRunner:
    """One ONNX file in an ONNX Runtime session.

    Attributes:
        evidence: The providers of the open session, the first being the one that was asked for; on a GPU
            also where input and scores are, and that TF32 is off.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        providers: list[tuple[str, dict[str, str]]],
        graph: Graph = Graph.OPTIMIZED,
    ) -> None:
        self.evidence = ""
        self._path = path
        self._threads = threads
        self._providers = providers
        self._graph = graph
        self._trace: Path | None = None
        self._session: Any = None
        self._input = ""
        self._head: list[str] = []
        self._names: list[str] = []
        self._bound: BoundSession | None = None

    @property
    def _is_on_cpu(self) -> bool:
        return self._providers[0][0] == _CPU

    def __enter__(self) -> "OnnxRuntimeRunner":
        """Load the file and optimize its graph.

        Raises:
            MissingRuntimeError: onnxruntime is not installed.
            MissingDeviceError: This build of ONNX Runtime has not got the wanted provider.
            InputError: The file is missing or damaged, or the wanted provider does not run all of it.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingRuntimeError("onnxruntime", "onnxruntime") from error
        wanted = self._providers[0][0]
        available = onnxruntime.get_available_providers()
        if wanted not in available:
            raise MissingDeviceError(
                f"This ONNX Runtime has no {wanted} (it has {', '.join(available)}). "
                "Install the onnxruntime build for this device."
            )
        self._session = self._open(onnxruntime)
        active = self._session.get_providers()
        if active[0] != wanted:
            self._session = None
            raise InputError(
                f"ONNX Runtime fell back to {active[0]} for {self._path}, wanted {wanted}. "
                "Check the driver and the libraries of this provider."
            )
        self.evidence = ", ".join(active)
        self._names = [output.name for output in self._session.get_outputs()]
        self._head = [head_among(self._names) or self._names[0]]
        self._input = self._session.get_inputs()[0].name
        if wanted in _ON_GPU:
            self._bound = BoundSession(onnxruntime, self._session, self._input, self._head[0], _GPU)
            self.evidence += ", I/O bound to the GPU, TF32 off"
        return self

    def _open(self, onnxruntime: ModuleType) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ONLY_FATAL
        if self._trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self._trace)
        if self._graph is Graph.AS_WRITTEN:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        providers = self._providers
        if not self._is_on_cpu:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [(name, {**more, **self._precisions_for(name)}) for name, more in providers]
        path = str(onnx_graph_of(self._path))
        try:
            return onnxruntime.InferenceSession(path, options, providers=providers)
        except _load_errors() as error:
            reason = " ".join(str(error).split())
            if any(text in reason for text in _REFUSED_FALLBACKS):
                raise InputError(
                    f"{self._providers[0][0]} cannot run all of {self._path}, and the CPU may not help out: "
                    "its time would count as this device's. Check the driver and the provider's libraries."
                ) from error
            raise InputError(
                f"ONNX Runtime cannot load {self._path}: {reason}. Make the file anew."
            ) from error

    def _precisions_for(self, provider: str) -> dict[str, str]:
        """Options of the TensorRT provider: those precisions that the file itself has; none of the others."""
        if provider != _TENSORRT:
            return {}
        os.environ[_TF32_OVERRIDE] = "0"  # the provider has no option for it
        found = stored_precisions(onnx_graph_of(self._path))
        options = {Precision.FP16: "trt_fp16_enable", Precision.INT8: "trt_int8_enable"}
        return {option: "1" for precision, option in options.items() if precision in found}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bound = None
        self._session = None

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits."""
        if self._bound is not None:
            return self._bound.infer(images)
        logits = self._session.run(self._head, {self._input: images})[0]
        return np.asarray(logits, np.float32)

    def outputs(self, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The input of `infer` → every output by name (see `NamedOutputs`)."""
        found = self._session.run(self._names, {self._input: images})
        return dict(zip(self._names, found, strict=True))

    def profiled(self, image: NDArray[np.float32], runs: int, scratch: Path) -> tuple[LayerTime, ...]:
        """Open the file with ONNX Runtime's profiler on, run it, and close it again.

        Its trace is written to `scratch`, and removed. On a GPU it would hold when a kernel was launched, not
        how long it ran, so only the CPU's runner offers it.

        Args:
            image: (1, height, width, 3) preprocessed float32.
            runs: Inferences that count, after a few that do not.
            scratch: A folder.

        Raises:
            MissingRuntimeError: onnxruntime is not installed.
            MissingDeviceError: See `__enter__`.
            InputError: See `__enter__`.
        """
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            self._trace = Path(folder) / "onnxruntime"
            try:
                with self:
                    for _ in range(_WARM_UPS + runs):
                        self.infer(image)
                    return layer_times(Path(self._session.end_profiling()), runs)
            finally:
                self._trace = None


class BoundSession:
    """A session whose input and scores stay on a device: each inference copies once each way."""

    def __init__(self, onnxruntime: Any, session: Any, source: str, head: str, device: str) -> None:
        self._onnxruntime = onnxruntime
        self._session = session
        self._source = source
        self._head = head
        self._device = device
        self._held: Any = None  # OrtValue of the input
        self._binding: Any = None

    def infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Input → scores, the caller's own copy, once they are here."""
        images = np.ascontiguousarray(images)
        if self._held is None or tuple(self._held.shape()) != images.shape:
            self._bind(images)
        else:
            self._held.update_inplace(images)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return np.array(self._binding.copy_outputs_to_cpu()[0], np.float32)

    def _bind(self, images: NDArray[Any]) -> None:
        # On a CPU the value would be the caller's own array.
        self._held = self._onnxruntime.OrtValue.ortvalue_from_numpy(images.copy(), self._device, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._source, self._held)
        self._binding.bind_output(self._head, self._device, 0)


def _load_errors() -> tuple[type[Exception], ...]:
    """What a session raises for a file that it cannot take. They share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


_TITLES = {
    Runtime.ONNXRUNTIME: "ONNX Runtime",
    Runtime.ONNXRUNTIME_EMULATION: "ONNX Runtime emulating TensorRT",
    Runtime.ONNXRUNTIME_CUDA: "ONNX Runtime with CUDA",
    Runtime.ONNXRUNTIME_TENSORRT: "ONNX Runtime with TensorRT",
}


def _kind(runtime: Runtime, device: Device, opener: OpenRunner, *places: str, **more: Any) -> RunnerKind:
    return RunnerKind(
        name=runtime.value,
        device=device,
        formats=(Format.ONNX,),
        package="onnxruntime",
        distribution="onnxruntime" if device is Device.CPU else "onnxruntime-gpu",
        extra="onnxruntime" if device is Device.CPU else "gpu-ort",
        open=opener,
        places=places,
        title=_TITLES[runtime],
        **more,
    )


RUNNERS = (
    _kind(Runtime.ONNXRUNTIME, Device.CPU, on_cpu, _CPU, rank=20, profiler=profile_on_cpu),
    _kind(
        Runtime.ONNXRUNTIME_EMULATION, Device.CPU, emulation_on_cpu, _CPU, rank=21, purpose=Purpose.ACCURACY
    ),
    _kind(
        Runtime.ONNXRUNTIME_CUDA,
        Device.CUDA,
        on_cuda,
        _CUDA,
        rank=22,
        unfit={Precision.INT8: "ONNX Runtime's CUDA provider has no INT8 kernels: it would compute in float"},
    ),
    _kind(Runtime.ONNXRUNTIME_TENSORRT, Device.CUDA, on_tensorrt, _TENSORRT, _CUDA, rank=23),
)
