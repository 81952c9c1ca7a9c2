"""Runs a SavedModel with TensorFlow, on the CPU or on a CUDA device."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format, Runtime
from edgepress.errors import InputError, MissingDeviceError, MissingRuntimeError
from edgepress.interface import Scores
from edgepress.runners.runner import LayerTime, OpenRunner, RunnerKind, head_among
from edgepress.runners.tensorflow_profile import layer_times

_SIGNATURE = "serve"
_HEADS = tuple(scores.value for scores in Scores)


def on_cpu(path: Path, threads: int) -> "TensorFlowRunner":
    """A runner on the CPU, GPUs hidden. Nothing is loaded yet.

    TensorFlow fixes its threads when it first computes in a process: 0 threads takes what is there.
    """
    return TensorFlowRunner(path, threads, Device.CPU)


def on_cuda(path: Path, threads: int) -> "TensorFlowRunner":
    """A runner on the first CUDA device, TF32 off. Nothing is loaded yet."""
    return TensorFlowRunner(path, threads, Device.CUDA)


def on_cuda_with_tf32(path: Path, threads: int) -> "TensorFlowRunner":
    """A runner on the first CUDA device as TensorFlow comes: FP32 is multiplied in TF32, with 10 bits of it.

    Only where it is asked for: `--runner tensorflow-tf32`.
    """
    return TensorFlowRunner(path, threads, Device.CUDA, Tf32.ON)


def profile_on_cpu(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each node on the CPU (see `Profiler`)."""
    del scratch  # the trace stays in memory
    with on_cpu(path, threads) as runner:
        import tensorflow
    return layer_times(tensorflow, path, threads, (_SIGNATURE, runner.head), image, runs)


class Tf32(Enum):
    """Whether a GPU may round the operands of FP32 products to 10 bits; the value is evidence."""

    ON = "TF32 on"
    OFF = "TF32 off"


