"""A fake of the side of TensorRT that runs plans, on top of the fake CUDA. No GPU.

A plan of this fake is JSON (`plan_bytes`). Running it computes, in fake GPU memory and on the stream that it
is given: scores = mean of each picture's channels times `weights`. What a method is called
here, TensorRT calls it so, too: tests/edgepress/test_runners_tensorrt.py asks the real TensorRT-RTX.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Proof
from edgepress.engine_card import SCHEMA_VERSION as CARD_VERSION
from edgepress.engine_card import BatchRange, EngineCard, HardwareCompatibility, write_card
from edgepress.local_gpu import system_name
from edgepress.tensorrt_flavour import Flavour
from tests.fakes.fake_cuda import MIB, FakeCuda

KERNEL_NS = 50_000
LAYERS = ("conv1 + relu1", "Reformatting CopyNode for Input Tensor 0 to fc1", "fc1")
SIDE = 2  # of a picture, in pixels


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 7


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(Enum):
    ONELINE = 0
    JSON = 1


class Failure(Enum):
    """What goes wrong in TensorRT itself."""

    NONE = "none"
    NO_DRIVER = "no driver"  # the runtime's constructor gives nothing
    REFUSED = "refused"  # a plan of another version
    FULL_AT_LOAD = "full at load"
    FULL_AT_CONTEXT = "full at context"
    FULL_AT_RUN = "full at run"
    KERNEL = "kernel"  # a kernel of an inference fails
    NOT_QUEUED = "not queued"  # execute_async_v3 gives False
    NO_REPORT = "no report"  # the inspector gives nothing


@dataclass(frozen=True)
class Spec:
    """What a plan is.

    Attributes:
        weights: (3, classes).
        batches: Smallest and largest of its profile; equal ones make it a plan of a fixed batch.
        dtype: Of input and outputs.
        extra_inputs: Beside the picture.
        activation_bytes: That its context takes on the GPU.
        weight_bytes: That the engine takes there.
    """

    weights: tuple[tuple[float, ...], ...]
    batches: tuple[int, int] = (1, 1)
    dtype: str = "FLOAT"
    extra_inputs: int = 0
    activation_bytes: int = 2 * MIB
    weight_bytes: int = 4 * MIB


def plan_bytes(spec: Spec) -> bytes:
    """A plan as the fake reads it."""
    return json.dumps(spec.__dict__).encode()


def write_plan(path: Path, content: bytes, **changes: Any) -> Path:
    """A plan with its card: for TensorRT 10.3.0 and compute capability 8.6, but for `changes` of the card."""
    path.write_bytes(content)
    card = EngineCard(
        schema_version=CARD_VERSION,
        plan_sha256=hashlib.sha256(content).hexdigest(),
        plan_bytes=len(content),
        flavour=Flavour.TENSORRT_10,
        version="10.3.0",
        system=system_name(),
        capabilities=("8.6",),
        gpu=None,
        driver=None,
        hardware=HardwareCompatibility.NONE,
        flags=(),
        batch=BatchRange(1, 1, 1),
        source_sha256="0" * 64,
        calibration=None,
        build_ns=1,
        proof=Proof.INFERRED,
    )
    write_card(replace(card, **changes), path)
    return path


class Logging:
    """ILogger."""

    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class Profiling:
    """IProfiler."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class FakePlanRuntime:
    """Stands for the module `tensorrt` or `tensorrt_rtx`.

    Attributes:
        runtimes: How often a runtime was asked for.
        executions: How often an inference was.
        on_execute: Called with context and stream at each inference, before it is queued.
    """

    ILogger = Logging
    IProfiler = Profiling
    DataType = DataType
    TensorIOMode = TensorIOMode
    LayerInformationFormat = LayerInformationFormat

    def __init__(
        self, cuda: FakeCuda, failure: Failure = Failure.NONE, fail_at: int = 1, version: str = "10.3.0"
    ) -> None:
        self.cuda = cuda
        self.failure = failure
        self.fail_at = fail_at
        self.__name__ = "tensorrt"
        self.__version__ = version
        self.executions = 0
        self.runtimes = 0
        self.on_execute: Callable[[FakeContext, int], None] = lambda context, stream: None

    def Runtime(self, logger: Logging) -> "FakeRuntime":
        self.runtimes += 1
        if self.failure is Failure.NO_DRIVER:
            logger.log(Logging.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return FakeRuntime(self, logger)


class FakeRuntime:
    def __init__(self, module: FakePlanRuntime, logger: Logging) -> None:
        self._module = module
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "FakeEngine | None":
        if self._module.failure is Failure.REFUSED:
            self._logger.log(
                Logging.Severity.ERROR,
                "Error Code 1: Serialization (Serialization assertion "
                "stdVersionRead == kSERIALIZATION_VERSION failed.\nVersion tag does not match.)",
            )
            return None
        if self._module.failure is Failure.FULL_AT_LOAD:
            self._logger.log(Logging.Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 4194304)")
            return None
        return FakeEngine(self._module, self._logger, Spec(**json.loads(plan)))


class FakeEngine:
    def __init__(self, module: FakePlanRuntime, logger: Logging, spec: Spec) -> None:
        self._module = module
        self._logger = logger
        self._spec = spec
        self._inputs = ["images", *(f"extra{i}" for i in range(spec.extra_inputs))]
        self._outputs = ["aux", "logits"]
        module.cuda.reserve(spec.weight_bytes)

    def __del__(self) -> None:
        self._module.cuda.reserve(-self._spec.weight_bytes)

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    @property
    def device_memory_size_v2(self) -> int:
        return self._spec.activation_bytes

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._spec.dtype]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        smallest, largest = self._spec.batches
        batch = smallest if smallest == largest else -1
        return (batch, SIDE, SIDE, 3) if name in self._inputs else (batch, len(self._spec.weights[0]))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        smallest, largest = self._spec.batches
        return [(batch, SIDE, SIDE, 3) for batch in (smallest, smallest, largest)]

    def create_engine_inspector(self) -> "FakeInspector":
        return FakeInspector(self._module.failure is Failure.NO_REPORT)

    def create_execution_context(self) -> "FakeContext | None":
        if self._module.failure is Failure.FULL_AT_CONTEXT:
            self._logger.log(Logging.Severity.ERROR, "[defaultAllocator.cpp] Cuda Runtime (out of memory)")
            return None
        return FakeContext(self._module, self._logger, self, self._spec)


