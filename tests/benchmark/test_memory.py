from pathlib import Path

from benchmark.memory import Residence, forget_peak, residence


def test_residence_reads_kilobytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n")
    assert residence(status) == Residence(1024 * 1024, 2048 * 1024)


def test_residence_is_none_where_there_is_no_proc(tmp_path: Path) -> None:
    assert residence(tmp_path / "none") == Residence(None, None)


def test_forget_peak_says_where_it_cannot(tmp_path: Path) -> None:
    assert not forget_peak(tmp_path / "none" / "clear_refs")
    assert forget_peak(tmp_path / "clear_refs")