class TensorFlowRunner:
    """The `serve` signature of one SavedModel folder.

    Attributes:
        head: Name of the output that holds the scores of the classes.
        evidence: The device that holds the result, the threads, and on CUDA whether TF32 is on.
    """

    def __init__(self, path: Path, threads: int, device: Device, tf32: Tf32 = Tf32.OFF) -> None:
        self.evidence = ""
        self._path = path
        self._threads = threads
        self._device = device
        self._tf32 = tf32
        self._tensorflow: Any = None
        self._model: Any = None  # the signature does not keep its variables alive
        self.head = ""
        self._serve: Any = None
        self._input = ""

    def __enter__(self) -> "TensorFlowRunner":
        """Load the folder.

        Raises:
            MissingRuntimeError: tensorflow is not installed.
            MissingDeviceError: TensorFlow sees no CUDA device.
            InputError: The folder is missing or damaged, has no `serve` signature, or TensorFlow
                computed in this process before with other threads.
        """
        try:
            import tensorflow
        except ImportError as error:
            raise MissingRuntimeError("tensorflow", "keras") from error
        self._tensorflow = tensorflow
        self._set_threads(tensorflow)
        where = self._set_device(tensorflow)
        with tensorflow.device(where):
            self._model = self._load(tensorflow)
        self._serve = self._model.signatures.get(_SIGNATURE)
        outputs = self._serve.structured_outputs if self._serve is not None else {}
        self.head = head_among(outputs) or ""
        if self._serve is None or not self.head:
            raise InputError(
                f"{self._path} has no signature `{_SIGNATURE}` with an output {' or '.join(_HEADS)}. "
                "Export the model anew."
            )
        self._input = next(iter(self._serve.structured_input_signature[1]))
        used = tensorflow.config.threading.get_intra_op_parallelism_threads()
        precision = f", {self._tf32.value}" if self._device is Device.CUDA else ""
        self.evidence = f"{where}, {used or 'default'} threads{precision}"
        return self

    def _set_threads(self, tensorflow: ModuleType) -> None:
        threading = tensorflow.config.threading
        if self._threads == 0 or threading.get_intra_op_parallelism_threads() == self._threads:
            return
        try:
            threading.set_intra_op_parallelism_threads(self._threads)
            threading.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:
            raise InputError(
                f"TensorFlow runs in this process already, and cannot change to {self._threads} threads. "
                "Open the runner in a fresh process, or with 0 threads."
            ) from error

    def _set_device(self, tensorflow: ModuleType) -> str:
        if self._device is Device.CPU:
            if tensorflow.config.get_visible_devices("GPU"):
                _hide_gpus(tensorflow)
            return "/CPU:0"
        gpus = tensorflow.config.list_physical_devices("GPU")
        if not gpus:
            raise MissingDeviceError(
                "TensorFlow sees no CUDA device here. Check the driver, or use --device cpu."
            )
        tensorflow.config.experimental.enable_tensor_float_32_execution(self._tf32 is Tf32.ON)
        _take_memory_as_needed(tensorflow, gpus)
        return "/GPU:0"

    def _load(self, tensorflow: ModuleType) -> Any:
        if not self._path.is_dir():
            raise InputError(f"No SavedModel folder at {self._path}. Check the path.")
        try:
            return tensorflow.saved_model.load(str(self._path))
        except (OSError, ValueError, KeyError, tensorflow.errors.OpError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"TensorFlow cannot load {self._path}: {reason}. Export the model anew."
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._serve = None
        self._model = None

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32 → (N, classes) float32 logits."""
        values = {self._input: self._tensorflow.constant(images)}
        logits = self._serve(**values)[self.head]
        if self._device is Device.CUDA and "GPU" not in logits.device:
            raise InputError(
                f"TensorFlow ran {self._path} on {logits.device}, wanted a GPU. "
                "Check its CUDA libraries (edgepress doctor), or use --device cpu."
            )
        return np.array(logits.numpy(), np.float32)

    def outputs(self, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The input of `infer` → every output by name (see `NamedOutputs`)."""
        found = self._serve(**{self._input: self._tensorflow.constant(images)})
        return {name: np.array(value.numpy()) for name, value in found.items()}


def _take_memory_as_needed(tensorflow: ModuleType, gpus: list[Any]) -> None:
    """Else TensorFlow takes all memory there is, and none is left for the process beside it."""
    try:
        for gpu in gpus:
            tensorflow.config.experimental.set_memory_growth(gpu, True)  # noqa: FBT003
    except RuntimeError as error:
        raise InputError(
            "TensorFlow uses the GPU in this process already, with all of its memory. "
            "Open the runner in a fresh process."
        ) from error


def _hide_gpus(tensorflow: ModuleType) -> None:
    try:
        tensorflow.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        raise InputError(
            "TensorFlow uses the GPU in this process already. Open the CPU runner in a fresh process."
        ) from error


def _kind(name: str, device: Device, opener: OpenRunner, place: str, title: str, **more: Any) -> RunnerKind:
    return RunnerKind(
        name=name,
        device=device,
        formats=(Format.SAVED_MODEL,),
        package="tensorflow",
        distribution="tensorflow",
        extra="keras" if device is Device.CPU else "gpu-tf",
        open=opener,
        places=(place,),
        title=title,
        **more,
    )


_NAME, _TITLE = Runtime.TENSORFLOW.value, "TensorFlow"
# The trace times the launch of a kernel on a GPU, so there is no profiler there.
RUNNERS = (
    _kind(_NAME, Device.CPU, on_cpu, "/CPU:0", _TITLE, rank=10, profiler=profile_on_cpu),
    _kind(_NAME, Device.CUDA, on_cuda, "/GPU:0", _TITLE, rank=10),
    _kind(f"{_NAME}-tf32", Device.CUDA, on_cuda_with_tf32, "/GPU:0", f"{_TITLE} with TF32", rank=60),
)
