"""Where a plan reads and writes, for one batch: pinned memory here, memory on the GPU, and one stream."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.cuda.fault import CudaError, CudaFault
from edgepress.cuda.resources import (
    DeviceMemory,
    Event,
    Graph,
    HostMemory,
    Stream,
    device_memory,
    event,
    graph,
    host_memory,
)
from edgepress.cuda.runtime import Cuda
from edgepress.errors import DeviceFaultError
from edgepress.runners.runner import DeviceTime
from edgepress.runners.tensorrt_plan import Plan, PlanTensor

_EMPTY = 1  # byte: CUDA gives no address for none


class Launch(Enum):
    """How the layers of a plan get onto the stream."""

    QUEUED = "queued"  # kernel by kernel, at each inference
    GRAPH = "graph"  # recorded once, and launched as a whole


class Port:
    """One tensor: its place here and on the GPU, and its array here."""

    def __init__(
        self, tensor: PlanTensor, shape: tuple[int, ...], here: HostMemory, there: DeviceMemory
    ) -> None:
        self.tensor = tensor
        self.size_bytes = tensor.dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self.here = here
        self.there = there
        self.array = here.array(shape, tensor.dtype)


class Binding:
    """A plan with the memory for one batch. Made by `bound`.

    Attributes:
        batch: Number of pictures.
        graph_note: Why no CUDA graph was made though one was asked for; None otherwise.
    """

    def __init__(self, plan: Plan, on: Stream, batch: int, source: Port, targets: tuple[Port, ...]) -> None:
        self.batch = batch
        self.graph_note: str | None = None
        self._plan = plan
        self._stream = on
        self._source = source
        self._targets = {target.tensor.name: target for target in targets}
        self._graph: Graph | None = None

    def use_graph(self, cuda: Cuda, stack: ExitStack) -> None:
        """Record the layers as a CUDA graph, if that can be done.

        Raises:
            DeviceFaultError: The GPU failed.
        """
        self.enqueue()  # TensorRT puts off some of its own work to the first time after a change of shapes
        self._stream.synchronize()
        try:
            self._graph = stack.enter_context(graph(cuda, self._stream, self.enqueue))
        except CudaError as error:
            if error.fault is not CudaFault.OTHER:
                raise
            self.graph_note = f"it cannot be recorded: {error.name}"

    def enqueue(self) -> None:
        """Put the layers onto the stream.

        Raises:
            DeviceFaultError: TensorRT or the GPU failed.
        """
        if self._graph is not None:
            self._stream.launch(self._graph)
        elif not self._plan.context.execute_async_v3(self._stream.number):
            if self._plan.log.tells_full():
                raise self._plan.full("run")
            self._stream.synchronize()  # where CUDA has the reason, it says more than TensorRT
            raise DeviceFaultError(
                f"TensorRT could not run {self._plan.path}: {self._plan.log.tail()}. "
                "Build the plan anew with the TensorRT and on the GPU that are here."
            )

    def run(self, images: NDArray[Any], names: tuple[str, ...]) -> tuple[NDArray[Any], ...]:
        """Input → outputs of these names, each the caller's own copy, once they are here.

        Raises:
            DeviceFaultError: TensorRT or the GPU failed.
        """
        np.copyto(self._source.array, images, casting="same_kind")
        self._stream.upload(self._source.here, self._source.there, self._source.size_bytes)
        self.enqueue()
        targets = [self._targets[name] for name in names]
        for target in targets:
            self._stream.download(target.there, target.here, target.size_bytes)
        self._stream.synchronize()
        return tuple(target.array.copy() for target in targets)

    def timed(self, name: str, stamps: tuple[Event, Event, Event, Event]) -> DeviceTime:
        """Run the input that is there once more, and let the GPU's clock tell each part apart.

        Args:
            name: Of the output that is fetched.
            stamps: At the start, and after each part.

        Raises:
            DeviceFaultError: TensorRT or the GPU failed.
        """
        start, uploaded, computed, downloaded = stamps
        target = self._targets[name]
        self._stream.record(start)
        self._stream.upload(self._source.here, self._source.there, self._source.size_bytes)
        self._stream.record(uploaded)
        self.enqueue()
        self._stream.record(computed)
        self._stream.download(target.there, target.here, target.size_bytes)
        self._stream.record(downloaded)
        self._stream.synchronize()
        return DeviceTime(
            uploaded.ns_since(start), computed.ns_since(uploaded), downloaded.ns_since(computed)
        )


@contextmanager
def bound(cuda: Cuda, plan: Plan, on: Stream, batch: int, launch: Launch) -> Iterator[Binding]:
    """Memory for a batch, known to the plan's context.

    Raises:
        InputError: The plan does not take this batch.
        DeviceFaultError: There is too little memory, or the GPU failed.
    """
    shape, output_shapes = plan.set_batch(batch)
    with ExitStack() as stack:
        source = _port(cuda, plan, plan.input, shape, stack)
        targets = tuple(_port(cuda, plan, each, output_shapes[each.name], stack) for each in plan.outputs)
        binding = Binding(plan, on, batch, source, targets)
        if launch is Launch.GRAPH:
            binding.use_graph(cuda, stack)
        yield binding


def _port(cuda: Cuda, plan: Plan, tensor: PlanTensor, shape: tuple[int, ...], stack: ExitStack) -> Port:
    size_bytes = max(_EMPTY, tensor.dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    here = stack.enter_context(host_memory(cuda, size_bytes))
    there = stack.enter_context(device_memory(cuda, size_bytes))
    plan.context.set_tensor_address(tensor.name, there.address)
    return Port(tensor, shape, here, there)


@contextmanager
def four_stamps(cuda: Cuda) -> Iterator[tuple[Event, Event, Event, Event]]:
    """Events for `Binding.timed`; raises CudaError."""
    with event(cuda) as start, event(cuda) as uploaded, event(cuda) as computed, event(cuda) as downloaded:
        yield start, uploaded, computed, downloaded
