import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import worker_process
from benchmark.measurement import RESULTS, Results, Status
from benchmark.plan import Plan
from benchmark.preparation import BenchmarkRequest
from benchmark.protocol import Block
from benchmark.quantities import Basis, State
from benchmark.rows import ACCURACY_ONLY
from benchmark.stage import benchmark_folder
from edgepress.artifact import Device, Precision
from edgepress.errors import InputError
from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest
from edgepress.preprocessing import PreprocessMode

ABSENCE = "libcuda.so.1 not found: no NVIDIA driver"


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.station.cuda_device_absence", lambda: ABSENCE)


@pytest.fixture
def request_(tiny_folder: Path, tiny_data: str, tiny_plan: Plan) -> BenchmarkRequest:
    return BenchmarkRequest(
        folder=tiny_folder,
        device=Device.CPU,
        variants=None,
        data=tiny_data,
        quick=True,
        threads=1,
        limit=None,
        seed=0,
    )


def test_benchmark_folder_measures_every_row(request_: BenchmarkRequest) -> None:
    told: list[tuple[int, int]] = []
    results = benchmark_folder(request_, lambda task, done, total: told.append((done, total)))
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)
    assert not results.failed()
    ran = {row.artifact: row for row in results.results if row.status is Status.OK}
    assert list(ran) == ["onnx-fp32", "onnx-wf16_af16", "onnx-int8", "tensorrt-int8"]
    for row in ran.values():
        assert row.accuracy is not None
        assert row.accuracy.images == 12
        assert row.accuracy.top1 is not None
        if row.artifact == "tensorrt-int8":
            assert (row.latency, row.reason) == (None, ACCURACY_ONLY)
            continue
        assert row.latency is not None
        assert row.latency.p90_ns is None or len(row.latency.samples_ns) >= 64
        assert sum(row.latency.block_counts) == len(row.latency.samples_ns)
        assert row.speedup is not None
        assert row.speedup.against == "onnx-fp32"
        assert row.memory is not None
        assert row.peak_rss_bytes == row.memory.peak_rss_bytes
    fp16, int8 = ran["onnx-wf16_af16"], ran["onnx-int8"]
    assert fp16.accuracy is not None
    assert fp16.accuracy.logit_snr_db is not None
    assert fp16.accuracy.logit_snr_db > 50
    assert [row.precision for row in (ran["onnx-fp32"], fp16, int8)] == [
        *(Precision.FP32, Precision.FP16, Precision.INT8)
    ]
    assert all(row.promised is row.precision and row.shares is not None for row in ran.values())
    assert int8.accuracy is not None
    assert int8.accuracy.logit_snr_db is not None
    assert int8.speedup is not None
    assert len(int8.speedup.pair_ratios) == results.plan.pairs * results.plan.restarts
    assert int8.speedup.restart_counts == (results.plan.pairs,) * results.plan.restarts
    assert int8.speedup_vs_fp16 is not None
    assert (int8.speedup_vs_fp16.against, int8.speedup_vs_fp16.basis) == ("onnx-wf16_af16", Basis.QUOTIENT)
    assert fp16.speedup_vs_fp16 is None
    assert results.baseline.artifact == "onnx-fp32"
    assert results.data.evaluated == 12


def test_benchmark_folder_gives_gpu_rows_a_reason(request_: BenchmarkRequest) -> None:
    results = benchmark_folder(replace(request_, variants=("onnx-fp32", "engine-sm86-int8")))
    skipped = {(row.artifact, row.runner): row for row in results.results if row.device is Device.CUDA}
    assert set(skipped) == {
        ("onnx-fp32", "onnxruntime-cuda"),
        ("onnx-fp32", "onnxruntime-tensorrt"),
        ("engine-sm86-int8", "tensorrt-rtx"),
    }
    for row in skipped.values():
        assert (row.status, row.reason) == (Status.SKIPPED, f"no CUDA device ({ABSENCE})")
        assert (row.latency, row.accuracy, row.speedup, row.peak_rss_bytes) == (None,) * 4


def test_results_survive_the_file(request_: BenchmarkRequest) -> None:
    results = benchmark_folder(request_)
    assert Results.load(request_.folder) == results
    text = (request_.folder / RESULTS).read_text()
    assert max(len(line) for line in text.splitlines()) > 200  # samples on one line
    contract = json.loads(text)
    assert set(contract) >= {"schema_version", "environment", "baseline", "results"}
    assert set(contract["results"][0]) >= {
        *("artifact", "format", "precision", "recipe", "runner", "device", "threads", "batch", "status"),
        *("reason", "latency", "speedup", "speedup_vs_fp16", "accuracy", "size_bytes", "peak_rss_bytes"),
    }


