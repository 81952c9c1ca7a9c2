"""The measuring process with a plan on a GPU: fakes of TensorRT and CUDA (tests/fakes), the real worker."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import worker as worker_module
from benchmark.latency import Extent
from benchmark.measurement import Result, Results, Status
from benchmark.protocol import Block, Failure, First, Memory, OnDevice, Open, request_to_json
from benchmark.quantities import DeviceLatency, GpuConduct
from benchmark.report.csv_table import csv_text
from benchmark.report.gpu import gpu
from benchmark.worker import Worker
from edgepress.artifact import Device
from edgepress.doctor.gpu_moment import GpuMoment
from edgepress.record import from_json
from edgepress.runners.runner import DeviceTime
from edgepress.runners.tensorrt_runner import TensorRtRunner
from tests.fakes.fake_cuda import MIB, Error, FakeCuda, Injection, Pace
from tests.fakes.fake_plan_runtime import KERNEL_NS, FakePlanRuntime, Spec, plan_bytes, write_plan

MOMENT = GpuMoment(1410, 5001, 40_000, ())
NOTHING = Extent(0, 0)


class Harness:
    """A worker that opens plans on the fakes, asked as the parent asks it: in JSON."""

    def __init__(self, folder: Path, cuda: FakeCuda) -> None:
        self.cuda = cuda
        content = plan_bytes(Spec(((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))))
        self.plan = write_plan(folder / "m.plan", content)
        self.images = folder / "input.npy"
        np.save(self.images, np.ones((1, 2, 2, 3), np.float32))
        self.worker = Worker(cuda.clock)

    def open(self, path: Path, threads: int) -> TensorRtRunner:
        return TensorRtRunner(path, lambda: (FakePlanRuntime(self.cuda), self.cuda))

    def ask(self, request: Any) -> dict[str, Any]:
        return worker_module._answered(self.worker, json.dumps(request_to_json(request)))

    def start(self) -> None:
        opened = self.ask(Open("tensorrt", Device.CUDA, str(self.plan), 1))
        assert opened["reply"]["evidence"].startswith("TensorRT 10 (10.3.0), Fake RTX A2000 (8.6)")
        assert self.ask(First(str(self.images)))["reply"]["duration_ns"] > 0


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    made = Harness(tmp_path, FakeCuda(pace=Pace(copy_ns=1_000, copy_bytes_per_ns=1, call_ns=0)))
    return patched(made, monkeypatch)


def patched(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr(worker_module, "runner_for", lambda name, device: harness.open)
    monkeypatch.setattr(worker_module, "moment_of_first", lambda: MOMENT)
    monkeypatch.setattr(worker_module, "device_used_bytes", lambda: 900 * MIB)
    monkeypatch.setattr(worker_module, "device_process_bytes", lambda: 310 * MIB)
    harness.worker._device = Device.CUDA  # as `Prepare` says; TensorRT itself cannot be imported here
    return harness


def test_a_block_holds_end_to_end_times_and_the_gpu_around_it(harness: Harness) -> None:
    harness.start()
    found = harness.ask(Block(NOTHING, Extent(0, 3)))["reply"]
    copies_ns = (1_000 + 48) + (1_000 + 8)
    assert found["samples_ns"] == [KERNEL_NS + copies_ns] * 3
    assert found["gpu"] == [{"sm_mhz": 1410, "memory_mhz": 5001, "power_mw": 40_000, "slowdowns": []}] * 2


def test_the_device_tells_copies_compute_and_memory_apart(harness: Harness) -> None:
    harness.start()
    told = harness.ask(OnDevice(2))["reply"]
    assert told["times"] == [{"upload_ns": 1_048, "compute_ns": KERNEL_NS, "download_ns": 1_008}] * 2
    assert told["memory"] == {"activation_bytes": 2 * MIB, "taken_bytes": 6 * MIB + 48 + 16}
    occupied = harness.ask(Memory())["reply"]
    assert (occupied["device_used_bytes"], occupied["device_process_bytes"]) == (900 * MIB, 310 * MIB)
    harness.worker.close()
    harness.cuda.assert_nothing_left()


def test_a_gpu_lost_in_a_block_is_told_and_the_block_before_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Injection(Error.cudaErrorUnknown, 6, "cudaStreamSynchronize")
    harness = patched(Harness(tmp_path, FakeCuda(lost)), monkeypatch)
    harness.start()
    assert len(harness.ask(Block(NOTHING, Extent(0, 3)))["reply"]["samples_ns"]) == 3
    failure = from_json(Failure, harness.ask(Block(NOTHING, Extent(0, 3)))["failure"])
    assert failure.kind.value == "device"
    assert failure.message.startswith(
        "CUDA: cudaStreamSynchronize gave cudaErrorUnknown, wanted cudaSuccess."
    )
    harness.worker.close()  # says nothing more
    harness.cuda.assert_nothing_left()


def test_out_of_memory_at_loading_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Injection(Error.cudaErrorMemoryAllocation, 1, "cudaMalloc")
    harness = patched(Harness(tmp_path, FakeCuda(full)), monkeypatch)
    failure = harness.ask(Open("tensorrt", Device.CUDA, str(harness.plan), 1))["failure"]
    assert failure["kind"] == "device"
    assert "cudaMalloc of 48 bytes gave cudaErrorMemoryAllocation" in failure["message"]
    harness.cuda.assert_nothing_left()


def on_gpu(row: Result) -> Result:
    assert row.memory is not None
    memory = replace(
        row.memory,
        device_bytes=9_000_000,
        device_process_bytes=310_000_000,
        device_taken_bytes=8_000_000,
        device_activation_bytes=2_000_000,
    )
    times = (DeviceTime(100_000, 2_000_000, 10_000),)
    return replace(
        row,
        device=Device.CUDA,
        memory=memory,
        device_latency=DeviceLatency(times, 100_000.0, 2_000_000.0, 10_000.0),
        gpu=GpuConduct((1395, 1410), (5001, 5001), (38_200, 41_000), ("power brake",)),
    )


def test_the_report_keeps_the_numbers_of_a_gpu_apart(measured_tiny: Results) -> None:
    row = on_gpu(next(row for row in measured_tiny.results if row.status is Status.OK and row.memory))
    results = replace(measured_tiny, results=(row,))
    times, memory, clocks = (table.rows[0] for table in gpu(results).tables)
    assert times[2:5] == ("0.100", "2.00", "0.010")
    assert memory[3:] == ("2.0", "8.0", "310", "9.0")
    assert clocks[2:] == ("1395–1410", "5001", "38–41", "power brake")
    assert gpu(measured_tiny).is_empty
    (cells,) = csv.DictReader(csv_text(results).splitlines())
    assert cells["device_compute_ns"] == "2000000.0"
    assert cells["gpu_sm_mhz_low"] == "1395"
