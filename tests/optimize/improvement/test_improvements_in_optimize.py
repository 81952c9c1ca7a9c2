"""--improve: what is done is in the artifact, in its provenance and in its key."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.artifact import Artifact
from edgepress.cli.main import main
from edgepress.manifest import Manifest
from optimize.accuracy.sensitivity_stage import SensitivityRequest, measure_sensitivity
from optimize.calibration import CalibrationTable
from optimize.improvement import DEFAULT_IMPROVEMENTS, Improvement
from optimize.stage import OptimizeRequest, optimize_folder

RECIPE, ARTIFACT = "tensorrt_static_wi8_ai8", "tensorrt-static_wi8_ai8"


def optimized(folder: Path, npz: Path, *improvements: Improvement) -> tuple[Artifact, bytes]:
    request = OptimizeRequest(
        folder, recipes=(RECIPE,), data=str(npz), samples=12, improvements=frozenset(improvements)
    )
    manifest = optimize_folder(request)
    artifact = manifest.get(ARTIFACT)
    return artifact, manifest.path_of(artifact).read_bytes()


def biases_of(content: bytes) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(content).graph
    return {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("_bias")}


def test_bias_correction_is_the_default_and_changes_biases_only(folder: Path, npz: Path) -> None:
    assert frozenset({Improvement.BIAS_CORRECTION}) == DEFAULT_IMPROVEMENTS
    plain, without = optimized(folder, npz)
    table = CalibrationTable.load(folder)
    corrected, content = optimized(folder, npz, *DEFAULT_IMPROVEMENTS)
    assert CalibrationTable.load(folder) == table  # calibrated once
    assert (plain.provenance["improvements"], corrected.provenance["improvements"]) == (
        [],
        ["bias-correction"],
    )
    assert corrected.provenance["bias_corrected_layers"] == ["conv1", "conv2", "dense"]
    assert plain.key != corrected.key
    before, after = biases_of(without), biases_of(content)
    assert set(before) == {"conv1_bias", "conv2_bias", "dense_bias"}
    assert all(np.any(before[name] != after[name]) for name in before)
    assert all(np.abs(before[name] - after[name]).max() < 0.05 for name in before)
    assert len(without) == len(content)


def test_an_equalized_network_is_calibrated_anew_and_leaves_no_copy(folder: Path, npz: Path) -> None:
    optimized(folder, npz)
    exported = (folder / "onnx-fp32.onnx").read_bytes()
    files = {path.name for path in folder.iterdir()}
    artifact, _ = optimized(folder, npz, Improvement.EQUALIZATION)
    assert artifact.provenance["improvements"] == ["equalization"]
    assert artifact.provenance["equalization"]["links"] == 1
    assert artifact.provenance["calibration"]["is_equalized"] is True
    table = CalibrationTable.load(folder)
    assert table is not None
    assert table.sample.is_equalized
    assert {path.name for path in folder.iterdir()} == files
    assert (folder / "onnx-fp32.onnx").read_bytes() == exported
    report = measure_sensitivity(SensitivityRequest(folder, str(npz)))
    assert {layer.name for layer in report.layers} == {"conv1", "conv2", "dense"}


def test_fp16_of_an_equalized_network_says_so(folder: Path, npz: Path) -> None:
    recipes, improvements = ("onnx_wf16_af16", RECIPE), frozenset({Improvement.EQUALIZATION})
    request = OptimizeRequest(folder, recipes=recipes, data=str(npz), samples=12, improvements=improvements)
    made = optimize_folder(request).get("onnx-wf16_af16")
    assert made.provenance["equalization"]["links"] == 1


def test_fp16_alone_is_made_anew_with_the_ranges_that_are_there(
    folder: Path, npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = OptimizeRequest(folder, recipes=("onnx_wf16_af16", RECIPE), data=str(npz), samples=12)
    first = optimize_folder(request).get("onnx-wf16_af16")
    (folder / first.path).unlink()
    again = optimize_folder(request).get("onnx-wf16_af16")
    assert again.provenance["largest_activation"] == first.provenance["largest_activation"]
    assert again.sha256 == first.sha256
    assert "65,504" not in caplog.text
    caplog.set_level(logging.INFO)
    optimize_folder(OptimizeRequest(folder, recipes=("onnx_wf16_af16",)))
    assert "nothing was calibrated, so no activation is held against FP16's 65,504" in caplog.text


def test_what_is_current_is_kept(folder: Path, npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = optimized(folder, npz, *Improvement)
    monkeypatch.setattr("optimize.stage.run", lambda *_: pytest.fail("made again"))
    again, _ = optimized(folder, npz, *Improvement)
    assert again == first
    assert Manifest.load(folder).get(ARTIFACT) == first


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("none", "equalization"),
            "--improve none equalization: none goes with nothing else. Leave",
        ),
        (("bias-corection",), "bias-correction"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, names: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", str(folder), "--improve", *names]) == 2
    assert words in capsys.readouterr().err
