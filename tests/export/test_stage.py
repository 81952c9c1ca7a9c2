import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgepress.artifact import Artifact, Format, Precision
from edgepress.errors import InputError, ProofError
from edgepress.files import write_json
from edgepress.interface import Activation
from edgepress.labels import read_labels
from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16_DIGITS, Style
from edgepress.preprocessing import PreprocessMode
from export import formats, stage
from export.conversion import Conversion, Write
from export.onnx_from_keras import onnx_from_keras
from export.stage import ExportRequest, export_model

RequestFor = Callable[..., ExportRequest]
RANDOM_ONNX: dict[str, Any] = {"weights": "random", "formats": (Format.ONNX,)}


def test_export_model_writes_and_proves_three_formats(request_for: RequestFor) -> None:
    states: list[tuple[str, int, int]] = []
    request = request_for("vgg16-digits", weights="random", seed=4)
    manifest = export_model(request, lambda *state: states.append(state))
    assert states == [("export", done, 3) for done in range(4)]
    assert manifest == Manifest.load(request.out)
    assert [a.id for a in manifest.artifacts] == ["saved_model-fp32", "onnx-fp32", "tflite-fp32"]
    assert sorted(p.name for p in request.out.glob("[!.]*")) == [
        "golden.npz", "manifest.json", "onnx-fp32.onnx", "saved_model-fp32", "tflite-fp32.tflite"
    ]  # fmt: skip
    card = manifest.model
    assert (card.name, card.source, card.activation) == (
        "vgg16-digits",
        "random (seed 4)",
        Activation.SOFTMAX,
    )
    assert (card.parameters, card.class_count) == (VGG16_DIGITS.parameters, 10)
    assert card.preprocessing.mode is PreprocessMode.TF
    for artifact, batch in zip(manifest.artifacts, (None, None, 1), strict=True):
        manifest.verify(artifact)
        assert artifact.precision is Precision.FP32
        assert (artifact.inputs[0].name, artifact.inputs[0].shape) == ("images", (batch, 32, 32, 3))
        assert (artifact.outputs[0].name, artifact.outputs[0].shape) == ("logits", (batch, 10))
        snr = artifact.provenance["smoke_snr_db"]
        assert snr == "identical" or snr >= 100
        assert artifact.provenance["versions"]["keras"] == import_keras().__version__


