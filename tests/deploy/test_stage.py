"""Bundles of vgg16-digits, used as on a device: their own scripts, in processes of their own."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import contents, stage
from deploy.executions import Place, onnx_ways
from deploy.stage import BundleRequest, bundle_folder
from edgepress.errors import InputError, ProofError
from edgepress.files import sha256_of_file
from edgepress.manifest import Manifest
from edgepress.preprocessing import Preprocessing

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Copy = Callable[[Path], Path]


def run(folder: Path, script: str, *arguments: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    command = [more.pop("python", sys.executable), "-s", "-E", script, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **more)


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_bundle_has_everything_and_says_valid(bundle: Path, measured: Path) -> None:
    assert set(content_of(bundle)) == {
        *("README.md", "backend.py", "bundle.py", "checks.py", "checksums.py", "decoding.py", "golden.npz"),
        *(
            "infer.py",
            "interface.py",
            "isa.py",
            "labels.txt",
            "latency.py",
            "manifest.json",
            "manifest.sha256",
        ),
        *("model.onnx", "preprocessing.py", "requirements.txt", "signature.py", "verify.py"),
        "version_range.py",
    }
    done = run(bundle, "verify.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "VALID"
    assert "CPUExecutionProvider" in done.stdout
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["model"]["artifact"] == "onnx-static_wi7_au8"
    assert manifest["files"]["model.onnx"] == sha256_of_file(measured / "onnx-static_wi7_au8.onnx")
    assert manifest["labels"] == [str(i) for i in range(10)]
    assert set(manifest["golden"]["executions"]) == {way.name for way in onnx_ways(Place.LIKE_HERE).others}
    assert "1.5 times the largest difference" in manifest["golden"]["tolerance_rule"]
    with np.load(bundle / "golden.npz") as golden:
        assert golden["pictures"].shape == (10, 32, 32, 3)  # six patterns, four pictures of the data
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "manifest.sha256"], cwd=bundle, check=False)
    assert sums.returncode == 0


def test_bundle_is_the_same_byte_for_byte(bundle: Path, measured: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    bundle_folder(BundleRequest(measured, "linux-x64-cpu", again, variant="onnx-static_wi7_au8"))
    assert content_of(again) == content_of(bundle)


def test_infer_classifies_pictures_as_the_toolkit_does(
    bundle: Path, measured: Path, pictures: list[Path]
) -> None:
    from PIL import Image

    from edgepress.runners.onnxruntime_runner import on_cpu

    done = run(bundle, "infer.py", *pictures, "--json", "--top", "10")
    assert done.returncode == 0, done.stderr
    preprocessing = Preprocessing.from_json(
        json.loads((bundle / "manifest.json").read_text())["preprocessing"]
    )
    with on_cpu(measured / "onnx-static_wi7_au8.onnx", 1) as runner:
        for path, found in zip(pictures, json.loads(done.stdout), strict=True):
            with Image.open(path) as image:
                logits = runner.infer(preprocessing.normalize(preprocessing.crop(image)[np.newaxis]))[0]
            powers = np.exp(logits.astype(float) - logits.max())
            scores = {answer["class"]: answer["score"] for answer in found["answers"]}
            wanted = powers / powers.sum()
            assert [scores[i] for i in range(10)] == pytest.approx(list(wanted), rel=1e-6, abs=1e-12)
            assert [a["score"] for a in found["answers"]] == sorted(scores.values(), reverse=True)


def test_preprocessing_of_the_bundle_is_the_toolkits_own(bundle: Path) -> None:
    import edgepress.preprocessing

    assert (bundle / "preprocessing.py").read_bytes() == Path(edgepress.preprocessing.__file__).read_bytes()


def test_infer_takes_arrays_and_refuses_in_one_line(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.zeros((2, 32, 32, 3), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((32, 32, 3), np.float32))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    assert run(bundle, "infer.py", tmp_path / "good.npy").stdout.count("good.npy") == 2
    for name, message in (
        ("float.npy", "uint8 RGB of shape (32, 32, 3) is wanted"),
        ("broken.jpg", "cannot be decoded"),
        ("broken.npy", "is no .npy file"),
        ("nowhere.jpg", "There is no picture at"),
    ):
        done = run(bundle, "infer.py", tmp_path / name)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert message in done.stderr


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        ("missing", 1, "missing: labels.txt. Unpack the bundle again."),
        ("added", 1, "Keep your own files outside of the bundle."),
        ("swapped model", 1, "model.onnx: SHA-256 is"),
        ("other logits", 1, "logits differ by up to"),
        ("truncated model", 1, "ONNX Runtime cannot load model.onnx"),
        ("other machine", 2, "the bundle is for riscv64, this machine is"),
        ("other preprocessing", 1, "logits differ by up to"),
    ],
)
def test_verify_says_what_is_wrong(bundle: Path, copy_of: Copy, damage: str, code: int, message: str) -> None:
    folder = copy_of(bundle)
    manifest = json.loads((folder / "manifest.json").read_text())
    if damage == "missing":
        (folder / "labels.txt").unlink()
    elif damage == "added":
        (folder / "more.py").write_text("")
    elif damage == "swapped model":
        (folder / "model.onnx").write_bytes(b"other")
    else:
        damage_with_right_sums(folder, manifest, damage)
    done = run(folder, "verify.py")
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout
    assert done.stdout.splitlines()[-1] == {1: "INVALID", 2: "COULD NOT RUN"}[code]
    assert "Traceback" not in done.stderr
    as_json = json.loads(run(folder, "verify.py", "--json").stdout)
    assert as_json["verdict"] == done.stdout.splitlines()[-1]


def damage_with_right_sums(folder: Path, manifest: dict[str, Any], damage: str) -> None:
    """Change something and write the checksums anew, so that only the later checks can find it."""
    if damage == "truncated model":
        path = folder / "model.onnx"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "other logits":
        with np.load(folder / "golden.npz") as golden:
            logits = golden["logits"].copy()
            logits[3, 1] += 2 * manifest["golden"]["tolerance"]
            np.savez(folder / "golden.npz", pictures=golden["pictures"], logits=logits)
    elif damage == "other machine":
        manifest["target"]["machines"] = ["riscv64"]
    elif damage == "other preprocessing":
        manifest["preprocessing"]["mode"] = "torch"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    others = (path for path in sorted(folder.iterdir()) if path.name != "manifest.sha256")
    lines = [f"{sha256_of_file(path)}  {path.name}\n" for path in others]
    (folder / "manifest.sha256").write_text("".join(lines))


def test_bundle_by_evidence_is_left_alone_when_current_and_imports_no_framework(
    cli: Cli, measured: Path, copy_of: Copy
) -> None:
    folder = copy_of(measured)
    done = cli("bundle", folder, "--target", "linux-x64-cpu", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["artifact"] in {"onnx-fp32", "onnx-wf16_af16"}
    assert value["rejected"]["onnx-static_wi7_au8"] == "was not measured"
    assert "quick benchmark" in done.stderr
    before = content_of(Path(value["bundle"]))
    code = (
        "import sys\nfrom pathlib import Path\nfrom deploy.stage import BundleRequest, bundle_folder\n"
        f"bundle_folder(BundleRequest(Path({str(folder)!r}), 'linux-x64-cpu'))\n"
        "assert not {'onnxruntime', 'PIL', 'sklearn'} & set(sys.modules)\n"
    )
    root = Path(stage.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
    assert content_of(Path(value["bundle"])) == before


def test_bundle_refuses_in_one_line(cli: Cli, digits_optimized: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(digits_optimized)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    for options, message in (
        ((), "has no results.json to choose by. Measure first: edgepress benchmark"),
        (("--target", "linux-x64-cpus"), "Unknown target 'linux-x64-cpus'. Did you mean 'linux-x64-cpu'?"),
        (("--variant", "onnx-fp23"), "Did you mean 'onnx-fp32'?"),
        (
            ("--variant", "saved_model-fp32"),
            "saved_model-fp32 is not for onnxruntime or litert. Choose another --variant",
        ),
        (("--variant", "onnx-fp32", "--out", tmp_path / "mine"), "is there and is no bundle"),
        (("--variant", "onnx-fp32", "--data", "nowhere"), "No data at 'nowhere'"),
    ):
        done = cli("bundle", folder, *options)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    (folder / "results.json").write_text('{"results": 3}')
    assert "is damaged" in cli("bundle", folder).stderr


def test_bundle_that_does_not_verify_is_not_delivered(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bundle.py"
    text = contents._SCRIPTS["bundle.py"].read_text()
    script.write_text(
        text.replace("values.max(axis=1, keepdims=True)", "1e300").replace(
            "interface.feed(pictures,", "interface.feed(pictures[:, :, ::-1],"
        )
    )
    monkeypatch.setitem(contents._SCRIPTS, "bundle.py", script)
    with pytest.raises(ProofError, match="The bundle does not verify .*logits differ by up to"):
        bundle_folder(BundleRequest(measured, "linux-x64-cpu", tmp_path / "x", variant="onnx-fp32"))
    assert not (tmp_path / "x").exists()


def test_changed_artifact_is_not_bundled(measured: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(measured)
    path = folder / "onnx-fp32.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="was changed"):
        bundle_folder(BundleRequest(folder, "linux-x64-cpu", tmp_path / "x", variant="onnx-fp32"))


def test_bundle_without_its_requirements_says_how_to_install_them(bundle: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    done = run(bundle, "verify.py", python=str(tmp_path / "bare" / "bin" / "python"))
    assert done.returncode == 2
    assert "pip install -r requirements.txt" in done.stdout


def test_quantized_artifact_needs_its_fp32_version_unchanged(
    measured: Path, copy_of: Copy, tmp_path: Path
) -> None:
    folder = copy_of(measured)
    request = BundleRequest(folder, "linux-x64-cpu", tmp_path / "x", variant="onnx-static_wi7_au8")
    path = folder / "onnx-fp32.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="onnx-fp32: .* was changed"):
        bundle_folder(request)
    manifest = Manifest.load(folder)
    replace(manifest, artifacts=tuple(a for a in manifest.artifacts if a.id != "onnx-fp32")).save()
    with pytest.raises(
        InputError, match="no FP32 artifact to compare onnx-static_wi7_au8 with. Export .*onnx"
    ):
        bundle_folder(request)
