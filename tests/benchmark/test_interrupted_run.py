"""Ctrl-C and a full disk: what is measured is kept, and the next run goes on from there."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark import row_measurement, stage
from benchmark.measurement import RESULTS, Result, Results, Status
from benchmark.plan import Plan
from benchmark.preparation import BenchmarkRequest
from benchmark.quantities import State, Verdict
from benchmark.stage import INTERRUPTED, benchmark_folder
from edgepress.artifact import Device
from edgepress.errors import InputError


@pytest.fixture
def request_(tiny_folder: Path, tiny_data: str, tiny_plan: Plan) -> BenchmarkRequest:
    return BenchmarkRequest(tiny_folder, data=tiny_data, quick=True, threads=1)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Artifacts in the order in which they were measured."""
    order: list[str] = []

    def measured_row(job: Any, row: Any, *rest: Any) -> Result:
        order.append(row.artifact.id)
        return row_measurement.measured_row(job, row, *rest)

    monkeypatch.setattr(stage, "measured_row", measured_row)
    return order


def interrupt_at(artifact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = vars(stage)["measured_row"]

    def measured_row(job: Any, row: Any, *rest: Any) -> Result:
        if row.artifact.id == artifact:
            raise KeyboardInterrupt
        result: Result = real(job, row, *rest)
        return result

    monkeypatch.setattr(stage, "measured_row", measured_row)


def test_what_is_measured_is_kept_and_the_next_run_goes_on(
    request_: BenchmarkRequest,
    measured: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at("onnx-int8", patch)
        with pytest.raises(KeyboardInterrupt):
            benchmark_folder(request_)
    part = Results.load(request_.folder)
    assert [row.artifact for row in part.results if row.status is Status.OK] == [
        *("onnx-fp32", "onnx-wf16_af16")
    ]
    left = {row.artifact: row for row in part.results if row.reason == INTERRUPTED}
    assert set(left) == {"onnx-int8", "tensorrt-int8"}
    assert all(row.status is Status.SKIPPED and row.latency is None for row in left.values())
    assert "interrupted: 2 of 4 rows are kept" in caplog.text
    measured.clear()
    whole = benchmark_folder(request_)
    assert measured == ["onnx-int8", "tensorrt-int8"]
    assert whole.results[0].latency == part.results[0].latency
    assert sum(row.status is Status.OK for row in whole.results) == 4
    assert not [row for row in whole.results if row.reason == INTERRUPTED]


def test_an_interruption_before_the_first_row_leaves_the_old_file(
    request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    benchmark_folder(small)
    before = (request_.folder / RESULTS).read_bytes()
    interrupt_at("onnx-fp32", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        benchmark_folder(request_)
    assert (request_.folder / RESULTS).read_bytes() == before


def test_an_interrupted_again_keeps_what_an_earlier_run_had_measured(
    request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = benchmark_folder(request_)
    interrupt_at("onnx-int8", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        benchmark_folder(replace(request_, again=True))
    found = Results.load(request_.folder)
    times = [{r.artifact: r.latency for r in results.results if r.latency} for results in (first, found)]
    assert set(times[0]) == set(times[1])
    assert times[0]["onnx-int8"] == times[1]["onnx-int8"]
    assert times[0]["onnx-fp32"] != times[1]["onnx-fp32"]


def test_rows_that_were_measured_already_stay_when_another_had_failed(
    request_: BenchmarkRequest, measured: list[str]
) -> None:
    found = benchmark_folder(request_)
    failed = [
        replace(row, status=Status.FAILED, reason="killed") if row.artifact == "onnx-int8" else row
        for row in found.results
    ]
    replace(found, results=tuple(failed)).save(request_.folder)
    measured.clear()
    assert not benchmark_folder(request_).failed()
    assert measured == ["onnx-int8"]


def test_a_full_disk_keeps_the_old_file(request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    benchmark_folder(small)
    before = (request_.folder / RESULTS).read_bytes()
    real = os.fsync

    def full(handle: int) -> None:
        if RESULTS in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left while writing .*Free some disk"):
        benchmark_folder(replace(small, again=True))
    assert (request_.folder / RESULTS).read_bytes() == before
    assert [path.name for path in request_.folder.iterdir() if RESULTS in path.name] == [RESULTS]


def test_ctrl_c_at_the_command_line_ends_with_130_and_keeps_a_row(tiny_folder: Path, tiny_data: str) -> None:
    """The real command and the real signal, sent as soon as the first row is done."""
    command = [sys.executable, "-m", "edgepress.cli", "benchmark", str(tiny_folder), "--data", tiny_data]
    with subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        deadline_s = time.monotonic() + 120
        while "benchmark: 3 of" not in (line := process.stderr.readline()):
            assert line, "it ended before the signal"
            assert time.monotonic() < deadline_s
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    kept = Results.load(tiny_folder)
    assert [row.artifact for row in kept.results if row.status is Status.OK] == ["onnx-fp32"]


def test_an_interrupted_row_is_no_verdict(
    request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at("onnx-int8", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        benchmark_folder(request_)
    found = Results.load(request_.folder)
    verdicts: dict[str, Verdict | None] = {
        row.artifact: row.verdict for row in found.results if row.device is Device.CPU
    }
    assert verdicts["onnx-int8"] is None
    kept = verdicts["onnx-fp32"]
    assert kept is not None
    assert kept.state is not State.INVALID