def test_export_model_imports_no_framework_when_all_is_current(request_for: RequestFor) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    before = export_model(request)
    stamp = (request.out / "onnx-fp32.onnx").stat().st_mtime_ns
    code = f"""
import sys
from pathlib import Path
from edgepress.artifact import Format
from export.onnx_from_keras import onnx_from_keras
from export.stage import ExportRequest, export_model
from edgepress.models.vgg16 import Style
export_model(ExportRequest("vgg16-digits", Path({str(request.out)!r}), Path({str(request.cache)!r}), "random",
    Style.SEQUENTIAL, (Format.ONNX,)))
assert not {{"tensorflow", "keras", "onnx", "tf2onnx"}} & set(sys.modules)
"""
    root = Path(stage.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
    assert (request.out / "onnx-fp32.onnx").stat().st_mtime_ns == stamp
    assert Manifest.load(request.out) == before


def test_export_model_adds_a_format_to_what_is_there(request_for: RequestFor) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    export_model(request)
    both = export_model(replace(request, formats=(Format.ONNX, Format.TFLITE)))
    assert [a.id for a in both.artifacts] == ["onnx-fp32", "tflite-fp32"]


def test_export_model_makes_an_artifact_anew_when_a_byte_was_changed(request_for: RequestFor) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    manifest = export_model(request)
    path = request.out / "onnx-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="was changed"):
        manifest.verify(manifest.get("onnx-fp32"))
    again = export_model(request)
    again.verify(again.get("onnx-fp32"))


@pytest.mark.parametrize(
    "change", [{"seed": 9}, {"style": Style.FUNCTIONAL}, {"preprocess": PreprocessMode.TORCH}]
)
def test_export_model_drops_what_was_made_of_other_things(
    request_for: RequestFor, change: dict[str, Any]
) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    manifest = export_model(request)
    (request.out / "optimized.onnx").write_bytes(b"made from the former model")
    (request.out / "mine.txt").write_text("not edgepress' file")
    optimized = replace(
        manifest.artifacts[0], id="onnx-optimized", path="optimized.onnx", recipe="r", parent="onnx-fp32"
    )
    manifest.with_artifact(optimized).save()

    after = export_model(replace(request, **change))
    assert [a.id for a in after.artifacts] == ["onnx-fp32"]
    assert after.artifacts[0].key != manifest.artifacts[0].key
    assert sorted(p.name for p in request.out.glob("[!.]*")) == [
        "golden.npz",
        "manifest.json",
        "mine.txt",
        "onnx-fp32.onnx",
    ]


def test_export_model_keeps_optimized_artifacts_when_the_model_is_the_same(request_for: RequestFor) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    manifest = export_model(request)
    optimized: Artifact = replace(
        manifest.artifacts[0], id="onnx-optimized", recipe="r", parent="onnx-fp32", key="k"
    )
    manifest.with_artifact(optimized).save()
    after = export_model(replace(request, formats=(Format.ONNX, Format.TFLITE)))
    assert [a.id for a in after.artifacts] == ["onnx-fp32", "onnx-optimized", "tflite-fp32"]


def _wrong_conversion(conversion: Conversion) -> Write:
    """A fake conversion that drops one bias."""
    right = onnx_from_keras(conversion)

    def write(path: Path) -> None:
        right(path)
        model = onnx.load(path)
        bias = next(t for t in model.graph.initializer if t.name == "block3_conv1/bias")
        bias.raw_data = bytes(len(bias.raw_data))
        onnx.save(model, path)

    return write


def test_export_model_keeps_no_file_that_fails_its_proof(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    wrong = replace(formats.WRITERS[Format.ONNX], convert=_wrong_conversion)
    monkeypatch.setitem(formats.WRITERS, Format.ONNX, wrong)
    with pytest.raises(ProofError, match=r"onnx-fp32\.onnx does not give the logits of its reference"):
        export_model(request)
    assert not list(request.out.glob("[!.]*"))


def test_export_model_takes_a_users_file(request_for: RequestFor, tiny_file: Path, tmp_path: Path) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    manifest = export_model(request_for(tiny_file, preprocess=PreprocessMode.TORCH, labels=labels))
    assert manifest.model.name == "tiny"
    assert manifest.model.source == "tiny.keras"
    assert manifest.model.labels == ("a", "b", "c", "d", "e")
    assert manifest.model.preprocessing.mode is PreprocessMode.TORCH
    assert len(manifest.artifacts) == 3


def test_export_model_names_classes_after_the_folders_of_data_when_they_fit(
    request_for: RequestFor, tiny_file: Path, tmp_path: Path
) -> None:
    from PIL import Image

    for name in ("ant", "bee", "cow", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "0.png")
    request = request_for(
        tiny_file, preprocess=PreprocessMode.TF, data=str(tmp_path / "data"), formats=(Format.ONNX,)
    )
    assert export_model(request).model.labels is None
    shutil.copytree(tmp_path / "data" / "dog", tmp_path / "data" / "eel")
    assert export_model(request).model.labels == ("ant", "bee", "cow", "dog", "eel")


def test_export_model_refuses_another_number_of_labels(
    request_for: RequestFor, tiny_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n", encoding="utf-8")
    request = request_for(tiny_file, preprocess=PreprocessMode.TF, labels=tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"names\.txt has 2 class names, and the model has 5 classes"):
        export_model(request)
    assert not (request.out / "manifest.json").exists()


@pytest.mark.parametrize(("text", "words"), [("", "a line is empty"), ("a\n\nb\n", "a line is empty")])
def test_export_model_refuses_empty_labels(
    request_for: RequestFor, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        export_model(request_for("vgg16-digits", **RANDOM_ONNX, labels=tmp_path / "names.txt"))


def test_export_model_refuses_missing_labels(request_for: RequestFor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The labels in .*absent\.txt cannot be read"):
        export_model(request_for("vgg16-digits", **RANDOM_ONNX, labels=tmp_path / "absent.txt"))


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("vgg61", {}, r"Unknown model 'vgg61'\. Did you mean 'vgg16'\?"),
        ("absent.keras", {}, r"No model file at absent\.keras"),
        (__file__, {}, r"is no model that edgepress reads: a \.keras file is wanted"),
        ("vgg16-digits", {"weights": "imagenet"}, r"There are no imagenet weights for vgg16-digits"),
        (
            "vgg16",
            {"weights": "absent.h5"},
            r"No weights file at absent\.h5\. Give --weights imagenet, random",
        ),
        ("vgg16-digits", {"weights": "random", "formats": ()}, r"No format to export\. Give --format"),
    ],
)
def test_export_model_refuses_wrong_use_before_anything_is_written(
    request_for: RequestFor, model: str, changes: dict[str, Any], words: str
) -> None:
    request = request_for(model, **changes)
    with pytest.raises(InputError, match=words):
        export_model(request)
    assert not request.out.exists()


def test_export_model_demands_preprocess_for_a_users_file(request_for: RequestFor, tiny_file: Path) -> None:
    with pytest.raises(InputError, match=r"--preprocess caffe\|tf\|torch\|none"):
        export_model(request_for(tiny_file))


def test_export_model_refuses_weights_for_a_users_file(request_for: RequestFor, tiny_file: Path) -> None:
    with pytest.raises(InputError, match=r"tiny\.keras brings its own weights\. Leave --weights out"):
        export_model(request_for(tiny_file, weights="random", preprocess=PreprocessMode.TF))


def test_export_model_refuses_too_little_disk_before_work_starts(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match=r"Exporting vgg16 needs about 1\.7 GB of disk"):
        export_model(request_for("vgg16", weights="random"))


def test_export_model_refuses_a_folder_that_cannot_be_written(
    request_for: RequestFor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"Cannot write .*file/out: Not a directory"):
        export_model(request_for("vgg16-digits", **RANDOM_ONNX, out=tmp_path / "file" / "out"))


def test_export_model_refuses_a_damaged_manifest(request_for: RequestFor) -> None:
    request = request_for("vgg16-digits", **RANDOM_ONNX)
    request.out.mkdir()
    write_json(request.out / "manifest.json", {"schema_version": 3})
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        export_model(request)
    assert json.loads((request.out / "manifest.json").read_text()) == {"schema_version": 3}


def test_labels_may_begin_with_a_byte_order_mark_but_not_repeat_a_name(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\n", encoding="utf-8-sig")
    assert read_labels(path) == ("cat", "dog")
    path.write_text("cat\ndog\ncat\n", encoding="utf-8")
    with pytest.raises(InputError, match="needs its own name, and 'cat' is there twice. Rename one"):
        read_labels(path)
