"""The time of each node of a TFLite file, from the profiler inside LiteRT's C library.

LiteRT's Python interpreter has no profiler. Its C library, which lies in the same package, has one, and it
sees what the XNNPACK delegate runs node by node. The signatures below are those of the headers `litert/c/*.h`
of https://github.com/google-ai-edge/LiteRT. Nothing in a library tells whether its signatures are still
these, so only versions are used with which this was tried. A mistake here ends the process: run it in one of
its own.
"""

import ctypes
import platform
import re
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Precision
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.runners.runner import LayerTime

TESTED_VERSIONS = ("2.2.0", "2.3.0")
XNNPACK = "XNNPACK"
BUILT_IN = "built-in kernels"
_LIBRARY = "libLiteRt.so"
_DISTRIBUTION = "ai-edge-litert"
_WARM_UPS = 3
_NS_PER_US = 1000
_ON_CPU = 1  # kLiteRtHwAcceleratorCpu
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite
_MAX_RANK = 8  # LITERT_TENSOR_MAX_RANK
_OPERATOR, _DELEGATE_INTERNAL, _DELEGATE_OPERATOR = 1 << 1, 1 << 2, 1 << 3  # LiteRtProfilerEventType

_INT8 = re.compile(r"P?(Q[A-Z]+|[SU])8W?")
_CONVERSIONS = ("Convert", "Copy")


