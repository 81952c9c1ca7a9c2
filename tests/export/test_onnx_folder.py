"""A model of more than one ONNX file can hold, by a lowered limit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle_target import bundle_target_of
from deploy.selection import Limits, named
from edgepress.artifact import Format
from edgepress.errors import InputError
from edgepress.inspection.subject import look_into
from edgepress.manifest import Manifest
from edgepress.preprocessing import PreprocessMode
from export import onnx_from_keras as module
from export.stage import ExportRequest, export_model
from optimize.stage import OptimizeRequest, optimize_folder

ONNX: dict[str, Any] = {"formats": (Format.ONNX,), "preprocess": PreprocessMode.TF}


def test_a_folder_is_proven_recorded_inspected_and_not_optimized(
    request_for: Callable[..., ExportRequest], tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROTOBUF_LIMIT_BYTES", 0)
    request = request_for(tiny_file, **ONNX)
    manifest = export_model(request)
    artifact = manifest.get("onnx-fp32")
    folder = manifest.verify(artifact)
    assert artifact.path == "onnx-fp32"
    assert artifact.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    inspection = look_into(str(request.out), "onnx-fp32").inspection
    assert inspection is not None
    assert [layer.name for layer in inspection.layers] == ["conv", "scores"]
    with pytest.raises(InputError, match="onnx-fp32 is a folder, since .* and a bundle has one file"):
        named(manifest, bundle_target_of("linux-x64-cpu"), "onnx-fp32", Limits(), None)
    with pytest.raises(
        InputError,
        match=r"'onnx_wf16_af16' works on one file, and onnx-fp32 of .* is a folder: one ONNX file",
    ):
        optimize_folder(OptimizeRequest(request.out, "linux-x64-avx2", ("onnx_wf16_af16",), None, 8, 0))


def test_a_file_takes_the_place_of_a_folder_where_the_new_model_fits(
    request_for: Callable[..., ExportRequest], tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(tiny_file, **ONNX)
    with monkeypatch.context() as lowered:
        lowered.setattr(module, "_PROTOBUF_LIMIT_BYTES", 0)
        export_model(request)
    manifest = export_model(request_for(tiny_file, **ONNX, opset=18))
    assert manifest == Manifest.load(request.out)
    assert manifest.verify(manifest.get("onnx-fp32")).name == "onnx-fp32.onnx"
    assert not (request.out / "onnx-fp32").exists()
