"""Runs a TFLite file with LiteRT on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Format, Runtime
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.runners.litert_profile import layer_times
from edgepress.runners.runner import LayerTime, RunnerKind, head_among

DEFAULT_RESOLVER = "AUTO"


def on_cpu(path: Path, threads: int) -> "LiteRtRunner":
    """A runner on the CPU. Nothing is loaded yet; 0 threads leaves the number to LiteRT."""
    return LiteRtRunner(path, threads)


def profile_on_cpu(
    path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
) -> tuple[LayerTime, ...]:
    """The time of each node on the CPU (see `Profiler`), with the kernels and threads of `on_cpu`."""
    del scratch  # the profiler keeps its events in memory
    with on_cpu(path, threads) as runner:
        stored = runner.stored(image)
    return layer_times(path, threads, stored, runs)


class LiteRtRunner:
    """One TFLite file in LiteRT's interpreter. Its batch is fixed: more images are run in blocks of it.

    Args:
        path: The file.
        threads: 0 leaves the number to LiteRT.
        resolver: Name of the ai_edge_litert.interpreter.OpResolverType: which kernels there are.

    Attributes:
        evidence: "XNNPACK delegate, N partitions", or "reference kernels" where it took no part.
    """

    def __init__(self, path: Path, threads: int, resolver: str = DEFAULT_RESOLVER) -> None:
        self.evidence = ""
        self._path = path
        self._threads = threads
        self._resolver = resolver
        self._interpreter: Any = None
        self._input: dict[str, Any] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._head = ""

    def __enter__(self) -> "LiteRtRunner":
        """Load the file and let XNNPACK pack its weights.

        Raises:
            MissingRuntimeError: ai-edge-litert is not installed.
            InputError: The file is missing or damaged.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise MissingRuntimeError("ai-edge-litert", "litert") from error
        try:
            interpreter = Interpreter(
                model_path=str(self._path),
                num_threads=self._threads or None,
                experimental_op_resolver_type=OpResolverType[self._resolver],
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"LiteRT cannot load {self._path}: {reason}. Make the file anew.") from error
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._outputs = _outputs_by_name(interpreter)
        self._head = head_among(self._outputs) or next(iter(self._outputs))
        # The interpreter has no public way to ask which delegate took part.
        operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
        partitions = operators.count("DELEGATE")
        self.evidence = f"XNNPACK delegate, {partitions} partitions" if partitions else "reference kernels"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._interpreter = None

    def infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """(N, height, width, 3) preprocessed float32, or uint8 RGB where the file takes it → (N, classes)."""
        return self._found(images, [self._head])[self._head]

    def outputs(self, images: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The input of `infer` → every output by name (see `NamedOutputs`)."""
        return self._found(images, list(self._outputs))

    def stored(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """(1, height, width, 3) preprocessed float32 as the file stores it."""
        return quantized(image, self._input)

    def _found(self, images: NDArray[Any], names: list[str]) -> dict[str, NDArray[Any]]:
        batch = int(self._input["shape"][0])
        blocks = [self._infer_block(images[i : i + batch], names) for i in range(0, len(images), batch)]
        return {name: np.concatenate([block[i] for block in blocks]) for i, name in enumerate(names)}

    def _infer_block(self, images: NDArray[Any], names: list[str]) -> list[NDArray[Any]]:
        """At most a batch of images; a smaller one is filled up with its last image."""
        missing = int(self._input["shape"][0]) - len(images)
        block = np.concatenate([images, *[images[-1:]] * missing]) if missing else images
        self._interpreter.set_tensor(self._input["index"], self.stored(block))
        self._interpreter.invoke()
        found = [
            (self._outputs[name], self._interpreter.get_tensor(self._outputs[name]["index"]))
            for name in names
        ]
        return [dequantized(stored[: len(images)], tensor) for tensor, stored in found]


def _outputs_by_name(interpreter: Any) -> dict[str, dict[str, Any]]:
    """Descriptions of the outputs by the names of the first signature; of the tensors, if it has none."""
    if interpreter.get_signature_list():
        return dict(
            interpreter.get_signature_runner(
                next(iter(interpreter.get_signature_list()))
            ).get_output_details()
        )
    return {tensor["name"]: tensor for tensor in interpreter.get_output_details()}


def quantized(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[Any]:
    """Float values as `tensor` (a LiteRT tensor description) stores them: rounded half to even, clipped.

    What is stored without a quantization (float32, RGB pixels) is given in that dtype already.
    """
    dtype = np.dtype(tensor["dtype"])
    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return values
    limits = np.iinfo(dtype)
    stored = np.rint(values / np.float32(scale)) + np.float32(zero_point)
    clipped: NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(dtype)
    return clipped


def dequantized(stored: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    """The float32 values behind the stored values of `tensor`: scale * (stored - zero_point).

    What is stored without a quantization stays as it is.
    """
    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return np.asarray(stored)
    values: NDArray[np.float32] = (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return values


RUNNERS = (
    RunnerKind(
        Runtime.LITERT.value,
        Device.CPU,
        (Format.TFLITE,),
        "ai_edge_litert.interpreter",
        "ai-edge-litert",
        "litert",
        on_cpu,
        profiler=profile_on_cpu,
        rank=30,
        title="LiteRT",
    ),
)