class FakeInspector:
    """Tells the first layer in detail, the others by name."""

    def __init__(self, is_broken: bool) -> None:
        self.execution_context: Any = None
        self._is_broken = is_broken

    def get_engine_information(self, layer_information_format: LayerInformationFormat) -> str:
        name, *others = LAYERS
        operand = {"Format/Datatype": "Four wide channel vectorized row major Int8 format"}
        first = {"Name": name, "LayerType": "CaskConvolution", "Inputs": [operand], "Outputs": [operand]}
        return "" if self._is_broken else json.dumps({"Layers": [first, *others], "Bindings": ["images"]})


class FakeContext:
    def __init__(self, module: FakePlanRuntime, logger: Logging, engine: FakeEngine, spec: Spec) -> None:
        self.profiler: Profiling | None = None
        self._module = module
        self._logger = logger
        self._engine = engine
        self._spec = spec
        self._batch = 0
        self._addresses: dict[str, int] = {}
        module.cuda.reserve(spec.activation_bytes)

    def __del__(self) -> None:
        self._module.cuda.reserve(-self._spec.activation_bytes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, largest = self._spec.batches
        self._batch = shape[0]
        return smallest <= shape[0] <= largest

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._batch, *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        module = self._module
        module.executions += 1
        module.on_execute(self, stream_handle)
        is_due = module.executions >= module.fail_at
        if is_due and module.failure is Failure.FULL_AT_RUN:
            self._logger.log(Logging.Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 1024)")
            return False
        if is_due and module.failure is Failure.NOT_QUEUED:
            self._logger.log(Logging.Severity.ERROR, "IExecutionContext::enqueueV3: Error Code 3: API Usage")
            return False
        if is_due and module.failure is Failure.KERNEL:
            module.cuda.launch(stream_handle, KERNEL_NS, module.cuda.fail_kernels, "kernel that fails")
            return True
        module.cuda.launch(stream_handle, KERNEL_NS, self._compute, "compute")
        if self.profiler is not None:  # the enqueue then waits
            for i, layer in enumerate(LAYERS, 1):
                self.profiler.report_layer_time(layer, i * 0.1 + module.executions * 1e-3)
        return True

    def _compute(self) -> None:
        dtype: np.dtype[Any] = np.dtype({"FLOAT": np.float32, "HALF": np.float16}[self._spec.dtype])
        images = self._array("images", (self._batch, SIDE, SIDE, 3), dtype)
        scores = images.astype(np.float32).mean((1, 2)) @ np.asarray(self._spec.weights, np.float32)
        self._array("logits", scores.shape, dtype)[:] = scores
        self._array("aux", scores.shape, dtype)[:] = -scores

    def _array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        held = self._module.cuda.device_bytes(self._addresses[name], size_bytes)
        found: NDArray[Any] = np.frombuffer(held, dtype).reshape(shape)
        return found
