"""Runs a plan with TensorRT 10 or 11, or with TensorRT-RTX, on a CUDA device."""

import logging
import re
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format, Runtime
from edgepress.cuda.resources import Stream, stream
from edgepress.cuda.runtime import Cuda, cuda_module
from edgepress.engine_card import EnginePlace, read_card, require_runs_here
from edgepress.errors import InputError
from edgepress.inspection.inspection_engine import EngineLayer, engine_report, report_text
from edgepress.local_gpu import LocalGpu, system_name
from edgepress.runners.runner import (
    DeviceMemoryUse,
    DeviceTime,
    LayerTime,
    OpenRunner,
    Profiler,
    RunnerKind,
)
from edgepress.runners.tensorrt_binding import Binding, Launch, bound, four_stamps
from edgepress.runners.tensorrt_plan import Plan
from edgepress.tensorrt_flavour import facts_for, facts_of, flavour_of, imported_for

logger = logging.getLogger(__name__)

PLACE = "TensorRT"
_TF32 = "TF32"  # trt.BuilderFlag
_WARM_UPS = 3
_NS_PER_MS = 1_000_000


Modules = Callable[[], tuple[Any, Any]]
"""Gives TensorRT's module and that of CUDA's runtime API; tests give fakes."""


def modules_of(runtime: Runtime) -> Modules:
    """The installed ones.

    Raises (when called):
        MissingRuntimeError: One of them is not installed.
        InputError: TensorRT is installed and cannot be loaded.
    """
    return lambda: (imported_for(runtime), cuda_module())


def on_tensorrt(path: Path, threads: int) -> "TensorRtRunner":
    """A runner with TensorRT. Nothing is loaded yet; the threads do not matter."""
    del threads
    return TensorRtRunner(path, modules_of(Runtime.TENSORRT))


def on_tensorrt_rtx(path: Path, threads: int) -> "TensorRtRunner":
    """A runner with TensorRT-RTX. Nothing is loaded yet; the threads do not matter."""
    del threads
    return TensorRtRunner(path, modules_of(Runtime.TENSORRT_RTX))


