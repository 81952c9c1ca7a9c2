"""What the machine can do at best: real products and real memory, with little of both."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark import ceilings, ceilings_worker
from benchmark.ceilings import (
    NO_FP16,
    NOT_ON_CUDA,
    Answer,
    Part,
    Task,
    last_level_cache_bytes,
    measured_ceilings,
)
from benchmark.interference import CpuTicks
from benchmark.matmul_onnx import Product, matmul_model
from benchmark.roofline import Ceilings, GemmRate
from edgepress.artifact import Device, Precision
from edgepress.isa import Isa, host_isa
from edgepress.record import to_json

MIB = 1 << 20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cache(core: int, index: int, level: int, kind: str, size: str, shared: str) -> dict[str, str]:
    folder = f"sys/devices/system/cpu/cpu{core}/cache/index{index}"
    named = {"level": str(level), "type": kind, "size": size, "shared_cpu_list": shared}
    return {f"{folder}/{name}": f"{text}\n" for name, text in named.items()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products and short looks, whatever other processes do meanwhile."""
    monkeypatch.setattr(ceilings_worker, "cpu_ticks", lambda pid: None)
    monkeypatch.setattr(ceilings_worker, "_SIZES", (64, 128))
    monkeypatch.setattr(ceilings_worker, "_GEMM_S", 0.01)
    monkeypatch.setattr(ceilings_worker, "_STREAM_S", 0.01)


def test_matmul_model_is_what_the_onnx_package_takes_for_one() -> None:
    onnx = pytest.importorskip("onnx")
    weights = np.arange(-150, 150).astype(np.int8).reshape(20, 15)
    model = onnx.load_from_string(matmul_model(Product.INT8, weights))
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), weights)


@pytest.mark.parametrize("product", Product)
def test_matmul_model_multiplies(product: Product) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    _, a_type, b_type, c_type = product.value
    draw = np.random.default_rng(0)
    a = draw.integers(0, 256, (3, 200)).astype(a_type)
    b = draw.integers(-100, 100, (200, 7)).astype(b_type)
    session = onnxruntime.InferenceSession(matmul_model(product, b), providers=["CPUExecutionProvider"])
    (c,) = session.run(None, {"a": a})
    assert c.dtype == c_type
    if product is Product.INT8 and host_isa() in {Isa.X86_AVX2, Isa.X86_AVX512}:
        return  # sums of pairs may saturate in 16 bits
    assert np.array_equal(c, a.astype(np.int64) @ b.astype(np.int64))


def test_best_rate_counts_products_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings_worker, "_SIZES", (100, 200, 400))
    sizes: list[int] = []

    def product_of(size: int) -> ceilings_worker.Work:
        sizes.append(size)
        return lambda: time.sleep({100: 0.02, 200: 0.06}[size])

    found = ceilings_worker.best_rate(Precision.FP32, "sleep", product_of)
    assert sizes == [100, 200]  # 400 would take longer than there is time for
    assert (found.size, found.precision, found.library) == (200, Precision.FP32, "sleep")
    assert 0.5 * 200**3 / 0.06 < found.macs_per_s <= 200**3 / 0.06


@pytest.mark.usefixtures("quick")
def test_each_part_measures_something() -> None:
    (numpy_rate,) = ceilings_worker.answer(Task(Part.NUMPY, 1, MIB)).gemm
    assert numpy_rate.macs_per_s > 1e7
    assert numpy_rate.library.startswith(f"numpy {np.__version__} (")
    found = ceilings_worker.answer(Task(Part.STREAM, 2, 4 * MIB))
    assert found.read_bytes_per_s is not None
    assert found.copy_bytes_per_s is not None
    assert min(found.read_bytes_per_s, found.copy_bytes_per_s) > 1e7
    assert found.notes == ()


@pytest.mark.usefixtures("quick")
def test_memory_that_the_system_is_slow_to_hand_out_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings_worker, "_TOUCH_S", 0.0)
    found = ceilings_worker.answer(Task(Part.STREAM, 2, 40 * MIB))
    assert found.read_bytes_per_s is not None
    assert found.notes == (
        "stream: 16 MiB instead of 40 MiB, for the system was slow to hand them out: "
        "part of it may have come from the cache",
    )


@pytest.mark.usefixtures("quick")
def test_cores_that_others_took_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter((CpuTicks(0, 0, 0), CpuTicks(200, 150, 50)))
    monkeypatch.setattr(ceilings_worker, "cpu_ticks", lambda pid: next(readings))
    found = ceilings_worker.answer(Task(Part.STREAM, 1, MIB))
    assert found.others_cpu == 0.5
    assert found.notes == ("stream: other processes took 50% of the cores meanwhile, so it may be too low",)


@pytest.mark.usefixtures("quick")
def test_onnx_runtime_measures_fp32_and_int8() -> None:
    pytest.importorskip("onnxruntime")
    found = ceilings_worker.answer(Task(Part.ONNXRUNTIME, 1, MIB))
    assert [rate.precision for rate in found.gemm] == [Precision.FP32, Precision.INT8]
    assert found.notes == ()


def test_without_onnx_runtime_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = ceilings_worker.answer(Task(Part.ONNXRUNTIME, 1, MIB))
    assert found == Answer(notes=("onnxruntime is not installed: no rate of INT8",))


