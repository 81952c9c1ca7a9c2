from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.rows import no_runner, rows_of, skip_reason
from edgepress.artifact import Device, Precision, Runtime
from edgepress.errors import InputError
from edgepress.manifest import Manifest
from edgepress.runners.runner import Purpose


def test_rows_of_a_manifest(tiny_folder: Path) -> None:
    rows = rows_of(Manifest.load(tiny_folder), None)
    found = [(row.artifact.id, row.runner, row.device.value) for row in rows]
    onnx = [("onnxruntime", "cpu"), ("onnxruntime-cuda", "cuda"), ("onnxruntime-tensorrt", "cuda")]
    assert found == [
        *((name, *place) for name in ("onnx-fp32", "onnx-wf16_af16", "onnx-int8") for place in onnx),
        ("tensorrt-int8", "onnxruntime-tensorrt", "cuda"),
        ("tensorrt-int8", "onnxruntime-emulation", "cpu"),
        ("engine-sm86-int8", "tensorrt-rtx", "cuda"),
    ]


def test_purpose_of_an_emulation_is_accuracy(tiny_folder: Path) -> None:
    purposes = {
        (row.artifact.id, row.runner): row.purpose for row in rows_of(Manifest.load(tiny_folder), None)
    }
    assert purposes["tensorrt-int8", Runtime.ONNXRUNTIME_EMULATION] is Purpose.ACCURACY
    assert purposes["tensorrt-int8", Runtime.ONNXRUNTIME_TENSORRT] is Purpose.LATENCY_AND_ACCURACY
    assert purposes["onnx-int8", Runtime.ONNXRUNTIME] is Purpose.LATENCY_AND_ACCURACY


def test_rows_of_chosen_variants(tiny_folder: Path) -> None:
    rows = rows_of(Manifest.load(tiny_folder), ("onnx-int8",))
    assert {row.artifact.id for row in rows} == {"onnx-int8"}


def test_rows_of_an_unknown_variant_suggests(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="Unknown variant 'onnx-int9'. Did you mean 'onnx-int8'?"):
        rows_of(Manifest.load(tiny_folder), ("onnx-int9",))


ABSENCE = "libcuda.so.1 not found: no NVIDIA driver"


@pytest.mark.parametrize(
    ("runner", "asked", "absence", "reason"),
    [
        (Runtime.ONNXRUNTIME, Device.CPU, ABSENCE, None),
        (Runtime.ONNXRUNTIME_CUDA, Device.CPU, ABSENCE, f"no CUDA device ({ABSENCE})"),
        (Runtime.ONNXRUNTIME_CUDA, Device.CPU, None, "not asked for: --device cpu"),
        (Runtime.ONNXRUNTIME_CUDA, Device.CUDA, None, None),
        (Runtime.ONNXRUNTIME, Device.CUDA, None, "not asked for: --device cuda"),
        (Runtime.TENSORRT_RTX, Device.CPU, ABSENCE, f"no CUDA device ({ABSENCE})"),
        (Runtime.TENSORRT_RTX, Device.CUDA, None, None),
    ],
)
def test_skip_reason(
    tiny_folder: Path, runner: Runtime, asked: Device, absence: str | None, reason: str | None
) -> None:
    row = next(row for row in rows_of(Manifest.load(tiny_folder), None) if row.runner == runner)
    assert skip_reason(row, asked, absence) == reason


def test_skip_reason_of_a_runner_that_this_version_lacks(tiny_folder: Path) -> None:
    row = replace(rows_of(Manifest.load(tiny_folder), None)[0], runner="nobody's")
    assert skip_reason(row, row.device, None) == no_runner("nobody's")


def test_skip_reason_of_a_precision_that_the_runner_has_no_kernels_for(tiny_folder: Path) -> None:
    rows = rows_of(Manifest.load(tiny_folder), None, ("onnxruntime-cuda",))
    reasons = {row.artifact.precision: skip_reason(row, Device.CUDA, None) for row in rows}
    assert "no INT8 kernels" in (reasons[Precision.INT8] or "")
    assert reasons[Precision.FP32] is None