def profile_tensorrt(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each layer in TensorRT (see `Profiler`)."""
    del scratch  # TensorRT tells each time as it comes
    with on_tensorrt(path, threads) as runner:
        return runner.layer_times(image, runs)


def profile_tensorrt_rtx(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each layer in TensorRT-RTX (see `Profiler`)."""
    del scratch
    with on_tensorrt_rtx(path, threads) as runner:
        return runner.layer_times(image, runs)


class TensorRtRunner:
    """One plan on the first CUDA device, with a stream of its own.

    Attributes:
        evidence: TensorRT's version, the GPU, whether TF32 may be used, and how the layers are launched.
    """

    def __init__(self, path: Path, modules: Modules, launch: Launch = Launch.QUEUED) -> None:
        self.evidence = ""
        self._path = path
        self._modules = modules
        self._launch = launch
        self._resources = ExitStack()
        self._buffers = ExitStack()
        self._trt: Any = None
        self._free_bytes = 0
        self._binding: Binding | None = None

    def __enter__(self) -> "TensorRtRunner":
        """Check the plan's card, load the plan, and take memory for its smallest batch.

        Raises:
            MissingRuntimeError: TensorRT or cuda-python is not installed.
            MissingDeviceError: There is no driver, one that is too old, or no GPU.
            InputError: The plan is missing or damaged, cannot run here, or has a batch that is not asked for.
            DeviceFaultError: The GPU has too little memory, or fails.
        """
        trt, runtime_module = self._modules()
        self._trt = trt
        self._cuda = Cuda(runtime_module)
        self._cuda.require_device()
        content = self._checked_content()
        with ExitStack() as stack:
            self._stream: Stream = stack.enter_context(stream(self._cuda))
            self._free_bytes = self._cuda.memory().free_bytes
            self._plan = Plan(trt, self._cuda, self._path, content)
            stack.callback(self._plan.close)
            stack.push(self._release_buffers)
            binding = self._bound_to(self._plan.batches()[0])
            self.evidence = self._told(binding)
            self._resources = stack.pop_all()
        return self

    def _checked_content(self) -> bytes:
        """The plan, once its card says that it is whole and can run here: TensorRT sees no other."""
        device = self._cuda.device()
        gpu = LocalGpu(device.name, device.compute_capability, None)
        here = EnginePlace(flavour_of(self._trt), str(self._trt.__version__), system_name(), gpu)
        self._card = read_card(self._path)
        require_runs_here(self._card, self._path, here)
        return self._path.read_bytes()

    def _told(self, binding: Binding) -> str:
        device = self._cuda.device()
        how = f"{self._launch.value}, one stream"
        if self._launch is Launch.GRAPH:
            note = binding.graph_note
            how = "CUDA graph, one stream" if note is None else f"no CUDA graph ({note}), one stream"
        version = f"{facts_of(self._trt).title} ({self._trt.__version__})"
        tf32 = "on" if _TF32 in self._card.flags else "off"
        return f"{version}, {device.name} ({device.compute_capability}), TF32 {tf32}, {how}"

    def _bound_to(self, batch: int) -> Binding:
        """The memory for a batch; taken anew where it was for another one."""
        if self._binding is None or self._binding.batch != batch:
            self._binding = None  # what is given back must not be used, whatever happens next
            self._buffers.close()
            with ExitStack() as stack:
                made = stack.enter_context(bound(self._cuda, self._plan, self._stream, batch, self._launch))
                self._buffers = stack.pop_all()
            self._binding = made
        return self._binding

    def _release_buffers(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._binding = None
        self._buffers.__exit__(kind, error, trace)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits.

        Raises:
            InputError: The plan does not take so many, or pictures of this size.
            DeviceFaultError: TensorRT or the GPU failed.
        """
        (scores,) = self._fit(images).run(images, (self._plan.head,))
        return scores.astype(np.float32, copy=False)

    def _fit(self, images: NDArray[Any]) -> Binding:
        wanted = self._plan.input.shape[1:]
        if images.shape[1:] != wanted:
            raise InputError(
                f"{self._path} takes pictures of shape {wanted}, got {images.shape[1:]}. "
                "Prepare them as the manifest says."
            )
        return self._bound_to(len(images))

    def outputs(self, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The input of `infer` → every output by name (see `NamedOutputs`)."""
        names = tuple(output.name for output in self._plan.outputs)
        return dict(zip(names, self._fit(images).run(images, names), strict=True))

    def device_times(self, images: NDArray[np.float32], runs: int) -> tuple[DeviceTime, ...]:
        """Each of so many inferences by the GPU's clock (see `OnGpu`).

        Raises:
            InputError: See `infer`.
            DeviceFaultError: See `infer`.
        """
        binding = self._fit(images)
        binding.run(images, (self._plan.head,))
        with four_stamps(self._cuda) as stamps:
            return tuple(binding.timed(self._plan.head, stamps) for _ in range(runs))

    def device_memory(self) -> DeviceMemoryUse:
        """What the plan takes now (see `OnGpu`).

        Raises:
            DeviceFaultError: The GPU does not tell.
        """
        taken_bytes = self._free_bytes - self._cuda.memory().free_bytes
        return DeviceMemoryUse(self._plan.activation_bytes(), taken_bytes)

    def layer_times(self, images: NDArray[np.float32], runs: int) -> tuple[LayerTime, ...]:
        """The median time of each layer over so many inferences, after a few that do not count.

        With a profiler TensorRT waits for each inference at once, so nothing else is timed meanwhile. A
        layer's kind and precision are those of the inspector's report, as far as the plan has them.

        Raises:
            InputError: See `infer`.
            DeviceFaultError: See `infer`.
        """
        self.infer(images)
        found: dict[str, list[float]] = {}
        self._plan.context.profiler = _profiler_of(self._trt, found)
        for _ in range(_WARM_UPS + runs):
            self.infer(images)
        known = self._layers()
        return tuple(
            LayerTime(
                name,
                (known[name].kind if name in known else "") or _operator_in(name),
                PLACE,
                known[name].precision if name in known else None,
                statistics.median(times[-runs:]) * _NS_PER_MS,
            )
            for name, times in found.items()
        )

    def inspector_report(self) -> str:
        """What TensorRT's inspector says of the engine (see `Inspectable`)."""
        return report_text(self._trt, self._plan.engine, self._plan.context)

    def _layers(self) -> Mapping[str, EngineLayer]:
        """What the inspector says of each layer, by its name; nothing where its report cannot be read."""
        try:
            return {layer.name: layer for layer in engine_report(self.inspector_report(), ()).layers}
        except InputError as error:
            logger.info("%s: %s", self._path, error)
            return {}


def _profiler_of(trt: Any, found: dict[str, list[float]]) -> Any:
    class Times(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            found.setdefault(layer_name, []).append(ms)

    return Times()


def _operator_in(name: str) -> str:
    """What a layer's name says of it, e.g. "Reformatting CopyNode for …" → "Reformatting CopyNode"."""
    return re.split(r" for |[/:+(]", name.strip(), maxsplit=1)[0].strip() or name


def _kind(runtime: Runtime, title: str, opener: OpenRunner, profiler: Profiler, rank: int) -> RunnerKind:
    facts = facts_for(runtime)
    return RunnerKind(
        name=runtime.value,
        device=Device.CUDA,
        formats=(Format.ENGINE,),
        package=facts.module,
        distribution=facts.distribution,
        extra=facts.extra,
        open=opener,
        places=(PLACE,),
        profiler=profiler,
        rank=rank,
        title=title,
    )


RUNNERS = (
    _kind(Runtime.TENSORRT, "TensorRT", on_tensorrt, profile_tensorrt, 50),
    _kind(Runtime.TENSORRT_RTX, "TensorRT-RTX", on_tensorrt_rtx, profile_tensorrt_rtx, 51),
)
