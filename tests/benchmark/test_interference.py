import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.interference import CpuTicks, Interference, cpu_ticks
from benchmark.interleave import measure
from benchmark.plan import QUICK
from benchmark.protocol import Open
from edgepress.artifact import Device, Runtime


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of a machine with three cores, of which this process may use the first two."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 120 30 0 0 20 0 5 0 99 0 0")
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 9 9\n"
        "cpu0 100 10 20 1000 5 1 2 3 50 0\n"
        "cpu1 200 0 0 800 0 0 0 0 0 0\n"
        "cpu2 9999 0 0 0 0 0 0 0 0 0\n"
        "intr 5\n"
    )
    return tmp_path


def test_cpu_ticks_counts_our_cores_and_the_process(proc: Path) -> None:
    busy = (100 + 10 + 20 + 1 + 2 + 3) + 200  # stolen time is busy, guest time is in user time already
    assert cpu_ticks(7, proc) == CpuTicks(busy + 1005 + 800, busy, 150)


@pytest.mark.parametrize("text", ["", "cpu0 x y", "7 (a) S"])
def test_cpu_ticks_is_none_where_the_system_does_not_tell(proc: Path, text: str) -> None:
    assert cpu_ticks(8, proc) is None
    (proc / "7" / "stat").write_text(text)
    assert cpu_ticks(7, proc) is None


def test_interference_is_what_is_neither_idle_nor_the_processs_own() -> None:
    found = Interference().plus(CpuTicks(0, 0, 0), CpuTicks(200, 150, 100))
    assert found.share == 0.25
    assert found.plus(None, CpuTicks(1, 1, 1)) == found
    assert found.plus(CpuTicks(0, 0, 0), CpuTicks(200, 99, 100)).share == 0.125  # never below 0
    assert Interference(99, 50).share is None


@pytest.mark.serial
def test_measure_sees_a_process_that_takes_a_core(tiny_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "input.npy", np.zeros((1, 8, 8, 3), np.float32))
    subject = Open(Runtime.ONNXRUNTIME, Device.CPU, str(tiny_folder / "onnx-fp32.onnx"), 1)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        try:
            (run,) = measure([subject], tmp_path / "input.npy", QUICK, seed=0)
        finally:
            burner.kill()
    share = run.interference.share
    assert share is not None
    assert share > 0.8 / len(os.sched_getaffinity(0)) - 0.1
