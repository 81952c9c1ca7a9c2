"""Another interface from end to end: channels first, RGB pixels in, probabilities out, a fixed batch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.artifact import Device, Format
from edgepress.dataset import digits
from edgepress.interface import Interface, Layout, Pixels, Scores
from edgepress.manifest import Manifest
from edgepress.metrics import agreement, logit_snr_db
from edgepress.runners.runner import runner_for
from edgepress.target import target_of
from optimize.recipe import recipes_for

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

INTERFACE = ("--layout", "nchw", "--pixels", "rgb", "--scores", "probabilities")
INT8 = next(recipe.name for recipe in recipes_for(target_of("host")) if recipe.isas is not None)
RECIPES = ("onnx_wf16_af16", INT8, "tensorrt_static_wi8_ai8", "tflite_static_wi8_ai8")


@pytest.fixture(scope="module")
def folder(cli: Cli, digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits with that interface: exported, optimized and measured."""
    out = tmp_path_factory.mktemp("interfaces") / "out"
    variants = ("onnx-fp32", "tflite-fp32", *map(_id, RECIPES))
    for command in (
        ("export", "vgg16-digits", "--out", out, *INTERFACE),
        ("optimize", out, "--recipe", *RECIPES, "--samples", "16"),
        ("parity", out),
        ("benchmark", out, "--data", "digits", "--quick", "--limit", "200", "--variant", *variants),
    ):
        done = cli(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    return out


def _id(recipe: str) -> str:
    return recipe.replace("_", "-", 1)


def _rows_on_the_cpu(folder: Path) -> list[Any]:
    rows = json.loads((folder / "results.json").read_text())["results"]
    return [row for row in rows if row["device"] == "cpu"]


def _logits(manifest: Manifest, artifact_id: str, count: int) -> Any:
    artifact, model = manifest.get(artifact_id), manifest.model
    pictures = np.concatenate([p.read(model.preprocessing)[np.newaxis] for p in digits()[1].pictures[:count]])
    interface = artifact.interface
    with runner_for(artifact.runtimes[0], Device.CPU)(manifest.path_of(artifact), 0) as runner:
        scores = interface.run(runner.infer, interface.feed(pictures, model.preprocessing))
    if interface.scores is Scores.PROBABILITIES:
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=0.05)
    return interface.logits(scores, model.activation)


def test_files_say_and_have_the_interface(folder: Path) -> None:
    manifest = Manifest.load(folder)
    for artifact in manifest.artifacts:
        interface = artifact.interface
        channels_first = artifact.format is Format.ONNX
        assert interface.layout is (Layout.NCHW if channels_first else Layout.NHWC), artifact.id
        assert (interface.pixels, interface.scores) == (Pixels.RGB, Scores.PROBABILITIES), artifact.id
        (spec,), (scores,) = artifact.inputs, artifact.outputs
        assert spec.shape[1:] == ((3, 32, 32) if channels_first else (32, 32, 3)), artifact.id
        assert scores.name == "probabilities"
    plain = manifest.get("onnx-fp32")
    assert plain.inputs[0].dtype == "uint8"


def test_exported_files_give_the_logits_of_the_plain_ones(folder: Path, digits_folder: Path) -> None:
    ours, plain = Manifest.load(folder), Manifest.load(digits_folder)
    for artifact_id in ("saved_model-fp32", "onnx-fp32", "tflite-fp32"):
        found, wanted = _logits(ours, artifact_id, 50), _logits(plain, artifact_id, 50)
        assert agreement(wanted, found) == 1, artifact_id
        assert logit_snr_db(wanted, found) > 80, artifact_id


def test_every_version_keeps_the_accuracy(folder: Path) -> None:
    rows = _rows_on_the_cpu(folder)
    found = {row["artifact"]: row for row in rows}
    for artifact_id, row in found.items():
        assert row["status"] == "ok", (artifact_id, row["reason"])
        assert row["accuracy"]["agreement"] >= 0.99, artifact_id
        snr_db = row["accuracy"]["logit_snr_db"]
        # Probabilities in 256 steps have no logits to speak of.
        assert snr_db is None or snr_db > 20 or artifact_id == "tflite-static_wi8_ai8", artifact_id
        assert row["preprocessing_doubt"] is None
    int8 = [row for row in rows if "static" in row["artifact"]]
    assert len(int8) == 3
    assert all(row["precision"] == "int8" for row in int8)


def test_its_bundle_verifies_and_classifies(folder: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    done = cli("bundle", folder, "--target", "linux-x64-cpu", "--variant", "onnx-fp32", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    for script, *arguments in (("verify.py",), ("infer.py", "picture.npy", "--json", "--top", "1")):
        picture = digits()[1].pictures[0]
        np.save(tmp_path / "picture.npy", picture.read(Manifest.load(folder).model.preprocessing))
        command = [sys.executable, "-I", str(out / script), *arguments]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    (answer,) = json.loads(ran.stdout)
    assert answer["answers"][0]["class"] == picture.label
    assert 0.5 < answer["answers"][0]["score"] <= 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert Interface.from_json(manifest["model"]["interface"]).pixels is Pixels.RGB


def test_a_fixed_batch_is_measured_and_evaluated_as_a_whole(
    cli: Cli, digits_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    variants = ("onnx-fp32", _id(INT8), "tflite-fp32")
    for command in (
        ("export", "vgg16-digits", "--out", out, "--batch", "3", "--format", "onnx", "tflite"),
        ("optimize", out, "--recipe", INT8, "--samples", "16"),
        ("benchmark", out, "--data", "digits", "--quick", "--limit", "100", "--variant", *variants),
        ("bundle", out, "--target", "linux-x64-cpu", "--variant", "onnx-fp32"),
    ):
        done = cli(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        row for row in json.loads((out / "results.json").read_text())["results"] if row["device"] == "cpu"
    ]
    assert {row["artifact"] for row in rows} == set(variants)
    assert all((row["status"], row["batch"]) == ("ok", 3) for row in rows)
    assert all(row["accuracy"]["agreement"] > 0.98 and row["accuracy"]["images"] == 100 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--opset", "16"), "17 to 21"),
        (("--opset", "x"), "whole number of at least 1"),
        (("--batch", "0"), "whole number of at least 1"),
        (("--layout", "nchv"), "nchw"),
        (("--pixels", "bgr"), "rgb"),
    ],
)
def test_wrong_interfaces_are_refused_before_anything_is_written(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = cli("export", "vgg16-digits", "--weights", "random", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
