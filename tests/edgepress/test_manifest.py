import dataclasses
import json
from pathlib import Path

import pytest

from edgepress.artifact import (
    Artifact,
    Content,
    Format,
    LeftBehind,
    Precision,
    PrecisionShares,
    Proof,
    Quantization,
    Runtime,
    TensorSpec,
)
from edgepress.errors import InputError
from edgepress.files import sha256_of_path
from edgepress.interface import Activation
from edgepress.manifest import GOLDEN, Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.record import to_json

CARD = ModelCard(
    "mine",
    "mine.keras",
    "ab",
    12,
    2,
    ("cat", "dog"),
    Preprocessing(PreprocessMode.TF, 8, 8),
    Activation.SOFTMAX,
)


def artifact_in(folder: Path) -> Artifact:
    (folder / "onnx-fp32.onnx").write_bytes(b"model")
    return Artifact(
        id="onnx-fp32",
        path="onnx-fp32.onnx",
        format=Format.ONNX,
        precision=Precision.FP32,
        runtimes=(Runtime.ONNXRUNTIME,),
        inputs=(TensorSpec("images", (None, 8, 8, 3), "int8", Quantization(0.5, -3)),),
        outputs=(TensorSpec("logits", (None, 2), "float32"),),
        sha256=sha256_of_path(folder / "onnx-fp32.onnx"),
        size_bytes=5,
        key="k",
        shares=PrecisionShares({"fp32": 1.0}, {"fp32": 1.0}, 0, 1, Proof.INSPECTED),
        content=Content({"fp32": 1.0}, 2, (LeftBehind("fc1", Precision.FP16, Precision.FP32, "why"),)),
        provenance={"seed": 1},
    )


def test_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CARD).with_artifact(artifact_in(tmp_path))
    manifest.save()
    assert Manifest.load(tmp_path) == manifest


def test_with_artifact_replaces_the_one_of_the_same_id(tmp_path: Path) -> None:
    first = artifact_in(tmp_path)
    manifest = (
        Manifest(tmp_path, CARD).with_artifact(first).with_artifact(dataclasses.replace(first, key="new"))
    )
    assert [a.key for a in manifest.artifacts] == ["new"]


def test_verify_refuses_a_file_changed_by_a_byte(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path)
    manifest = Manifest(tmp_path, CARD, (artifact,))
    assert manifest.verify(artifact) == tmp_path / "onnx-fp32.onnx"
    (tmp_path / "onnx-fp32.onnx").write_bytes(b"modeL")
    with pytest.raises(InputError, match=r"onnx-fp32: .* was changed: SHA-256 is"):
        manifest.verify(artifact)


def test_verify_refuses_a_missing_file(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path)
    (tmp_path / "onnx-fp32.onnx").unlink()
    with pytest.raises(InputError, match=r"onnx-fp32\.onnx is missing"):
        Manifest(tmp_path, CARD, (artifact,)).verify(artifact)


def test_is_current_only_for_the_same_key_and_content(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CARD, (artifact_in(tmp_path),))
    assert manifest.is_current("onnx-fp32", "k")
    assert not manifest.is_current("onnx-fp32", "other")
    assert not manifest.is_current("onnx-fp16", "k")
    (tmp_path / "onnx-fp32.onnx").write_bytes(b"modeL")
    assert not manifest.is_current("onnx-fp32", "k")


def test_get_suggests_the_nearest_id(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CARD, (artifact_in(tmp_path),))
    with pytest.raises(InputError, match="Unknown variant 'onnx-fp23'. Did you mean 'onnx-fp32'"):
        manifest.get("onnx-fp23")


def test_load_names_the_command_when_there_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No manifest.json in .* edgepress export MODEL --out"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99, wanted 3"),
        ({"schema_version": 2}, "schema version 2, wanted 3. Remove it and export anew"),
        ({"model": {}}, "is damaged"),
        ({"artifacts": [{"id": "a"}]}, "is damaged .*Artifact: missing or unknown fields"),
        ({"artifacts": {}}, "is damaged .*artifacts: wanted list, got dict"),
        ({"model": {**to_json(CARD), "parameters": "many"}}, "ModelCard.parameters: wanted int, got str"),
        ({"model": {**to_json(CARD), "preprocessing": {"mode": "tf"}}}, "is damaged .*height"),
    ],
)
def test_load_refuses_a_damaged_manifest(tmp_path: Path, change: dict[str, object], message: str) -> None:
    Manifest(tmp_path, CARD).save()
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/model.onnx", "manifest.json", "golden.npz"])
def test_load_refuses_a_path_that_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    Manifest(tmp_path, CARD, (dataclasses.replace(artifact_in(tmp_path), path=path),)).save()
    with pytest.raises(InputError, match="is no path of an artifact inside the folder"):
        Manifest.load(tmp_path)


def test_load_refuses_an_id_that_is_there_twice(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path)
    Manifest(tmp_path, CARD, (artifact, artifact)).save()
    with pytest.raises(InputError, match="an id is there twice"):
        Manifest.load(tmp_path)


def test_placing_the_golden_set_takes_its_name_out_of_the_manifest_first(tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, golden_sha256="ab" * 32)
    manifest = Manifest(tmp_path, card).with_artifact(artifact_in(tmp_path))
    manifest.save()
    with manifest.placing(GOLDEN) as temporary:
        temporary.write_bytes(b"new answers")
        assert Manifest.load(tmp_path) == manifest
    found = Manifest.load(tmp_path)
    assert found.model.golden_sha256 is None
    assert found.artifacts == manifest.artifacts
