"""The accuracy budget on TFLite: real files in real LiteRT, one layer of which cannot be quantized."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.artifact import Format, Precision
from edgepress.files import sha256_of_path
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from edgepress.preprocessing import PreprocessMode
from export.stage import ExportRequest, export_model
from optimize.accuracy.budget_report import Arithmetic, Budget, BudgetReport
from optimize.accuracy.budget_stage import BudgetRequest
from optimize.improvement.tflite_network import tflite_network
from optimize.stage import OptimizeRequest, optimize_folder

INT8, FLOAT_IO = "tflite_static_wi8_ai8", "tflite_static_wi8_ai8_iof32"
FULL, MIXED = "tflite-static_wi8_ai8", "tflite-static_wi8_ai8-mixed"
LAYERS = ["conv1", "conv2", "predictions"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tflite-fp32 alone."""
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(5, name="predictions"),
        ]
    )
    draw_random(network, 0)
    root = tmp_path_factory.mktemp("budget")
    network.save(root / "tiny.keras")
    formats, folder = (Format.TFLITE,), root / "exported"
    model = str(root / "tiny.keras")
    export_model(ExportRequest(model, folder, root, formats=formats, preprocess=PreprocessMode.TF))
    return folder


@pytest.fixture
def sound(exported: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(exported, tmp_path / "sound"))


@pytest.fixture
def spoilt(sound: Path) -> Path:
    """The same with outliers in conv2 that FP32 does not notice: on an input channel that is always 0."""
    manifest = Manifest.load(sound)
    artifact = manifest.get("tflite-fp32")
    path = manifest.path_of(artifact)
    with tflite_network(path, sound / "spoilt") as network:
        before, layer = network.layers["conv1"], network.layers["conv2"]
        assert before.bias is not None
        before.kernel[0, 3], before.bias[3] = 0, -1
        layer.kernel[:, :, 3] = 100
    (sound / "spoilt").replace(path)
    manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()
    return sound


def optimized(folder: Path, data: Path, points: float, recipe: str = INT8) -> tuple[Manifest, BudgetReport]:
    budget = BudgetRequest(Budget(points))
    request = OptimizeRequest(folder, recipes=(recipe,), data=str(data), samples=20, budget=budget)
    return optimize_folder(request), BudgetReport.load(folder)


@pytest.mark.parametrize("recipe", [INT8, FLOAT_IO])
def test_budget_leaves_exactly_the_spoilt_layer_in_float(spoilt: Path, many: Path, recipe: str) -> None:
    manifest, report = optimized(spoilt, many, 8.0, recipe)
    (outcome,) = report.outcomes
    assert outcome.arithmetic is Arithmetic.LITERT
    assert list(outcome.layer_names) == LAYERS
    assert outcome.float_layers == ("conv2",)
    assert outcome.ladder.tries[0].cost.drop_points > 20
    artifact = manifest.get(f"{recipe.replace('_', '-', 1)}-mixed")
    assert (artifact.recipe, artifact.precision) == (recipe, Precision.MIXED)
    assert artifact.provenance["float_layers"] == ["conv2"]
    assert artifact.provenance["bias_corrected_layers"] == ["conv1", "predictions"]
    assert artifact.content is not None
    (left,) = artifact.content.left_behind
    assert (left.layer, left.computed) == ("conv2", Precision.FP32)
    assert left.reason == "left in float for the accuracy budget"
    assert artifact.shares is not None
    assert artifact.shares.macs["int8"] == pytest.approx(outcome.nearest.macs_share)
    assert artifact.shares.parameters["fp32"] == pytest.approx(8 * 9 * 16 / (27 * 8 + 8 * 9 * 16 + 1280))
    found = {layer.name: layer.computed for layer in inspect_tflite(manifest.verify(artifact)).layers}
    assert found == {"conv1": Precision.INT8, "conv2": Precision.FP32, "predictions": Precision.INT8}
    dtype = "int8" if recipe == INT8 else "float32"
    assert {spec.dtype for spec in (*artifact.inputs, *artifact.outputs)} == {dtype}
    assert "computed with LiteRT's kernels" in (spoilt / "budget.md").read_text()
    assert not list(spoilt.glob(".scratch*"))


def test_budget_exchanges_the_full_and_the_mixed_version(spoilt: Path, many: Path) -> None:
    manifest, _ = optimized(spoilt, many, 100.0)
    assert [artifact.id for artifact in manifest.artifacts] == ["tflite-fp32", FULL]
    manifest, _ = optimized(spoilt, many, 8.0)
    assert [artifact.id for artifact in manifest.artifacts] == ["tflite-fp32", MIXED]
    assert not (spoilt / f"{FULL}.tflite").exists()


def test_biases_are_corrected_in_the_layers_that_are_quantized_only(spoilt: Path, many: Path) -> None:
    manifest, _ = optimized(spoilt, many, 8.0)
    scratch = spoilt / "scratch"
    biases = []
    for path in (manifest.path_of(manifest.get(artifact_id)) for artifact_id in ("tflite-fp32", MIXED)):
        with tflite_network(path, scratch) as network:
            # Those of quantized layers are int32 in the mixed file, and no layers of FP32 any more.
            biases.append({name: np.array(layer.bias) for name, layer in network.layers.items()})
    assert set(biases[1]) == {"conv2"}
    np.testing.assert_array_equal(biases[0]["conv2"], biases[1]["conv2"])


def test_budget_keeps_the_full_version_that_is_within(sound: Path, many: Path) -> None:
    manifest, report = optimized(sound, many, 10.0)
    (outcome,) = report.outcomes
    assert (outcome.float_layers, len(outcome.ladder.tries)) == ((), 1)
    assert manifest.get(FULL).precision is Precision.INT8
    assert manifest.find(MIXED) is None


def test_a_layer_is_ranked_by_what_it_costs_alone_in_litert(spoilt: Path, many: Path) -> None:
    _, report = optimized(spoilt, many, 8.0)
    tries = report.outcomes[0].ladder.tries
    # The noisiest layer is first in the ranking, so bisection finds it without trying another one's absence.
    assert [found.float_layers for found in tries[:2]] == [(), ("conv2",)]
