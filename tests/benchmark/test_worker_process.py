"""The measuring process: a protocol that noise cannot harm, and a process that is never left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.latency import Extent
from benchmark.protocol import (
    Block,
    FailureKind,
    First,
    Memory,
    Occupied,
    Open,
    Opened,
    Prepare,
    Samples,
    Timed,
)
from benchmark.worker_process import WorkerError, WorkerProcess
from edgepress.artifact import Device, Runtime

MS = 1_000_000


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def state_of(pid: int) -> str:
    """One letter of proc(5), or "" where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until_gone(pid: int) -> bool:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        if state_of(pid) in {"", "Z"}:
            return True
        time.sleep(0.02)
    return False


def test_ask_measures_a_real_artifact(tiny_folder: Path, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "input.npy", np.zeros((1, 8, 8, 3), np.float32))
    with WorkerProcess() as process:
        prepared = process.ask(Prepare(Runtime.ONNXRUNTIME, Device.CPU), Occupied)
        opened = process.ask(
            Open(Runtime.ONNXRUNTIME, Device.CPU, str(tiny_folder / "onnx-fp32.onnx"), 1), Opened
        )
        first = process.ask(First(str(tmp_path / "input.npy")), Timed)
        samples = process.ask(Block(Extent(0, 1), Extent(MS, 20)), Samples)
        memory = process.ask(Memory(), Occupied)
    assert opened.evidence == "CPUExecutionProvider"
    assert opened.load_ns > 0
    assert first.duration_ns > 0
    assert len(samples.samples_ns) >= 20
    assert sum(samples.samples_ns) <= 60_000 * MS
    assert prepared.residence.rss_bytes is not None
    assert memory.residence.peak_rss_bytes is not None
    assert memory.residence.peak_rss_bytes >= prepared.residence.rss_bytes
    assert memory.device_used_bytes is None


NOISE = """
import os, sys
from benchmark import worker
answer = worker.Worker.answer
def noisy(self, request):
    os.write(1, b'native noise {"reply": 1}\\n')
    os.write(2, b'more noise\\n')
    print('python noise', flush=True)
    return answer(self, request)
worker.Worker.answer = noisy
worker.main()
"""


def test_ask_is_not_disturbed_by_what_frameworks_print() -> None:
    with WorkerProcess(python(NOISE)) as process:
        assert process.ask(Memory(), Occupied).residence.rss_bytes
        assert process.ask(Memory(), Occupied).residence.rss_bytes


def test_ask_gives_an_input_error_of_the_worker_and_goes_on(tmp_path: Path) -> None:
    with WorkerProcess() as process:
        with pytest.raises(WorkerError, match="ONNX Runtime cannot load") as caught:
            process.ask(Open(Runtime.ONNXRUNTIME, Device.CPU, str(tmp_path / "none.onnx"), 1), Opened)
        assert caught.value.failure.kind is FailureKind.INPUT
        with pytest.raises(WorkerError, match="wanted `Open` before"):
            process.ask(Block(Extent(0, 1), Extent(0, 1)), Samples)
        assert process.ask(Memory(), Occupied).residence.rss_bytes


def test_ask_says_that_a_provider_is_missing(tiny_folder: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with (
        WorkerProcess() as process,
        pytest.raises(WorkerError, match="has no CUDAExecutionProvider") as caught,
    ):
        path = str(tiny_folder / "onnx-fp32.onnx")
        process.ask(Open(Runtime.ONNXRUNTIME_CUDA, Device.CUDA, path, 1), Opened)
    assert caught.value.failure.kind is FailureKind.MISSING


def test_ask_tells_how_the_process_ended() -> None:
    crash = python("import sys; sys.stdin.readline(); raise RuntimeError('no luck')")
    with (
        WorkerProcess(crash) as process,
        pytest.raises(WorkerError, match="exit code 1: .*no luck") as caught,
    ):
        process.ask(Memory(), Occupied)
    assert caught.value.failure.kind is FailureKind.CRASH


def test_ask_tells_which_signal_ended_the_process() -> None:
    with WorkerProcess() as process:
        process.ask(Memory(), Occupied)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"ended by SIGKILL \(out of memory\?\)"):
            process.ask(Memory(), Occupied)


def test_ask_loses_patience() -> None:
    silent = python("import time; time.sleep(60)")
    with WorkerProcess(silent) as process, pytest.raises(WorkerError, match="no answer to Memory") as caught:
        process.ask(Memory(), Occupied, patience_s=0.2)
    assert caught.value.failure.kind is FailureKind.TIMEOUT


def test_pause_stops_the_process_and_resume_lets_it_answer() -> None:
    with WorkerProcess() as process:
        process.ask(Memory(), Occupied)
        process.pause()
        assert state_of(process.pid) == "T"
        with pytest.raises(WorkerError, match="no answer"):
            process.ask(Memory(), Occupied, patience_s=0.2)
        process.resume()
        assert process.ask(Memory(), Occupied).residence.rss_bytes


def test_exit_ends_a_stopped_process() -> None:
    with pytest.raises(KeyboardInterrupt), WorkerProcess() as process:
        process.ask(Memory(), Occupied)
        process.pause()
        raise KeyboardInterrupt
    assert state_of(process.pid) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_a_stopped_process_does_not_outlive_a_killed_parent() -> None:
    code = (
        "import time\n"
        "from benchmark.protocol import Memory, Occupied\n"
        "from benchmark.worker_process import WorkerProcess\n"
        "with WorkerProcess() as process:\n"
        "    process.ask(Memory(), Occupied)\n"
        "    process.pause()\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert state_of(child) == "T"
        parent.kill()
    assert wait_until_gone(child)
