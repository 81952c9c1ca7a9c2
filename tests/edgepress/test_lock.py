import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgepress.files import atomic_path
from edgepress.lock import exclusive

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from edgepress.files import atomic_path
from edgepress.lock import exclusive
with exclusive(Path(sys.argv[1])), atomic_path(Path(sys.argv[1]) / "model") as temporary:
    temporary.write_bytes(b"half")
    print("holding", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds the lock of `folder` and is in the middle of writing a file there."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_exclusive_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert len(os.listdir(tmp_path)) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(os.listdir(tmp_path)) == 1
    with exclusive(tmp_path):
        assert os.listdir(tmp_path) == []


def test_exclusive_leaves_no_file_behind_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path), atomic_path(tmp_path / "file") as temporary:
            temporary.write_bytes(b"whole")
    assert os.listdir(tmp_path) == ["file"]


def test_exclusive_of_a_folder_that_is_not_there_creates_none(tmp_path: Path) -> None:
    with exclusive(tmp_path / "nowhere"):
        pass
    assert os.listdir(tmp_path) == []


def test_second_run_waits_and_says_so(tmp_path: Path) -> None:
    process = holder(tmp_path)
    command = [sys.executable, "-m", "edgepress.cli", "optimize", str(tmp_path)]
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert second.stderr is not None
    assert "is in use by another run of edgepress; waiting until it has ended" in second.stderr.readline()
    time.sleep(0.2)
    assert second.poll() is None
    process.kill()
    process.wait()
    assert second.wait(timeout=20) == 2
    assert "No manifest.json in" in second.stderr.read()
