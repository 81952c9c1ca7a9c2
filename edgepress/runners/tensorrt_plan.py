"""A plan of TensorRT or TensorRT-RTX, opened: what its binding in Python needs to run it, for every version.

The module is a parameter. Only what TensorRT 10.0 to 11.x and TensorRT-RTX have in common is used.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.cuda.runtime import Cuda, GpuMemory
from edgepress.errors import DeviceFaultError, InputError, MissingDeviceError
from edgepress.runners.runner import head_among
from edgepress.tensorrt_flavour import Feature, has
from edgepress.tensorrt_log import TensorRtLog, logger_of

_MIB = 1 << 20
_DTYPES: dict[
    str, np.dtype[Any]
] = {  # trt.DataType by name; the wider ones of numpy's hold none of TensorRT's further types
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class PlanTensor:
    """An input or output.

    Attributes:
        name: In the plan.
        shape: -1 stands for a dynamic dimension.
        dtype: Of numpy.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Plan:
    """An engine with one execution context. `close` gives both back; the GPU must be idle then.

    Attributes:
        path: Of its file.
        context: `IExecutionContext`.
        engine: `ICudaEngine`.
        input: The one that the picture goes into.
        outputs: In the engine's order.
        head: Name of the output that holds the scores of the classes.
        log: What TensorRT said.
    """

    def __init__(self, trt: Any, cuda: Cuda, path: Path, content: bytes) -> None:
        """Hand the plan to TensorRT.

        Raises:
            MissingDeviceError: TensorRT finds no GPU that it can use.
            InputError: TensorRT does not take the plan, or it has not one input and an output.
            DeviceFaultError: The GPU has too little memory for it.
        """
        self.path = path
        self._trt = trt
        self._cuda = cuda
        self.log = TensorRtLog()
        self._logger = logger_of(trt, self.log)  # TensorRT keeps no reference to it
        self._runtime = self._made_runtime(trt)
        self.engine = self._runtime.deserialize_cuda_engine(content)
        self._require(self.engine, trt)
        self.context = self.engine.create_execution_context()
        self._require(self.context, trt)
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        is_input = {name: self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        inputs = [self._tensor(name) for name in names if is_input[name]]
        self.outputs = tuple(self._tensor(name) for name in names if not is_input[name])
        if len(inputs) != 1 or not self.outputs:
            raise InputError(
                f"{path} has {len(inputs)} inputs and {len(self.outputs)} outputs, wanted one picture "
                "in, and logits out. Build it from an ONNX file of edgepress."
            )
        self.input = inputs[0]
        names = [output.name for output in self.outputs]
        self.head = head_among(names) or names[0]

    def _made_runtime(self, trt: Any) -> Any:
        try:
            return trt.Runtime(self._logger)
        except TypeError as error:  # how pybind11 says that the constructor gave nothing
            raise MissingDeviceError(
                f"no CUDA device (TensorRT {trt.__version__} cannot start: {self.log.tail()}). "
                "Check the driver with nvidia-smi, or use --device cpu."
            ) from error

    def _require(self, made: Any, trt: Any) -> None:
        """What TensorRT makes is None where it failed; the reason is in its log."""
        if made is not None:
            return
        if self.log.tells_full():
            raise self.full("loaded")
        raise InputError(
            f"TensorRT {trt.__version__} does not take {self.path}: {self.log.tail()}. "
            "Build the plan anew with the TensorRT and on the GPU that are here."
        )

    def full(self, doing: str) -> DeviceFaultError:
        """The error for a GPU without enough memory, with what it has."""
        memory: GpuMemory = self._cuda.memory()
        return DeviceFaultError(
            f"The GPU has too little memory while {self.path} is {doing} ({memory.free_bytes / _MIB:.0f} of "
            f"{memory.total_bytes / _MIB:.0f} MiB free): {self.log.tail()}. "
            "End what else uses the GPU (see nvidia-smi), or take a smaller batch or precision."
        )

    def _tensor(self, name: str) -> PlanTensor:
        kind = self.engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise InputError(
                f"{self.path} has a tensor {name} of type {kind}, wanted {', '.join(_DTYPES)}. "
                "Build it from an ONNX file of edgepress."
            )
        return PlanTensor(name, tuple(self.engine.get_tensor_shape(name)), _DTYPES[kind])

    def batches(self) -> tuple[int, int]:
        """The smallest and the largest batch that it takes (of its first optimization profile)."""
        if self.input.shape[0] >= 0:
            return self.input.shape[0], self.input.shape[0]
        smallest, _, largest = self.engine.get_tensor_profile_shape(self.input.name, 0)
        return int(smallest[0]), int(largest[0])

    def set_batch(self, batch: int) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
        """Shapes of the input and of each output by name, for a batch.

        Raises:
            InputError: The plan does not take this batch.
        """
        smallest, largest = self.batches()
        shape = (batch, *self.input.shape[1:])
        if not smallest <= batch <= largest or not self.context.set_input_shape(self.input.name, shape):
            raise InputError(
                f"{self.path} takes a batch of {smallest} to {largest}, got {batch}. "
                "Use another batch, or build the plan with a wider optimization profile."
            )
        if unknown := list(self.context.infer_shapes()):
            raise InputError(
                f"{self.path} leaves the shape of {unknown[0]} open, which depends on values. "
                "Build it from an ONNX file of edgepress."
            )
        return shape, {
            output.name: tuple(self.context.get_tensor_shape(output.name)) for output in self.outputs
        }

    def activation_bytes(self) -> int:
        """Memory on the GPU for what lies between layers, as TensorRT tells."""
        if has(self._trt, Feature.DEVICE_MEMORY_SIZE_V2):
            return int(self.engine.device_memory_size_v2)
        return int(self.engine.device_memory_size)

    def close(self) -> None:
        """Give context, engine and runtime back, in this order."""
        self.context = None
        self.engine = None
        self._runtime = None
