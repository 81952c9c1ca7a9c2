"""The method as a user names it, and what it leads to in each INT8 version."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.artifact import Precision
from edgepress.cli.commands.optimize import COMMAND
from edgepress.errors import InputError
from edgepress.files import sha256_of_file
from edgepress.manifest import Manifest
from edgepress.runners import litert_runner, onnxruntime_runner
from optimize.calibration import CalibrationMethod, CalibrationTable, Range
from optimize.recipe import recipe_named
from optimize.stage import OptimizeRequest, optimize_folder
from optimize.tflite_int8_from_fp32 import tflite_int8_from_fp32

ONNX_RECIPES = ("onnx_static_wi7_au8", "tensorrt_static_wi8_ai8")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    COMMAND.add_arguments(found)
    return found


def test_every_method_is_an_option_and_in_its_help() -> None:
    action = next(a for a in parser()._actions if "--calibration" in a.option_strings)
    assert action.help is not None
    assert action.default == "minmax"
    for method in CalibrationMethod:
        assert method.value in action.help
        assert parser().parse_args(["out", "--calibration", method.value]).calibration == method.value


def test_an_unknown_method_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="Unknown calibration method 'entrpy'. Did you mean 'entropy'?"):
        parser().parse_args(["out", "--calibration", "entrpy"])


def test_the_python_function_takes_the_method_by_its_name(folder: Path, npz: Path) -> None:
    import edgepress

    made = edgepress.optimize(
        folder, target="linux-x64-avx2", recipes=ONNX_RECIPES[:1], data=npz, samples=4, calibration="mse"
    )
    assert made.get("onnx-static_wi7_au8").provenance["calibration"]["method"] == "mse"
    with pytest.raises(InputError, match="'percent'"):
        edgepress.optimize(folder, recipes=ONNX_RECIPES[:1], data=npz, calibration="percent")


def with_dead(folder: Path, *, whole: bool) -> Manifest:
    """The classifier whose first layer, or one filter of it, gives nothing."""
    manifest = Manifest.load(folder)
    artifact = manifest.get("onnx-fp32")
    path = manifest.path_of(artifact)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in {"conv1_kernel", "conv1_bias"}:
            values = numpy_helper.to_array(tensor).copy()
            values[slice(None) if whole else 2] = -1.0 if tensor.name == "conv1_bias" else 0.0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    manifest = manifest.with_artifact(replace(artifact, sha256=sha256_of_file(path)))
    manifest.save()
    return manifest


@pytest.mark.parametrize("method", list(CalibrationMethod))
@pytest.mark.parametrize("whole", [False, True])
def test_int8_of_a_dead_filter_or_layer_still_gives_the_logits(
    folder: Path, npz: Path, whole: bool, method: CalibrationMethod
) -> None:
    with_dead(folder, whole=whole)
    made = optimize_folder(
        OptimizeRequest(folder, "linux-x64-avx2", ONNX_RECIPES, str(npz), 8, 0, calibration=method)
    )
    inputs = np.random.default_rng(1).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)

    def logits(artifact_id: str) -> np.ndarray:
        with onnxruntime_runner.on_cpu(made.path_of(made.get(artifact_id)), 0) as runner:
            return np.asarray(runner.infer(inputs))

    wanted = logits("onnx-fp32")
    for artifact_id in ("onnx-static_wi7_au8", "tensorrt-static_wi8_ai8"):
        assert made.get(artifact_id).precision is Precision.INT8
        assert np.max(np.abs(logits(artifact_id) - wanted)) < 0.05 * np.ptp(wanted)
        scales = [
            numpy_helper.to_array(t)
            for t in onnx.load(made.path_of(made.get(artifact_id))).graph.initializer
            if t.name.endswith("_scale")
        ]
        assert scales
        assert all(np.all(scale > 0) for scale in scales)


def test_tflite_of_a_tensor_that_is_always_0_is_made(digits_optimized: Path, tmp_path: Path) -> None:
    manifest, table = Manifest.load(digits_optimized), CalibrationTable.load(digits_optimized)
    assert table is not None
    source = manifest.get("tflite-fp32")
    ranges = {**table.ranges_of(source.sha256), "block3_conv1": Range(0, 0).quantizable()}
    path = tmp_path / "int8.tflite"
    tflite_int8_from_fp32(recipe_named("tflite_static_wi8_ai8"), manifest.path_of(source), path, ranges)
    with litert_runner.on_cpu(path, 0) as runner:
        assert np.all(np.isfinite(runner.infer(np.zeros((1, 32, 32, 3), np.float32))))
