"""One part of the machine's ceilings, in a process of its own: a `Task` on stdin, an `Answer` on stdout."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.ceilings import Answer, Part, Task
from benchmark.interference import MOST_OTHERS, Interference, cpu_ticks
from benchmark.matmul_onnx import Product, matmul_model
from benchmark.roofline import GemmRate
from edgepress.artifact import Precision
from edgepress.record import from_json, to_json

Work = Callable[[], object]

_SIZES = (512, 1024, 2048)
_GEMM_S = 0.15  # for each size, unless the least number of runs takes longer
_LONGEST_RUN_S = 0.4
_LEAST_RUNS = 3
_STREAM_S = 0.2
_LEAST_PASSES = 5
_TOUCH_S = 1.0
_MIB = 1 << 20
_NUMBER = np.dtype(np.int64)
_STEP = 8 * _MIB // _NUMBER.itemsize
_GROWTH = 8  # twice the size, eight times the products
_ONLY_FATAL = 4
_CPU = "CPUExecutionProvider"


def main() -> None:
    """Answer once. An exception ends the process, and its last line is the parent's note."""
    task = from_json(Task, json.loads(sys.stdin.read()))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # frameworks write to descriptor 1 behind Python's back
        answers.write(json.dumps(to_json(answer(task))) + "\n")


def answer(task: Task) -> Answer:
    """Measure one part; a note says if other processes took too much of the cores meanwhile."""
    before = cpu_ticks(os.getpid())
    found = _measured(task)
    others = Interference().plus(before, cpu_ticks(os.getpid())).share
    if others is None or others <= MOST_OTHERS:
        return replace(found, others_cpu=others)
    note = (
        f"{task.part.value}: other processes took {others:.0%} of the cores meanwhile, so it may be too low"
    )
    return replace(found, notes=(*found.notes, note), others_cpu=others)


def _measured(task: Task) -> Answer:
    if task.part is Part.STREAM:
        return stream(task.threads, task.array_bytes)
    if task.part is Part.NUMPY:
        return Answer((best_rate(Precision.FP32, f"numpy {np.__version__} ({_blas()})", _numpy_product),))
    return _onnxruntime(task.threads)


def best_rate(precision: Precision, library: str, product_of: Callable[[int], Work]) -> GemmRate:
    """The best rate over square matrices of several sizes.

    Args:
        precision: Of the numbers that are multiplied.
        library: What computes it.
        product_of: Prepares the product of two (size, size) matrices.
    """
    best = GemmRate(precision, 0.0, library, 0)
    expected_s = 0.0
    for size in _SIZES:
        if expected_s > _LONGEST_RUN_S:
            break
        shortest_s = _shortest_s(product_of(size), _GEMM_S, _LEAST_RUNS)
        if (rate := size**3 / shortest_s) > best.macs_per_s:
            best = GemmRate(precision, rate, library, size)
        expected_s = _GROWTH * shortest_s
    return best


def _shortest_s(work: Work, budget_s: float, least: int) -> float:
    """The shortest of many runs: what is added to a run by others can only make it longer."""
    durations: list[float] = []
    end_s = time.perf_counter() + budget_s
    while len(durations) < least or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start_s)
    return min(durations)


def _blas() -> str:
    """Name of the BLAS that numpy was built with."""
    try:
        built = np.show_config(mode="dicts")  # numpy 1.25 and later
        return str(built["Build Dependencies"]["blas"]["name"])
    except (TypeError, KeyError):
        return "its BLAS"


def _numpy_product(size: int) -> Work:
    a, b = (np.random.default_rng(i).random((size, size), np.float32) for i in (0, 1))
    product = np.zeros((size, size), np.float32)
    return lambda: np.matmul(a, b, out=product)


def _onnxruntime(threads: int) -> Answer:
    try:
        import onnxruntime
    except ImportError:
        return Answer(notes=("onnxruntime is not installed: no rate of INT8",))
    rates, notes = [], []
    for precision, product in ((Precision.FP32, Product.FP32), (Precision.INT8, Product.INT8)):
        library = f"onnxruntime {onnxruntime.__version__}"
        try:
            rates.append(best_rate(precision, library, partial(_session, product, threads)))
        except Exception as error:  # noqa: BLE001  # onnxruntime's own have no common base
            notes.append(f"{library}, {precision.value.upper()}: {str(error).splitlines()[0]}")
    return Answer(tuple(rates), notes=tuple(notes))


def _session(product: Product, threads: int, size: int) -> Work:
    """A product in ONNX Runtime, into memory that is there already: no allocation is timed."""
    import onnxruntime

    _, a_type, b_type, c_type = product.value
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ONLY_FATAL
    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 100, (size, size)).astype(dtype) for dtype in (a_type, b_type))
    session = onnxruntime.InferenceSession(matmul_model(product, b), options, providers=[_CPU])
    binding = session.io_binding()
    tensor = onnxruntime.OrtValue.ortvalue_from_numpy
    binding.bind_ortvalue_input("a", tensor(a))
    binding.bind_ortvalue_output("c", tensor(np.zeros((size, size), c_type)))
    return lambda: session.run_with_iobinding(binding)


def stream(threads: int, array_bytes: int) -> Answer:
    """Read and copy memory by all threads at once, each in its own part, which it was the first to touch.

    numpy holds no lock of Python's while it works. Reading is reducing to one number in two ways, of which
    the faster one counts: both are vector instructions that wait for memory, on one CPU or another. Copying
    goes from one half to the other and counts bytes that are read and those that are written, as STREAM
    does. It can exceed reading: a core has only so many reads under way at once, and writes come on top.

    The system hands out memory page by page, which can take far longer than going through it: what it has not
    handed out after a second is done without, and a note says so.
    """
    count = max(2, array_bytes // threads // _NUMBER.itemsize)
    with ThreadPoolExecutor(threads) as pool:
        end_s = time.perf_counter() + _TOUCH_S
        parts = list(pool.map(lambda _: _touched(count, end_s), range(threads)))
        even = min(len(part) for part in parts) // 2 * 2
        parts = [part[:even] for part in parts]
        halves = [(part[: even // 2], part[even // 2 :]) for part in parts]

        def shortest_s(work: Callable[[Any], object], pieces: Sequence[Any]) -> float:
            return _shortest_s(lambda: list(pool.map(work, pieces)), _STREAM_S, _LEAST_PASSES)

        read_s = min(shortest_s(reduced, parts) for reduced in (np.max, np.bitwise_or.reduce))
        copy_s = shortest_s(lambda half: np.copyto(half[1], half[0]), halves)
    moved = even * _NUMBER.itemsize * threads
    notes = () if even >= count - 1 else (_smaller(moved, array_bytes),)
    return Answer((), moved / read_s, moved / copy_s, notes)


def _touched(count: int, end_s: float) -> NDArray[np.int64]:
    """So many numbers in memory that the system has really handed out, or as many as it has until a time."""
    numbers = np.empty(count, _NUMBER)
    touched = 0
    while touched < count and (touched == 0 or time.perf_counter() < end_s):
        numbers[touched : touched + _STEP] = touched
        touched += _STEP
    return numbers[:touched]


def _smaller(moved: int, wanted: int) -> str:
    return (
        f"stream: {moved / _MIB:.0f} MiB instead of {wanted / _MIB:.0f} MiB, for the system was slow to hand "
        "them out: part of it may have come from the cache"
    )


if __name__ == "__main__":
    main()
