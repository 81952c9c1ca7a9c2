"""A fake of CUDA's runtime API as cuda-python gives it. No GPU: time is scripted, and faults are injected.

Work on a stream runs when it is waited for, not when it is queued, so code that reads too early reads old
bytes. What CUDA would take silently, or answer with memory of somebody else, fails as `Misuse`.
"""

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

MIB = 1 << 20
RUNTIME_VERSION = 13050


class Misuse(AssertionError):
    """Something that a correct program never does."""


class Error(IntEnum):
    """cudaError_t: those that the tests need, with CUDA's names and numbers."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorDevicesUnavailable = 46
    cudaErrorNoDevice = 100
    cudaErrorECCUncorrectable = 214
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorUnknown = 999


class Copy(IntEnum):
    """cudaMemcpyKind."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Capture(IntEnum):
    """cudaStreamCaptureMode."""

    cudaStreamCaptureModeThreadLocal = 1


class Attribute(IntEnum):
    """cudaDeviceAttr."""

    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


@dataclass(frozen=True)
class Properties:
    """cudaDeviceProp."""

    name: bytes


class Kind(Enum):
    """What can be left behind."""

    DEVICE = "device memory"
    PINNED = "pinned memory"
    STREAM = "stream"
    EVENT = "event"
    GRAPH = "graph"
    GRAPH_EXEC = "graph to launch"


@dataclass(frozen=True)
class Injection:
    """A fault to come.

    Attributes:
        error: What the call gives.
        call: Which call of `function`, from 1.
        function: E.g. "cudaMalloc"; "any" counts the calls of all functions.
    """

    error: Error
    call: int
    function: str = "any"


@dataclass(frozen=True)
class Pace:
    """How long things take on the fake GPU, and how long a call keeps the host."""

    copy_ns: int = 1_000
    copy_bytes_per_ns: int = 10
    call_ns: int = 100


