"""The harness measured against its alternative, a bare loop; and what a loaded core does to its verdict."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.interleave import measure
from benchmark.latency import Extent
from benchmark.measurement import Result, Status
from benchmark.plan import FULL
from benchmark.preparation import BenchmarkRequest
from benchmark.protocol import Block, First, Occupied, Open, Opened, Prepare, Samples, Timed
from benchmark.quantities import State
from benchmark.stage import benchmark_folder
from benchmark.worker_process import WorkerProcess
from edgepress.artifact import Device, Runtime
from edgepress.machine import usable_cores
from edgepress.manifest import Manifest
from tests.performance.paired_latency import Engine, Version, bare_loop

pytestmark = [pytest.mark.serial]

MS = 1_000_000
SIDE = 64
PAIRS = 21


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Keras network of some milliseconds as ONNX and TFLite, and an input."""
    from edgepress.models.keras_import import import_keras
    from export.conversion import Conversion
    from export.onnx_from_keras import onnx_from_keras
    from export.tflite_from_keras import tflite_from_keras

    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            *(layers.Conv2D(width, 3, padding="same", activation="relu") for width in (32, 64, 64)),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    folder = tmp_path_factory.mktemp("convolutions")
    onnx_from_keras(Conversion(network))(folder / "model.onnx")
    tflite_from_keras(Conversion(network))(folder / "model.tflite")
    images = np.random.default_rng(0).normal(0, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    np.save(folder / "input.npy", images)
    return folder


ENGINES = {Runtime.ONNXRUNTIME: Engine.ONNXRUNTIME, Runtime.LITERT: Engine.LITERT}


def ratios_to_a_bare_loop(folder: Path, suffix: str, runtime: Runtime, threads: int) -> list[float]:
    """Our median over the bare loop's, per pair of neighbouring blocks in fresh processes."""
    path, inputs = folder / f"model.{suffix}", folder / "input.npy"
    ratios = []
    with bare_loop(Version(path, ENGINES[runtime]), inputs) as bare, WorkerProcess() as process:
        process.ask(Prepare(runtime, Device.CPU), Occupied)
        process.ask(Open(runtime, Device.CPU, str(path), threads), Opened)
        process.ask(First(str(inputs)), Timed)
        process.pause()
        bare.median_ms(200)
        for pair in range(PAIRS):
            block = Block(Extent(20 * MS, 1), Extent(80 * MS, 4))
            ours_first = pair % 2 == 0
            ours = _ours(process, block) if ours_first else 0.0
            theirs = bare.median_ms(80) * MS
            ratios.append((ours or _ours(process, block)) / theirs)
    return ratios


def _ours(process: WorkerProcess, block: Block) -> float:
    with process.running():
        return float(np.median(process.ask(block, Samples).samples_ns))


@pytest.mark.parametrize(("suffix", "runtime"), [("onnx", Runtime.ONNXRUNTIME), ("tflite", Runtime.LITERT)])
def test_our_median_is_that_of_a_bare_loop(convolutions: Path, suffix: str, runtime: Runtime) -> None:
    """Within 2 %. Two processes of the same file differ by chance as well: the median of three restarts."""
    threads = usable_cores()
    restarts = [
        float(np.median(ratios_to_a_bare_loop(convolutions, suffix, runtime, threads))) for _ in range(3)
    ]
    assert np.median(restarts) == pytest.approx(1, abs=0.02), restarts


def test_the_parent_sleeps(convolutions: Path) -> None:
    """Less than 1 % of one core while its processes measure."""
    subjects = [
        Open(Runtime.ONNXRUNTIME, Device.CPU, str(convolutions / "model.onnx"), usable_cores())
        for _ in range(2)
    ]
    plan = replace(FULL, restarts=2)
    with measured_cpu_s() as used:
        measure(subjects, convolutions / "input.npy", plan, seed=0)
    cpu_s, wall_s = used
    assert wall_s > 4
    assert cpu_s / wall_s < 0.01


@contextmanager
def measured_cpu_s() -> Iterator[list[float]]:
    """CPU time of this process alone, and wall time, of the block inside."""
    found: list[float] = []
    before, start_ns = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter_ns()
    yield found
    after = resource.getrusage(resource.RUSAGE_SELF)
    found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    found.append((time.perf_counter_ns() - start_ns) / 1e9)


@contextmanager
def one_core_loaded() -> Iterator[None]:
    """Another process that spins on the first of our cores."""
    core = min(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            yield
        finally:
            other.kill()


def speedup_row(folder: Path, variant: str) -> Result:
    request = BenchmarkRequest(folder, variants=(variant,), data="digits", limit=20, again=True)
    (row,) = [row for row in benchmark_folder(request).results if row.status is Status.OK]
    assert row.speedup is not None
    assert row.verdict is not None
    return row


def test_a_loaded_core_makes_a_row_unstable_or_lies_within_its_interval(
    digits_optimized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits_optimized, folder)
    monkeypatch.setattr("benchmark.preparation.FULL", replace(FULL, restarts=4))
    variant = next(a.id for a in Manifest.load(folder).artifacts if a.id.startswith("onnx-static"))
    quiet = speedup_row(folder, variant)
    with one_core_loaded():
        loaded = speedup_row(folder, variant)
    assert quiet.speedup is not None
    assert loaded.speedup is not None
    assert loaded.verdict is not None
    low, high = loaded.speedup.ci95
    covers_both = all(low <= found.median <= high for found in (quiet.speedup, loaded.speedup))
    assert covers_both or loaded.verdict.state is State.UNSTABLE
    assert loaded.latency is not None
    assert loaded.latency.others_cpu is not None
    assert loaded.latency.others_cpu > 0.5 / usable_cores()