class _MemoryUsage(ctypes.Structure):
    """LiteRtMemoryUsage."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("allocated", "in_use", "private_footprint"))


class _Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", _MemoryUsage),
        ("memory_after", _MemoryUsage),
        ("node", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class _TensorType(ctypes.Structure):
    """LiteRtRankedTensorType; its layout starts with two bit fields that share one unsigned int."""

    _fields_ = (
        ("element", ctypes.c_int),
        ("rank_and_has_strides", ctypes.c_uint),
        ("dimensions", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    )


_FORGET = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)  # Python owns the payloads


def layer_times(path: Path, threads: int, stored_input: NDArray[Any], runs: int) -> tuple[LayerTime, ...]:
    """Time each node: those inside the XNNPACK delegate, and those that LiteRT's own kernels run.

    XNNPACK's nodes do not keep the names of the file; they are numbered in the order of execution. LiteRT's
    clock cuts off below 1 µs, so a node that takes less has 0.

    Args:
        path: TFLite file.
        threads: As given to the interpreter; 0 leaves the number to LiteRT.
        stored_input: Of one inference, in the type that the file wants.
        runs: Inferences that count, after a few that do not.

    Raises:
        MissingRuntimeError: ai-edge-litert is not installed.
        InputError: This was not tried with the installed version, or LiteRT refuses the file.
    """
    with ExitStack() as stack:
        model = _Model(_tested_library(), stack, path, threads)
        model.write(stored_input)
        for _ in range(_WARM_UPS):
            model.run()
        found = [model.profiled_run() for _ in range(runs)]
    return tuple(
        LayerTime(
            f"{i}: {tag}",
            tag,
            place,
            precision_of(tag) if place == XNNPACK else None,
            float(statistics.median(run[i][2] for run in found)),
        )
        for i, (tag, place, _) in enumerate(found[0])
    )


def precision_of(tag: str) -> Precision | None:
    """The precision that a node of XNNPACK computes with, from what XNNPACK calls it.

    The first type in the parentheses counts, that of the activations: "Convolution (NHWC, QC8) IGEMM" → INT8,
    "Fully Connected (NC, F32, QC8W) GEMM" → FP32, "Fully Connected (NC, QD8, F32, QC8W) GEMM" → INT8. A
    conversion computes in neither of its types, and a reshape has none: None.
    """
    _, _, types = tag.partition("(")
    if not types or tag.startswith(_CONVERSIONS):
        return None
    for name in types.partition(")")[0].split(","):
        plain = name.strip()
        if plain.removeprefix("P") in {"F32", "F16"}:
            return Precision.FP32 if plain.endswith("32") else Precision.FP16
        if _INT8.fullmatch(plain):
            return Precision.INT8
    return None


def _tested_library() -> ctypes.CDLL:
    spec = find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        raise MissingRuntimeError(_DISTRIBUTION, "litert")
    version = metadata.version(_DISTRIBUTION)
    path = Path(spec.submodule_search_locations[0]) / _LIBRARY
    if version not in TESTED_VERSIONS or not path.is_file():
        raise InputError(
            f"LiteRT's profiler was tried with ai-edge-litert {' and '.join(TESTED_VERSIONS)} on Linux, and "
            f"this is {version} on {platform.system()}: its C library may differ. "
            "Install one of these versions for the times of single nodes."
        )
    return ctypes.CDLL(str(path))


class _Model:
    """A compiled model with its profiler, one input and one output; `stack` releases it all."""

    def __init__(self, library: ctypes.CDLL, stack: ExitStack, path: Path, threads: int) -> None:
        self._library = library
        self._stack = stack
        self._path = path
        self._payloads: list[Any] = []  # the options point to them
        self._environment = self._made(
            "Environment", lambda made: self._call("LiteRtCreateEnvironment", 0, None, made)
        )
        self._model = self._made(
            "Model",
            lambda made: self._call("LiteRtCreateModelFromFile", self._environment, str(path).encode(), made),
        )
        options = self._options(threads)
        self._compiled = self._made(
            "CompiledModel",
            lambda made: self._call(
                "LiteRtCreateCompiledModel", self._environment, self._model, options, made
            ),
        )
        self._profiler = ctypes.c_void_p()
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise InputError(
                f"LiteRT's profiler cannot run {self._path}: {name} gave status {status}. "
                "Does the benchmark itself run it? If not, make the file anew."
            )

    def _made(self, kind: str, make: Callable[[Any], None]) -> ctypes.c_void_p:
        """A handle that is destroyed when the stack is closed."""
        handle = ctypes.c_void_p()
        make(ctypes.byref(handle))
        destroy = getattr(self._library, f"LiteRtDestroy{kind}")
        destroy.restype = None
        self._stack.callback(destroy, handle)
        return handle

    def _options(self, threads: int) -> ctypes.c_void_p:
        """Of the interpreter (XNNPACK, as many threads), and the profiler on."""
        options = self._made("Options", lambda made: self._call("LiteRtCreateOptions", made))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _ON_CPU)
        self._add(options, b"runtime_options_string", b"enable_profiling = true\n")
        if threads:
            self._add(options, b"xnnpack", b"num_threads = %d\n" % threads)
        return options

    def _add(self, options: ctypes.c_void_p, identifier: bytes, text: bytes) -> None:
        payload = ctypes.create_string_buffer(text)
        self._payloads.append(payload)
        added = ctypes.c_void_p()
        address = ctypes.cast(payload, ctypes.c_void_p)
        self._call("LiteRtCreateOpaqueOptions", identifier, address, _FORGET, ctypes.byref(added))
        self._call("LiteRtAddOpaqueOptions", options, added)  # it belongs to the options now

    def _buffers(self, side: str) -> ctypes.Array[ctypes.c_void_p]:
        """The first input or output of the first signature, as LiteRT wants it in memory."""
        first = ctypes.c_size_t(0)
        signature, tensor, needs = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("LiteRtGetModelSignature", self._model, first, ctypes.byref(signature))
        self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, first, ctypes.byref(tensor))
        wanted = _TensorType()
        self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(wanted))
        self._call(
            f"LiteRtGetCompiledModel{side}BufferRequirements",
            self._compiled,
            first,
            first,
            ctypes.byref(needs),
        )
        buffer = self._made(
            "TensorBuffer",
            lambda made: self._call(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                self._environment,
                ctypes.byref(wanted),
                needs,
                made,
            ),
        )
        return (ctypes.c_void_p * 1)(buffer)

    def write(self, stored: NDArray[Any]) -> None:
        """Fill the input."""
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        data = np.ascontiguousarray(stored)
        buffer = ctypes.c_void_p(self._inputs[0])
        self._call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        if size.value != data.nbytes:
            raise InputError(
                f"The input of {self._path} has {size.value} bytes, and {data.nbytes} were given. "
                "Check the size of the picture."
            )
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
        ctypes.memmove(address, data.ctypes.data, data.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> None:
        """One inference."""
        first, one = ctypes.c_size_t(0), ctypes.c_size_t(1)
        self._call("LiteRtRunCompiledModel", self._compiled, first, one, self._inputs, one, self._outputs)

    def profiled_run(self) -> list[tuple[str, str, float]]:
        """One inference: tag, place and duration in ns of each node, in their order."""
        self._call("LiteRtStartProfiler", self._profiler)  # forgets what was before
        self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        places = {_OPERATOR: BUILT_IN, _DELEGATE_INTERNAL: XNNPACK, _DELEGATE_OPERATOR: XNNPACK}
        return [
            (event.tag.decode(errors="replace"), places[event.kind], float(event.elapsed_us * _NS_PER_US))
            for event in events
            if event.kind in places
        ]
