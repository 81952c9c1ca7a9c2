"""What a process holds of a GPU: memory, streams, events, graphs. Each is given back, whatever happens.

Every resource is a context manager, so one that cannot be made leaves nothing of those before it.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.cuda.fault import CudaError
from edgepress.cuda.runtime import Cuda

_NS_PER_MS = 1_000_000
_NON_BLOCKING = 1  # cudaStreamNonBlocking: waits for nothing that the default stream does
_PLAIN = 0  # cudaHostAllocDefault, and no flag of cudaGraphInstantiate


@dataclass(frozen=True)
class DeviceMemory:
    """Memory on the GPU.

    Attributes:
        address: Of its first byte, on the GPU.
        size_bytes: As it was asked for.
    """

    address: int
    size_bytes: int


@dataclass(frozen=True)
class HostMemory:
    """Memory of this machine that the GPU copies from and to by itself (pinned: it is never swapped out).

    Attributes:
        address: Of its first byte.
        size_bytes: As it was asked for.
    """

    address: int
    size_bytes: int

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Its first bytes as an array; not to be touched once the memory is given back."""
        count = int(np.prod(shape, dtype=np.int64))
        if (wanted_bytes := count * dtype.itemsize) > self.size_bytes:
            raise ValueError(f"an array of {wanted_bytes} bytes does not fit into {self.size_bytes}")
        held: Any = (ctypes.c_uint8 * self.size_bytes).from_address(self.address)
        found: NDArray[Any] = np.frombuffer(held, dtype, count).reshape(shape)
        return found


class Event:
    """A point on a stream that a clock of the GPU stamps when it gets there."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self.handle = handle

    def ns_since(self, earlier: "Event") -> int:
        """Time from an earlier event to this one; both have been reached. CUDA resolves about 500 ns.

        Raises:
            CudaError: One has not been reached, or what lies between failed.
        """
        elapsed_ms = float(self._cuda.call("cudaEventElapsedTime", earlier.handle, self.handle))
        return round(elapsed_ms * _NS_PER_MS)


class Graph:
    """Work that was recorded once and is launched as a whole."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle


class Stream:
    """A queue of the GPU that is not the default one. Nothing waits but `synchronize`."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self.handle = handle

    @property
    def number(self) -> int:
        """As other libraries take it."""
        return int(self.handle)

    def upload(self, source: HostMemory, destination: DeviceMemory, size_bytes: int) -> None:
        """Queue a copy to the GPU; raises CudaError."""
        self._copy(destination.address, source.address, size_bytes, "cudaMemcpyHostToDevice")

    def download(self, source: DeviceMemory, destination: HostMemory, size_bytes: int) -> None:
        """Queue a copy from the GPU; raises CudaError."""
        self._copy(destination.address, source.address, size_bytes, "cudaMemcpyDeviceToHost")

    def _copy(self, destination: int, source: int, size_bytes: int, direction: str) -> None:
        kind = self._cuda.constant("cudaMemcpyKind", direction)
        self._cuda.call("cudaMemcpyAsync", destination, source, size_bytes, kind, self.handle)

    def record(self, event: Event) -> None:
        """Queue a stamp; raises CudaError."""
        self._cuda.call("cudaEventRecord", event.handle, self.handle)

    def launch(self, graph: Graph) -> None:
        """Queue everything that a graph holds; raises CudaError."""
        self._cuda.call("cudaGraphLaunch", graph.handle, self.handle)

    def synchronize(self) -> None:
        """Wait until everything that was queued is done.

        Raises:
            CudaError: Something of it failed: a kernel, or the GPU is lost.
        """
        self._cuda.call("cudaStreamSynchronize", self.handle)


@contextmanager
def device_memory(cuda: Cuda, size_bytes: int) -> Iterator[DeviceMemory]:
    """Memory on the GPU; CudaError where there is too little."""
    address = cuda.call("cudaMalloc", size_bytes)
    try:
        yield DeviceMemory(int(address), size_bytes)
    finally:
        cuda.release("cudaFree", address)


@contextmanager
def host_memory(cuda: Cuda, size_bytes: int) -> Iterator[HostMemory]:
    """Pinned memory of this machine; CudaError where there is too little."""
    address = cuda.call("cudaHostAlloc", size_bytes, _PLAIN)
    try:
        yield HostMemory(int(address), size_bytes)
    finally:
        cuda.release("cudaFreeHost", address)


@contextmanager
def stream(cuda: Cuda) -> Iterator[Stream]:
    """A stream of its own; raises CudaError."""
    handle = cuda.call("cudaStreamCreateWithFlags", _NON_BLOCKING)
    try:
        yield Stream(cuda, handle)
    finally:
        cuda.release("cudaStreamDestroy", handle)


@contextmanager
def event(cuda: Cuda) -> Iterator[Event]:
    """An event that takes the time; raises CudaError."""
    handle = cuda.call("cudaEventCreate")
    try:
        yield Event(cuda, handle)
    finally:
        cuda.release("cudaEventDestroy", handle)


@contextmanager
def graph(cuda: Cuda, on: Stream, enqueue: Callable[[], None]) -> Iterator[Graph]:
    """What `enqueue` puts on a stream, recorded instead of run.

    Raises:
        CudaError: Something was queued that cannot be recorded. Nothing of it runs.
    """
    recorded = _recorded(cuda, on, enqueue)
    try:
        handle = cuda.call("cudaGraphInstantiate", recorded, _PLAIN)
        try:
            yield Graph(handle)
        finally:
            cuda.release("cudaGraphExecDestroy", handle)
    finally:
        cuda.release("cudaGraphDestroy", recorded)


def _recorded(cuda: Cuda, on: Stream, enqueue: Callable[[], None]) -> Any:
    mode = cuda.constant("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
    cuda.call("cudaStreamBeginCapture", on.handle, mode)
    try:
        enqueue()
    except BaseException:
        with suppress(CudaError):  # the recording may be broken already; it has to end in any case
            cuda.release("cudaGraphDestroy", cuda.call("cudaStreamEndCapture", on.handle))
        raise
    return cuda.call("cudaStreamEndCapture", on.handle)