def test_benchmark_folder_does_not_measure_again_when_nothing_changed(request_: BenchmarkRequest) -> None:
    benchmark_folder(request_)
    before = (request_.folder / RESULTS).stat().st_mtime_ns
    told: list[int] = []
    benchmark_folder(request_, lambda task, done, total: told.append(done))
    assert (request_.folder / RESULTS).stat().st_mtime_ns == before
    assert told == []


def test_benchmark_folder_measures_again_when_asked_to(request_: BenchmarkRequest) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    first = benchmark_folder(small)
    second = benchmark_folder(replace(small, again=True))
    assert (second.key, second.results == first.results) == (first.key, False)


@pytest.mark.parametrize("change", [{"threads": 2}, {"limit": 5}, {"seed": 1}, {"variants": ("onnx-fp32",)}])
def test_benchmark_folder_measures_again_when_the_request_changed(
    request_: BenchmarkRequest, change: dict[str, Any]
) -> None:
    small = replace(request_, variants=("onnx-fp32", "onnx-int8"))
    first = benchmark_folder(small)
    assert benchmark_folder(replace(small, **change)).key != first.key


def test_benchmark_folder_measures_again_when_the_pictures_mean_something_else(
    request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    first = benchmark_folder(small)
    manifest = Manifest.load(small.folder)
    other = replace(manifest.model.preprocessing, mode=PreprocessMode.TORCH)
    replace(manifest, model=replace(manifest.model, preprocessing=other)).save()
    keys = {first.key, benchmark_folder(small).key}
    monkeypatch.setattr("benchmark.blank_results.DECODING_VERSION", 99)
    assert len({*keys, benchmark_folder(small).key}) == 3


def test_benchmark_folder_refuses_more_threads_than_cores(request_: BenchmarkRequest) -> None:
    with pytest.raises(InputError, match=r"--threads 99999: this process may use \d+ cores"):
        benchmark_folder(replace(request_, threads=99999))


def test_benchmark_folder_measures_again_when_the_results_are_damaged(request_: BenchmarkRequest) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    benchmark_folder(small)
    (small.folder / RESULTS).write_text("{")
    benchmark_folder(small)
    assert Results.load(small.folder).results


def test_benchmark_folder_measures_again_when_a_row_had_failed(request_: BenchmarkRequest) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    first = benchmark_folder(small)
    broken = replace(first.results[0], status=Status.FAILED, reason="its process was ended by SIGKILL")
    replace(first, results=(broken, *first.results[1:])).save(small.folder)
    assert not benchmark_folder(small).failed()


def test_benchmark_folder_refuses_cuda_without_a_device(request_: BenchmarkRequest) -> None:
    with pytest.raises(InputError, match="--device cuda: no CUDA device .libcuda.so.1 not found"):
        benchmark_folder(replace(request_, device=Device.CUDA))


def test_benchmark_folder_refuses_a_changed_artifact(request_: BenchmarkRequest) -> None:
    path = request_.folder / "onnx-int8.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"onnx-int8: .* was changed: SHA-256"):
        benchmark_folder(request_)
    assert not (request_.folder / RESULTS).exists()


def test_benchmark_folder_asks_for_data(request_: BenchmarkRequest) -> None:
    with pytest.raises(InputError, match="tiny be evaluated on.*--data"):
        benchmark_folder(replace(request_, data=None))


def test_benchmark_folder_without_an_fp32_artifact_is_refused(request_: BenchmarkRequest) -> None:
    manifest = Manifest.load(request_.folder)
    replace(manifest, artifacts=manifest.artifacts[1:3]).save()
    with pytest.raises(InputError, match="has no FP32 artifact that a runtime here can run"):
        benchmark_folder(request_)


def test_a_killed_process_fails_its_row_only(
    request_: BenchmarkRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker_process.WorkerProcess.ask
    victims: list[int] = []

    def ask(self: Any, request: Any, *rest: Any) -> Any:
        # The second subject's warm-up belongs to the first row that has a partner: onnx-wf16_af16.
        if isinstance(request, Block) and request.extent.count == 5 and len(victims) == 6:
            os.kill(self.pid, signal.SIGKILL)
        victims.extend([self.pid] if isinstance(request, Block) and request.extent.count == 5 else [])
        return real(self, request, *rest)

    monkeypatch.setattr(worker_process.WorkerProcess, "ask", ask)
    results = benchmark_folder(request_)
    (failed,) = results.failed()
    assert failed.artifact == "onnx-wf16_af16"
    assert failed.reason == "its process was ended by SIGKILL (out of memory?)"
    assert (failed.latency, failed.accuracy) == (None, None)
    assert {row.artifact for row in results.results if row.status is Status.OK} == {
        *("onnx-fp32", "onnx-int8", "tensorrt-int8")
    }


def test_a_file_that_cannot_be_loaded_fails_its_row_only(request_: BenchmarkRequest) -> None:
    manifest = Manifest.load(request_.folder)
    path = request_.folder / "onnx-int8.onnx"
    path.write_bytes(b"no model")
    changed = replace(manifest.get("onnx-int8"), sha256=sha256_of_path(path))
    manifest.with_artifact(changed).save()
    results = benchmark_folder(replace(request_, variants=("onnx-fp32", "onnx-int8")))
    (failed,) = results.failed()
    assert failed.artifact == "onnx-int8"
    assert failed.reason is not None
    assert "ONNX Runtime cannot load" in failed.reason


def test_a_picture_that_cannot_be_read_stops_the_run(request_: BenchmarkRequest, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "1.png")
    (folder / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2.jpg cannot be decoded"):
        benchmark_folder(replace(request_, data=str(folder.parent)))
    assert not (request_.folder / RESULTS).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No results.json in"),
        ("{", "cannot be read"),
        ('{"schema_version": 99}', "schema version 99, wanted 4"),
        ('{"schema_version": 4}', "is damaged .*missing or unknown fields"),
    ],
)
def test_load_refuses_a_damaged_file(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / RESULTS).write_text(content)
    with pytest.raises(InputError, match=message):
        Results.load(tmp_path)


@pytest.mark.serial
def test_benchmark_folder_measures_real_int8(digits_optimized: Path, copy_of: Any) -> None:
    folder = copy_of(digits_optimized)
    variants = ("tflite-fp32", "tflite-static_wi8_ai8")
    results = benchmark_folder(
        BenchmarkRequest(folder, Device.CPU, variants, None, quick=True, threads=1, limit=50, seed=0)
    )
    fp32, int8 = results.results
    assert int8.precision is Precision.INT8
    assert results.baseline.artifact == "saved_model-fp32"
    assert results.data.evaluated == 50
    for row in (fp32, int8):
        assert row.status is Status.OK
        assert row.latency is not None
        assert row.latency.first_ns >= row.latency.min_ns
        assert row.peak_rss_bytes is not None
        assert row.peak_rss_bytes > 0
        assert row.accuracy is not None
        assert row.accuracy.agreement >= 0.9
        assert row.evidence is not None
        assert "XNNPACK" in row.evidence
    assert int8.size_bytes < 0.3 * fp32.size_bytes


def test_a_version_that_is_secretly_fp32_is_renamed_and_invalid(request_: BenchmarkRequest) -> None:
    manifest = Manifest.load(request_.folder)
    shutil.copy(request_.folder / "onnx-fp32.onnx", request_.folder / "onnx-int8.onnx")
    lie = replace(manifest.get("onnx-int8"), sha256=manifest.get("onnx-fp32").sha256)
    manifest.with_artifact(lie).save()
    results = benchmark_folder(replace(request_, variants=("onnx-fp32", "onnx-int8")))
    row = next(r for r in results.results if (r.artifact, r.status) == ("onnx-int8", Status.OK))
    assert (row.promised, row.precision) == (Precision.INT8, Precision.FP32)
    assert row.verdict is not None
    assert row.verdict.state is State.INVALID
    assert row.verdict.reasons == ("the manifest says int8, and its MACs are 100% fp32",)
    assert results.invalid() == (row,)


def test_a_results_file_that_was_edited_is_refused_and_measured_anew(request_: BenchmarkRequest) -> None:
    small = replace(request_, variants=("onnx-fp32",))
    results = benchmark_folder(small)
    path = small.folder / RESULTS
    text = path.read_text()
    assert results.results[0].latency is not None
    median = json.dumps(results.results[0].latency.median_ns)
    path.write_text(text.replace(f'"median_ns": {median}', '"median_ns": 1.0'))
    assert path.read_text() != text
    with pytest.raises(InputError, match=r"was edited: its numbers are not those that were measured"):
        Results.load(small.folder)
    benchmark_folder(small)
    assert Results.load(small.folder).key == results.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runners": ("onnxruntim",)}, "Unknown runner 'onnxruntim'. Did you mean 'onnxruntime'"),
        (
            {"offline": (1, 10**12)},
            "--offline 1000000000000: the pictures of one batch .* GB.*smaller",
        ),
    ],
)
def test_benchmark_folder_refuses_what_it_cannot_run(
    request_: BenchmarkRequest, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        benchmark_folder(replace(request_, **change))
    assert not (request_.folder / RESULTS).exists()