class Handle:
    """As cuda-python's cudaStream_t and the like: an object that `int` makes a number of."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


@dataclass
class Block:
    buffer: Any
    size_bytes: int


Work = tuple[int, Callable[[int], None]]
"""How long it takes in ns, and what it does, told the time at which it ends."""


@dataclass
class StreamState:
    """Queued work, and the time at which the stream is done with what it ran."""

    busy_until_ns: int = 0
    queue: list[tuple[int, int, Callable[[int], None]]] = field(default_factory=list)
    recording: list[Work] | None = None


_STICKY = {  # after these a process gets the same error from every call
    Error.cudaErrorDevicesUnavailable,
    Error.cudaErrorECCUncorrectable,
    Error.cudaErrorIllegalAddress,
    Error.cudaErrorLaunchFailure,
    Error.cudaErrorUnknown,
}
_RELEASES = {
    "cudaFree",
    "cudaFreeHost",
    "cudaStreamDestroy",
    "cudaEventDestroy",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
}
_QUESTIONS = {"cudaGetLastError", "cudaDriverGetVersion", "cudaRuntimeGetVersion"}


class FakeCuda:
    """Stands for the module `cuda.bindings.runtime` and the GPU behind it.

    Attributes:
        now_ns: The host's clock; `clock` reads it.
        calls: How often each function was called, and "any" for all of them.
        live: What was made and not given back.
        log: The stream's work in the order in which it ran: "H2D", "D2H", and what `launch` was told.
    """

    cudaError_t = Error
    cudaMemcpyKind = Copy
    cudaStreamCaptureMode = Capture
    cudaDeviceAttr = Attribute

    def __init__(
        self,
        *faults: Injection,
        total_bytes: int = 8192 * MIB,
        devices: int = 1,
        driver_version: int = RUNTIME_VERSION,
        capability: tuple[int, int] = (8, 6),
        pace: Pace = Pace(),
    ) -> None:
        self.now_ns = 0
        self.calls: Counter[str] = Counter()
        self.live: Counter[Kind] = Counter()
        self.log: list[str] = []
        self._faults = faults
        self._total_bytes = total_bytes
        self._used_bytes = 300 * MIB  # the context
        self._devices = devices
        self._driver_version = driver_version
        self._capability = capability
        self._pace = pace
        self._sticky: Error | None = None
        self._last = Error.cudaSuccess
        self._device: dict[int, Block] = {}
        self._pinned: dict[int, Block] = {}
        self._streams: dict[int, StreamState] = {}
        self._events: dict[int, int | None] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._execs: dict[int, list[Work]] = {}
        self._next = 0x1000

    # What tests ask

    def clock(self) -> int:
        """The host's time in ns, as `time.perf_counter_ns`."""
        return self.now_ns

    def assert_nothing_left(self) -> None:
        left = {kind.value: count for kind, count in self.live.items() if count}
        assert not left, f"left behind: {left}"

    def fail_kernels(self, error: Error = Error.cudaErrorLaunchFailure) -> None:
        """From now on the context is broken, as after a kernel that failed."""
        self._sticky = error

    def reserve(self, size_bytes: int) -> None:
        """Memory that another library takes (or, negative, gives back)."""
        self._used_bytes += size_bytes

    def device_bytes(self, address: int, size_bytes: int) -> Any:
        """The bytes that lie on the GPU from an address on, for a fake kernel to read and write."""
        return memoryview(self._held(self._device, address, size_bytes, "device")).cast("B")

    def launch(self, stream: int, duration_ns: int, action: Callable[[], None], name: str = "kernel") -> None:
        """Queue a fake kernel, as a library does on the stream that it was given."""
        if not stream:
            raise Misuse("the default stream was used")
        self._queue(self._stream(stream), duration_ns, self._named(name, action))

    # The API

    def cudaGetDeviceCount(self) -> Any:
        def count() -> int:
            if self._driver_version < RUNTIME_VERSION // 1000 * 1000:
                raise _Refused(Error.cudaErrorInsufficientDriver)
            if not self._devices:
                raise _Refused(Error.cudaErrorNoDevice)
            return self._devices

        return self._answer("cudaGetDeviceCount", count)

    def cudaGetDevice(self) -> Any:
        return self._answer("cudaGetDevice", lambda: 0)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return self._answer("cudaGetDeviceProperties", lambda: Properties(b"Fake RTX A2000"))

    def cudaDeviceGetAttribute(self, attr: Attribute, device: int) -> Any:
        is_major = attr is Attribute.cudaDevAttrComputeCapabilityMajor
        major, minor = self._capability
        return self._answer("cudaDeviceGetAttribute", lambda: major if is_major else minor)

    def cudaDriverGetVersion(self) -> Any:
        return self._answer("cudaDriverGetVersion", lambda: self._driver_version)

    def cudaRuntimeGetVersion(self) -> Any:
        return self._answer("cudaRuntimeGetVersion", lambda: RUNTIME_VERSION)

    def cudaGetLastError(self) -> Any:
        last, self._last = self._last, Error.cudaSuccess
        return (last,)

    def cudaMemGetInfo(self) -> Any:
        def free_and_total() -> tuple[int, int]:
            return self._total_bytes - self._used_bytes, self._total_bytes

        return self._answer("cudaMemGetInfo", free_and_total)

    def cudaMalloc(self, size: int) -> Any:
        def allocate() -> int:
            if self._used_bytes + size > self._total_bytes:
                raise _Refused(Error.cudaErrorMemoryAllocation)
            self._used_bytes += size
            return self._allocated(self._device, Kind.DEVICE, size)

        return self._answer("cudaMalloc", allocate)

    def cudaFree(self, address: int) -> Any:
        def free() -> None:
            self._used_bytes -= self._freed(self._device, Kind.DEVICE, address)

        return self._answer("cudaFree", free)

    def cudaHostAlloc(self, size: int, flags: int) -> Any:
        return self._answer("cudaHostAlloc", lambda: self._allocated(self._pinned, Kind.PINNED, size))

    def cudaFreeHost(self, address: int) -> Any:
        def free() -> None:
            self._freed(self._pinned, Kind.PINNED, address)

        return self._answer("cudaFreeHost", free)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        return self._answer(
            "cudaStreamCreateWithFlags", lambda: self._made(self._streams, Kind.STREAM, StreamState())
        )

    def cudaStreamDestroy(self, stream: Any) -> Any:
        return self._answer("cudaStreamDestroy", lambda: self._destroyed(self._streams, Kind.STREAM, stream))

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        def synchronize() -> None:
            state = self._stream(int(stream))
            self._run(state)
            self.now_ns = max(self.now_ns, state.busy_until_ns)

        return self._answer("cudaStreamSynchronize", synchronize)

    def cudaEventCreate(self) -> Any:
        return self._answer("cudaEventCreate", lambda: self._made(self._events, Kind.EVENT, None))

    def cudaEventDestroy(self, event: Any) -> Any:
        return self._answer("cudaEventDestroy", lambda: self._destroyed(self._events, Kind.EVENT, event))

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:
        def record() -> None:
            number = self._known(self._events, event, "event")

            def stamp(at_ns: int) -> None:
                self._events[number] = at_ns

            self._queue(self._stream(int(stream)), 0, stamp)

        return self._answer("cudaEventRecord", record)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> Any:
        def elapsed_ms() -> float:
            stamps = [self._events[self._known(self._events, event, "event")] for event in (start, end)]
            if stamps[0] is None or stamps[1] is None:
                raise _Refused(Error.cudaErrorNotReady)
            return (stamps[1] - stamps[0]) / 1e6

        return self._answer("cudaEventElapsedTime", elapsed_ms)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Copy, stream: Any) -> Any:
        def copy() -> None:
            sides = (self._device, dst, "device"), (self._pinned, src, "pinned")
            if kind is Copy.cudaMemcpyDeviceToHost:
                sides = (self._pinned, dst, "pinned"), (self._device, src, "device")
            for blocks, address, name in sides:
                self._held(blocks, address, count, name)
            name = "H2D" if kind is Copy.cudaMemcpyHostToDevice else "D2H"
            duration_ns = self._pace.copy_ns + count // self._pace.copy_bytes_per_ns

            def move() -> None:
                ctypes.memmove(dst, src, count)

            self._queue(self._stream(int(stream)), duration_ns, self._named(name, move))

        return self._answer("cudaMemcpyAsync", copy)

    def cudaStreamBeginCapture(self, stream: Any, mode: Capture) -> Any:
        def begin() -> None:
            self._stream(int(stream)).recording = []

        return self._answer("cudaStreamBeginCapture", begin)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        def end() -> Handle:
            state = self._stream(int(stream))
            if state.recording is None:
                raise Misuse("a recording was ended that had not begun")
            work, state.recording = state.recording, None
            return self._made(self._graphs, Kind.GRAPH, work)

        return self._answer("cudaStreamEndCapture", end)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        def instantiate() -> Handle:
            work = list(self._graphs[self._known(self._graphs, graph, "graph")])
            return self._made(self._execs, Kind.GRAPH_EXEC, work)

        return self._answer("cudaGraphInstantiate", instantiate)

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> Any:
        def launch() -> None:
            state = self._stream(int(stream))
            for duration_ns, action in self._execs[self._known(self._execs, graph, "graph to launch")]:
                self._queue(state, duration_ns, action)

        return self._answer("cudaGraphLaunch", launch)

    def cudaGraphDestroy(self, graph: Any) -> Any:
        return self._answer("cudaGraphDestroy", lambda: self._destroyed(self._graphs, Kind.GRAPH, graph))

    def cudaGraphExecDestroy(self, graph: Any) -> Any:
        return self._answer(
            "cudaGraphExecDestroy", lambda: self._destroyed(self._execs, Kind.GRAPH_EXEC, graph)
        )

    # How it works

    def _answer(self, function: str, act: Callable[[], Any]) -> tuple[Any, ...]:
        """(code, values): of the script where a fault is due or has been, else of what `act` does."""
        self.calls[function] += 1
        self.calls["any"] += 1
        self.now_ns += self._pace.call_ns
        failed = self._sticky or self._fault_due(function)
        if failed:
            self._unwind(function, failed, act)
            return self._failed(failed)
        try:
            value = act()
        except _Refused as refused:
            return self._failed(refused.error)
        if self._sticky:  # a kernel failed while the stream was waited for
            return self._failed(self._sticky)
        if value is None:
            return (Error.cudaSuccess,)
        return (Error.cudaSuccess, *(value if isinstance(value, tuple) else (value,)))

    def _unwind(self, function: str, failed: Error, act: Callable[[], Any]) -> None:
        """What a call that fails does all the same."""
        if failed in _STICKY:
            self._sticky = failed
            if function in _RELEASES:
                act()  # the driver has taken everything back
        if function == "cudaStreamEndCapture":  # ends it, also where nothing usable was recorded
            for state in self._streams.values():
                state.recording = None

    def _failed(self, error: Error) -> tuple[Any, ...]:
        self._last = error
        return (error, None)

    def _fault_due(self, function: str) -> Error | None:
        if function in _QUESTIONS:
            return None
        for fault in self._faults:
            if fault.function in {function, "any"} and self.calls[fault.function] == fault.call:
                return fault.error
        return None

    def _allocated(self, blocks: dict[int, Block], kind: Kind, size_bytes: int) -> int:
        if size_bytes <= 0:
            raise Misuse(f"{size_bytes} bytes of {kind.value} were asked for")
        buffer = ctypes.create_string_buffer(size_bytes)
        address = ctypes.addressof(buffer)
        blocks[address] = Block(buffer, size_bytes)
        self.live[kind] += 1
        return address

    def _freed(self, blocks: dict[int, Block], kind: Kind, address: int) -> int:
        if address not in blocks:
            raise Misuse(f"{kind.value} at {address:#x} was freed twice, or never allocated")
        self.live[kind] -= 1
        return blocks.pop(address).size_bytes

    def _held(self, blocks: dict[int, Block], address: int, size_bytes: int, name: str) -> Any:
        for start, block in blocks.items():
            if start <= address < start + block.size_bytes:
                if address + size_bytes > start + block.size_bytes:
                    raise Misuse(
                        f"{size_bytes} bytes reach past the end of {block.size_bytes} of {name} memory"
                    )
                return (ctypes.c_char * size_bytes).from_address(address)
        raise Misuse(f"{address:#x} is no {name} memory")

    def _made(self, held: dict[int, Any], kind: Kind, value: Any) -> Handle:
        self._next += 0x10
        held[self._next] = value
        self.live[kind] += 1
        return Handle(self._next)

    def _destroyed(self, held: dict[int, Any], kind: Kind, handle: Any) -> None:
        del held[self._known(held, handle, kind.value)]
        self.live[kind] -= 1

    def _known(self, held: dict[int, Any], handle: Any, name: str) -> int:
        if int(handle) not in held:
            raise Misuse(f"no such {name}: it was destroyed, or never made")
        return int(handle)

    def _stream(self, number: int) -> StreamState:
        if not number:
            raise Misuse("the default stream was used")
        return self._streams[self._known(self._streams, number, "stream")]

    def _named(self, name: str, action: Callable[[], None]) -> Callable[[int], None]:
        def act(at_ns: int) -> None:
            self.log.append(name)
            action()

        return act

    def _queue(self, state: StreamState, duration_ns: int, action: Callable[[int], None]) -> None:
        if state.recording is not None:
            state.recording.append((duration_ns, action))
        else:
            state.queue.append((self.now_ns, duration_ns, action))

    def _run(self, state: StreamState) -> None:
        work, state.queue = state.queue, []
        for queued_ns, duration_ns, action in work:
            state.busy_until_ns = max(state.busy_until_ns, queued_ns) + duration_ns
            action(state.busy_until_ns)


class _Refused(Exception):  # an answer, not a failure of the fake
    def __init__(self, error: Error) -> None:
        self.error = error
