"""The whole job, as a user starts it: every stage, the contract of results.json, and nothing done twice."""

import json
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

CPU_ROWS = {
    ("saved_model-fp32", "tensorflow"),
    ("onnx-fp32", "onnxruntime"),
    ("onnx-wf16_af16", "onnxruntime"),
    ("tensorrt-static_wi8_ai8", "onnxruntime-emulation"),
    ("tflite-fp32", "litert"),
    ("tflite-wf16_af32", "litert"),
    ("tflite-static_wi8_ai8", "litert"),
}
# On a CPU, at full size; the embedded model runs in them.
SLOW = ("onnx-wf16_af16", "tflite-wf16_af32")
GPU_ROWS = {
    ("saved_model-fp32", "tensorflow"),
    ("onnx-fp32", "onnxruntime-cuda"),
    ("onnx-fp32", "onnxruntime-tensorrt"),
    ("tensorrt-static_wi8_ai8", "onnxruntime-tensorrt"),
    ("engine-sm86-static_wi8_ai8", "tensorrt-rtx"),
    ("engine-sm89-wf16_af16", "tensorrt-rtx"),
}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())["results"]
    return rows


def check_rows(folder: Path, left_out: Collection[str] = ()) -> list[dict[str, Any]]:
    """What holds for every run on a machine without a GPU; gives the rows that ran."""
    rows = rows_of(folder)
    on_cpu = {(r["artifact"], r["runner"]) for r in rows if r["device"] == "cpu" and r["status"] == "ok"}
    assert on_cpu >= {row for row in CPU_ROWS if row[0] not in left_out}
    assert not {artifact for artifact, _ in on_cpu} & set(left_out)
    int8 = [a for a, _ in on_cpu if a.startswith("onnx-static_")]
    assert len(int8) == 1
    for row in rows:
        if row["device"] == "cuda" and row["status"] == "skipped":
            assert row["reason"]
            assert row["latency"] is None
    assert {(r["artifact"], r["runner"]) for r in rows if r["device"] == "cuda"} >= GPU_ROWS
    ran = [r for r in rows if r["status"] == "ok"]
    for row in ran:
        assert row["size_bytes"] > 0
        assert row["accuracy"]["agreement"] is not None
        if row["latency"] is not None:
            assert len(row["latency"]["samples_ns"]) >= 10
            assert row["peak_rss_bytes"] > 0
            assert row["speedup"]["against"]
    return ran


def test_digits_from_export_to_report(
    cli: Cli, digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    done = cli("benchmark", folder, "--quick")
    assert done.returncode == 0, done.stderr
    for row in check_rows(folder):
        assert row["accuracy"]["images"] == 599
        assert row["accuracy"]["top1"] >= 0.95, row["artifact"]
        assert row["accuracy"]["agreement"] >= 0.97, row["artifact"]
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert all(row["artifact"] in text for row in rows_of(folder))

    before = (folder / "results.json").read_bytes()
    start_s = time.monotonic()
    for command in (("optimize", folder), ("benchmark", folder, "--quick"), ("report", folder)):
        assert cli(*command).returncode == 0
    assert (folder / "results.json").read_bytes() == before
    assert time.monotonic() - start_s < 20  # nothing is built or measured again


@pytest.mark.slow
def test_full_size_vgg16_runs_through_every_stage(cli: Cli, vgg16_folder: Path, sample_photos: Path) -> None:
    done = cli("optimize", vgg16_folder, "--data", sample_photos, "--samples", 4)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((vgg16_folder / "manifest.json").read_text())
    chosen = [a["id"] for a in manifest["artifacts"] if a["id"] not in SLOW]
    options = ("--data", sample_photos, "--quick", "--limit", 4)
    done = cli("benchmark", vgg16_folder, "--variant", *chosen, *options)
    assert done.returncode == 0, done.stderr
    assert manifest["model"]["parameters"] == 138_357_544
    sizes = {a["id"]: a["size_bytes"] for a in manifest["artifacts"]}
    fp32_bytes = 4 * 138_357_544
    for name, share in (
        ("onnx-fp32", 1),
        ("onnx-wf16_af16", 1 / 2),
        ("tensorrt-static_wi8_ai8", 1 / 4),
        ("tflite-fp32", 1),
        ("tflite-wf16_af32", 1 / 2),
        ("tflite-static_wi8_ai8", 1 / 4),
        ("engine-sm86-wf32_af32", 1),
        ("engine-sm86-wf16_af16", 1 / 2),
        ("engine-sm89-static_wi8_ai8", 1 / 4),
    ):
        assert sizes[name] == pytest.approx(share * fp32_bytes, rel=0.02), name
    for artifact in manifest["artifacts"]:
        if artifact["precision"] == "int8":
            assert artifact["shares"]["parameters"]["int8"] >= 0.99
            assert artifact["shares"]["macs"]["int8"] >= 0.99
    for row in check_rows(vgg16_folder, SLOW):
        assert row["accuracy"]["images"] == 4
        assert row["accuracy"]["top1"] is None  # two folders are not the classes of ImageNet
