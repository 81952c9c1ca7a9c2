"""INT8 on a full-size VGG16 with real weights and real photos: random weights say nothing about accuracy."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.parity.report import ParityReport
from edgepress.target import target_of
from optimize.recipe import recipes_for

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
PHOTOS = 100


@pytest.mark.slow
def test_int8_keeps_the_decisions_of_fp32_on_real_photos(
    cli: Cli, reference_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    model = reference_folder / "reference_vgg16.keras"
    calibration, evaluation = reference_folder / "calibration", reference_folder / "evaluation"
    int8 = next(r for r in recipes_for(target_of("host")) if r.isas is not None)
    recipes = (int8.name, "tensorrt_static_wi8_ai8", "tflite_static_wi8_ai8")
    arguments = ("--preprocess", "caffe", "--data", calibration, "--format", "onnx", "tflite")
    for command in (
        ("export", model, "--out", out, *arguments),
        ("optimize", out, "--data", calibration, "--recipe", *recipes),
        ("parity", out),
        ("benchmark", out, "--data", evaluation, "--quick", "--limit", PHOTOS),
    ):
        done = cli(*command)
        assert done.returncode == 0, done.stderr
    _require_fp32_is_keras(ParityReport.load(out))
    results = json.loads((out / "results.json").read_text())["results"]
    rows = {row["artifact"]: row["accuracy"] for row in results if row["status"] == "ok"}
    fp32 = rows["onnx-fp32"]["top1"]
    assert fp32 > 0.6  # eight classes, real weights: far from chance
    assert rows["tflite-fp32"]["logit_snr_db"] >= 100
    for recipe in recipes:
        found = rows[recipe.replace("_", "-", 1)]
        assert found["images"] == PHOTOS
        assert found["top1"] >= fp32 - 0.02, recipe
        assert found["agreement"] >= 0.97, recipe
        assert found["logit_snr_db"] >= 30, recipe


def _require_fp32_is_keras(report: ParityReport) -> None:
    """The exported files give Keras' logits on photos: at least 100 dB, and every decision."""
    exported = [row for row in report.rows if row.reference == "keras"]
    assert [row.artifact for row in exported] == ["onnx-fp32", "tflite-fp32"]
    assert report.kinds.count("photo") == 6
    for row in exported:
        assert row.structured is not None
        assert row.structured.snr_db is None or row.structured.snr_db >= 100
        assert row.structured.agreement == 1
