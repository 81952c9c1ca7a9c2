import mmap
from pathlib import Path

import pytest

from benchmark import memory
from benchmark.memory import Residence, device_used_bytes, forget_peak, residence
from benchmark.protocol import Occupied, Open, Opened, Prepare
from benchmark.worker_process import WorkerProcess
from edgepress.artifact import Device, Runtime
from edgepress.doctor.fact import Unknown

STATUS = "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
SMAPS = """\
7f0000000000-7f0000100000 r--p 00000000 fe:00 11   {model}
Size:               1024 kB
Rss:                  40 kB
Pss:                  40 kB
7f0000100000-7f0000200000 rw-p 00000000 00:00 0
Rss:                 512 kB
7f0000200000-7f0000300000 r--p 00100000 fe:00 11   {model}
Rss:                   8 kB
7f0000300000-7f0000400000 r-xp 00000000 fe:00 12   {model}.so
Rss:                 256 kB
7f0000400000-7f0000500000 r--p 00000000 fe:00 13   {model}/variables/variables.data-00000-of-00001
Rss:                   4 kB
7ffd00000000-7ffd00100000 rw-p 00000000 00:00 0    [stack]
Rss:                 132 kB
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc/self of a process that has mapped "a model.tflite" of this folder, among others."""
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "smaps").write_text(SMAPS.format(model=tmp_path.resolve() / "a model.tflite"))
    return tmp_path


def test_residence_reads_kilobytes(proc: Path) -> None:
    assert residence(None, proc) == Residence(1024 * 1024, 2048 * 1024, None)


def test_residence_counts_the_pages_of_the_models_own_files(proc: Path) -> None:
    assert residence(proc / "a model.tflite", proc).model_mapped_bytes == (40 + 8 + 4) * 1024
    (proc / "link").symlink_to(proc / "a model.tflite")
    assert residence(proc / "link", proc).model_mapped_bytes == (40 + 8 + 4) * 1024
    assert residence(proc / "other.tflite", proc).model_mapped_bytes == 0


def test_residence_is_none_where_there_is_no_proc(tmp_path: Path) -> None:
    assert residence(Path("model"), tmp_path / "none") == Residence(None, None, None)
    (tmp_path / "status").write_text(STATUS)
    assert residence(Path("model"), tmp_path) == Residence(1024 * 1024, 2048 * 1024, None)


def test_residence_sees_a_file_that_this_process_maps(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (1 << 20))
    if (before := residence(path).model_mapped_bytes) is None:
        pytest.skip("this system has no /proc/self/smaps")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        assert (before, residence(path).model_mapped_bytes) == (0, 1 << 20)


@pytest.mark.parametrize(
    ("runtime", "name", "is_mapped"),
    [
        (Runtime.LITERT, "tflite-fp32.tflite", True),
        (Runtime.ONNXRUNTIME, "onnx-fp32.onnx", False),
    ],
)
def test_litert_maps_its_file_and_onnx_runtime_copies_it(
    digits_folder: Path, runtime: Runtime, name: str, is_mapped: bool
) -> None:
    path = digits_folder / name
    with WorkerProcess() as process:
        empty = process.ask(Prepare(runtime, Device.CPU), Occupied).residence
        opened = process.ask(Open(runtime, Device.CPU, str(path), 1), Opened).residence
    if opened.rss_bytes is None or empty.rss_bytes is None:
        pytest.skip("this system does not tell what a process occupies")
    assert empty.model_mapped_bytes is None
    assert opened.model_mapped_bytes is not None
    if is_mapped:
        assert path.stat().st_size / 2 < opened.model_mapped_bytes < opened.rss_bytes
    else:
        assert opened.model_mapped_bytes == 0


def test_forget_peak_says_where_it_cannot(tmp_path: Path) -> None:
    assert not forget_peak(tmp_path / "none" / "clear_refs")
    assert forget_peak(tmp_path / "clear_refs")


def test_device_used_bytes_is_none_where_no_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "used_bytes_of_first", lambda: Unknown("no driver"))
    assert device_used_bytes() is None
    monkeypatch.setattr(memory, "used_bytes_of_first", lambda: 2**30)
    assert device_used_bytes() == 2**30
