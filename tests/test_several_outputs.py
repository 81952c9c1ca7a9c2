"""A classifier with a second output, from its file to a bundle: all that follows goes by the first one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
RECIPES = ("onnx_wf16_af16", "tflite_static_wi8_ai8")
MEASURED = ("onnx-fp32", "onnx-wf16_af16", "tflite-fp32", "tflite-static_wi8_ai8")


@pytest.fixture
def model(tiny_layers: Callable[[], list[Any]], tmp_path: Path) -> Path:
    """Five classes, and the channels' means beside them."""
    keras = import_keras()
    images = keras.Input((32, 32, 3))
    *body, flatten, scores = tiny_layers()
    values = images
    for layer in body:
        values = layer(values)
    means = keras.layers.GlobalAveragePooling2D(name="means")(values)
    path = tmp_path / "twofold.keras"
    keras.Model(images, [scores(flatten(values)), means]).save(path)
    return path


def test_the_first_output_classifies_all_the_way(cli: Cli, model: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data.npz"
    draws = np.random.default_rng(0)
    np.savez(data, images=draws.integers(0, 256, (80, 32, 32, 3), np.uint8), labels=draws.integers(0, 5, 80))
    for command in (
        ("export", model, "--out", out, "--preprocess", "tf", "--format", "onnx", "tflite"),
        ("optimize", out, "--data", data, "--samples", "16", "--recipe", *RECIPES),
        ("parity", out),
        ("benchmark", out, "--data", data, "--quick", "--variant", *MEASURED),
        ("bundle", out, "--target", "linux-x64-cpu"),
    ):
        done = cli(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    artifacts = Manifest.load(out).artifacts
    assert len(artifacts) == 2 + len(RECIPES)
    for artifact in artifacts:
        first = {spec.name for spec in artifact.outputs} - {"means"}
        assert first == {"logits"}, artifact.id
        assert len(artifact.outputs) == 2, artifact.id
    rows = json.loads((out / "results.json").read_text())["results"]
    measured = {row["artifact"]: row["accuracy"] for row in rows if row["status"] == "ok"}
    assert set(measured) == set(MEASURED)
    assert all(accuracy["agreement"] > 0.8 for accuracy in measured.values())
