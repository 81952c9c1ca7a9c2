"""`edgepress parity` on the embedded model and all its versions."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepress import api
from edgepress.artifact import Precision
from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest
from edgepress.parity.report import PARITY, ParityStatus

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_version_of_the_embedded_model_is_within_its_budget(
    cli: Cli, digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    done = cli("parity", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder / PARITY).read_text(encoding="utf-8"))
    assert report["kinds"].count("photo") == 6
    ids = [artifact.id for artifact in Manifest.load(folder).artifacts]
    assert [row["artifact"] for row in report["rows"]] == ids
    for row in report["rows"]:
        if row["status"] == "not run":
            assert "does not run on this machine's CPU" in row["reason"]
            continue
        assert row["artifact"] in done.stdout
        assert row["structured"]["agreement"] == 1 or row["hop"] != "fp32"
        if row["reference"] != "keras":
            assert row["from_keras"]["snr_db"] >= row["structured_db"]
    absent = sum(row["status"] == "not run" for row in report["rows"])
    assert f"{len(ids) - absent} passed, 0 failed, {absent} not run" in done.stdout
    assert "budget int8: 15 dB, flat pictures not judged: " in done.stdout


def _with_wrong_channels(folder: Path, artifact_id: str, weight: str) -> None:
    """Exchange the two halves of a kernel's output channels, which keeps ranges and scales plausible."""
    manifest = Manifest.load(folder)
    artifact = manifest.get(artifact_id)
    path = manifest.path_of(artifact)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    kernel = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(kernel, len(kernel) // 2, axis=0), weight))
    path.write_bytes(model.SerializeToString())
    manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()


def test_pressed_version_that_is_wrong_ends_with_exit_code_1_and_its_layer(
    cli: Cli, digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    artifacts = Manifest.load(folder).artifacts
    int8 = next(a.id for a in artifacts if a.precision is Precision.INT8 and a.id.startswith("onnx-"))
    _with_wrong_channels(folder, int8, "block3_conv2/kernel_quantized")
    done = cli("parity", folder, "--variant", int8, "onnx-fp32", "--json")
    assert done.returncode == 1
    assert f"failed: {int8}: photos: SNR" in done.stderr
    assert "the first layer that diverges is block3_conv2" in done.stderr
    rows = {row["artifact"]: row for row in json.loads(done.stdout)["rows"]}
    assert (rows["onnx-fp32"]["status"], rows[int8]["status"]) == ("passed", "failed")
    assert rows[int8]["layer"]["name"] == "block3_conv2"
    assert rows[int8]["layer"]["before"] == "block3_conv1"


def test_fp16_with_a_scale_2_percent_off_is_caught(
    digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    manifest = Manifest.load(folder)
    artifact = manifest.get("onnx-wf16_af16")
    path = manifest.path_of(artifact)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "block2_conv1/kernel")
    changed = (numpy_helper.to_array(tensor) * np.float16(1.02)).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    path.write_bytes(model.SerializeToString())
    manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()
    (failed,) = api.parity(folder, variants=[artifact.id]).of_status(ParityStatus.FAILED)
    assert failed.layer is not None
    assert failed.layer.name == "block2_conv1"


def test_int8_tflite_with_wrong_channels_is_caught(
    digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    manifest = Manifest.load(folder)
    artifact = manifest.get("tflite-static_wi8_ai8")
    path = manifest.path_of(artifact)
    kernel = _kernels(path)[5]  # block3_conv2
    assert kernel.shape == (64, 3, 3, 64)
    wrong = np.roll(kernel, len(kernel) // 2, axis=0)
    content = path.read_bytes()
    assert content.count(kernel.tobytes()) == 1
    path.write_bytes(content.replace(kernel.tobytes(), wrong.tobytes()))
    manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()
    (failed,) = api.parity(folder, variants=[artifact.id]).of_status(ParityStatus.FAILED)
    assert failed.layer is not None
    assert failed.layer.name == "block3_conv2"


def _kernels(path: Path) -> list[NDArray[np.int8]]:
    """Kernels of the convolutions of a TFLite file, in their order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    convolutions = [op for op in interpreter._get_ops_details() if op["op_name"] == "CONV_2D"]
    return [np.array(interpreter.get_tensor(op["inputs"][1])) for op in convolutions]


@pytest.mark.parametrize("what", ["nowhere", "without a golden set"])
def test_folder_that_cannot_be_judged_is_refused_in_one_line(
    cli: Cli, digits_folder: Path, copy_of: Callable[[Path], Path], tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "nowhere"
    if what != "nowhere":
        folder = copy_of(digits_folder)
        (folder / "golden.npz").unlink()
    done = cli("parity", folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "edgepress: No manifest.json in" if what == "nowhere" else f"edgepress: {folder}"
    )
    assert not (folder / PARITY).exists()