def copied(array: NDArray[np.int64]) -> None:
    half = len(array) // 2
    np.copyto(array[half:], array[:half])


@pytest.mark.parametrize("work", [np.max, np.bitwise_or.reduce, copied], ids=["max", "or", "copy"])
def test_threads_work_at_the_same_time(work: Callable[[NDArray[np.int64]], object]) -> None:
    """While one thread goes through memory, another one can run Python: numpy lets go of its lock."""
    array = np.ones(32 * MIB // 8, np.int64)
    let_in = threading.Event()
    most = 100
    done: list[object] = []

    def repeat() -> None:
        while len(done) < most and not let_in.is_set():
            done.append(work(array))

    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(100)  # so that the lock changes hands only where it is let go
    try:
        thread = threading.Thread(target=repeat)
        thread.start()
        let_in.set()
        thread.join()
    finally:
        sys.setswitchinterval(usual_s)
    assert len(done) < most


def test_last_level_cache_counts_each_one_of_our_cores_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert last_level_cache_bytes(tmp_path) is None
    for core, sharers in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (4, "4-7")):
        tree(tmp_path, cache(core, 0, 1, "Data", "32K", str(core)))
        tree(tmp_path, cache(core, 1, 1, "Instruction", "64M", str(core)))
        tree(tmp_path, cache(core, 2, 3, "Unified", "16384K", sharers))
    assert last_level_cache_bytes(tmp_path) == 2 * 16 * MIB


@pytest.mark.parametrize(
    ("level", "available_kb", "array_bytes", "notes"),
    [
        ("32M", 8 << 20, 128 * MIB, ()),
        ("1024K", 8 << 20, 64 * MIB, ()),
        (
            "32M",
            100 << 10,
            25 * MIB,
            (
                "stream: 25 MiB instead of 128 MiB, for want of memory: "
                "part of it may have come from the cache",
            ),
        ),
        (None, 8 << 20, 256 * MIB, ("the size of the last-level cache is not known",)),
    ],
)
def test_the_arrays_outgrow_the_cache_but_not_the_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    level: str | None,
    available_kb: int,
    array_bytes: int,
    notes: tuple[str, ...],
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    tree(tmp_path, {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {available_kb} kB\nHuge: 0\n"})
    if level:
        tree(tmp_path, cache(0, 3, 3, "Unified", level, "0"))
    asked: list[Task] = []

    def answer(task: Task, command: object) -> Answer:
        asked.append(task)
        return Answer()

    monkeypatch.setattr(ceilings, "_answer", answer)
    found = measured_ceilings(3, Device.CPU, tmp_path)
    assert asked == [Task(part, 3, array_bytes) for part in Part]
    assert found.notes == (NO_FP16, *notes)


def test_the_best_library_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = (GemmRate(Precision.FP32, rate, name, 512) for rate, name in ((1e9, "a"), (2e9, "b")))
    int8 = GemmRate(Precision.INT8, 8e9, "b", 512)
    answers = {
        Part.NUMPY: Answer((slow,), others_cpu=0.02),
        Part.ONNXRUNTIME: Answer((fast, int8), notes=("note",)),
        Part.STREAM: Answer((), 3e9, 4e9, others_cpu=0.01),
    }
    monkeypatch.setattr(ceilings, "_answer", lambda task, command: answers[task.part])
    tree(tmp_path, {"proc/cpuinfo": "flags\t\t: fpu avx2 hypervisor\n"})
    found = measured_ceilings(2, Device.CPU, tmp_path)
    shared = "a virtual machine: its last-level cache and its memory are shared with other machines"
    notes = ("note", NO_FP16, "the size of the last-level cache is not known", shared)
    assert found == Ceilings(2, (fast, int8), 3e9, 4e9, None, notes, 0.02)


def test_a_part_that_fails_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import json, os, signal, sys, time\n"
        "task = json.load(sys.stdin)\n"
        "assert os.environ['OPENBLAS_NUM_THREADS'] == str(task['threads']) == '2'\n"
        "if task['part'] == 'numpy': os.kill(os.getpid(), signal.SIGILL)\n"
        "if task['part'] == 'onnxruntime': sys.exit('no such thing')\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(ceilings, "_PATIENCE_S", 1.0)
    found = measured_ceilings(2, Device.CPU, tmp_path, (sys.executable, "-c", code))
    assert found.notes[:3] == (
        "numpy: its process was ended by SIGILL",
        "onnxruntime: its process ended with exit code 1: no such thing",
        "stream: no answer within 1 s",
    )
    assert (found.gemm, found.read_bytes_per_s, found.copy_bytes_per_s) == ((), None, None)
    assert "No such file" in measured_ceilings(2, Device.CPU, tmp_path, ("/none/python",)).notes[0]


def test_a_gpu_has_no_ceilings_of_the_cpu(tmp_path: Path) -> None:
    found = measured_ceilings(2, Device.CUDA, tmp_path, ("/none/python",))
    assert found == Ceilings(2, (), None, None, None, (NOT_ON_CUDA,))


def test_the_worker_answers_on_stdout_only() -> None:
    """As it is started: one process, one line, whatever the libraries print."""
    found = ceilings._answer(Task(Part.STREAM, 1, MIB), ceilings.COMMAND)
    assert found.read_bytes_per_s is not None
    assert set(to_json(found)) == {"gemm", "read_bytes_per_s", "copy_bytes_per_s", "notes", "others_cpu"}
