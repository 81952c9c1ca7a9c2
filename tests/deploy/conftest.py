"""Benchmarked folders and their bundles: the digits network, and a linear model that is made at once."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from deploy.stage import BundleRequest, bundle_folder
from edgepress.artifact import Artifact, Format, Precision, Runtime, TensorSpec
from edgepress.files import sha256_of_file, write_json
from edgepress.interface import Activation
from edgepress.manifest import Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.seal import sealed

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Scripts = Callable[[Path], tuple[Any, Any]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
INT8 = "onnx-static_wi7_au8"  # of linux-x64-avx2: right on every x86-64 CPU


@pytest.fixture(scope="session")
def measured(cli: Cli, digits_optimized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits with results of a quick benchmark of its ONNX files. Read-only: see `copy_of`."""
    import shutil

    folder = tmp_path_factory.mktemp("measured") / "digits"
    shutil.copytree(digits_optimized, folder)
    done = cli("optimize", folder, "--target", "linux-x64-avx2")  # the host may have better INT8 than that
    assert done.returncode == 0, done.stderr
    done = cli("benchmark", folder, "--quick", "--limit", 60, "--variant", "onnx-fp32", "onnx-wf16_af16")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def bundle(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the INT8 artifact for x86-64. Read-only: see `copy_of`."""
    out = tmp_path_factory.mktemp("bundles") / "digits-x64"
    bundle_folder(BundleRequest(measured, "linux-x64-cpu", out, variant=INT8))
    return out


def save_linear_model(path: Path) -> None:
    """Logits of 8×8 pictures: a matrix and a bias, as drawn."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = (random.normal(size=(192, 3)) / 255).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 3])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([0.5, -0.5, 0.1], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder of one linear FP32 artifact with three labels, without results. The test may change it."""
    folder = tmp_path / "small"
    folder.mkdir()
    save_linear_model(folder / "onnx-fp32.onnx")
    artifact = Artifact(
        id="onnx-fp32",
        path="onnx-fp32.onnx",
        format=Format.ONNX,
        precision=Precision.FP32,
        runtimes=(Runtime.ONNXRUNTIME,),
        inputs=(TensorSpec("images", (None, 8, 8, 3), "float32"),),
        outputs=(TensorSpec("logits", (None, 3), "float32"),),
        sha256=sha256_of_file(folder / "onnx-fp32.onnx"),
        size_bytes=(folder / "onnx-fp32.onnx").stat().st_size,
        key="k",
    )
    preprocessing = Preprocessing(PreprocessMode.NONE, 8, 8)
    card = ModelCard(
        "small", "drawn", "f", 579, 3, ("cat", "dog", "crème\tbrûlée"), preprocessing, Activation.SOFTMAX
    )
    Manifest(folder, card, (artifact,)).save()
    return folder


@pytest.fixture
def small_bundle(small: Path) -> Path:
    """A bundle of `small`, outside of it. The test may change it."""
    out = small.parent / "small-bundle"
    bundle_folder(BundleRequest(small, "linux-x64-cpu", out, variant="onnx-fp32"))
    return out


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """50 pictures of mixed size and mode."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    random = np.random.default_rng(1)
    paths = []
    for i in range(50):
        mode = ("RGB", "L", "RGBA", "P", "CMYK", "1", "LA")[i % 7]
        left, top = random.integers(0, 300), random.integers(0, 200)
        width, height = random.integers(20, 320), random.integers(20, 220)
        image = Image.fromarray(photos[i % 2][top : top + height, left : left + width]).convert(mode)
        paths.append(tmp_path / f"{i}.{'jpg' if mode in {'RGB', 'L', 'CMYK'} else 'png'}")
        image.save(paths[-1])
    return paths


@pytest.fixture
def write_results() -> Callable[..., None]:
    """Writes a results.json with one row, of onnx-fp32, into a folder."""

    def write(folder: Path, sha256: str, **changes: Any) -> None:
        row = {
            "artifact": "onnx-fp32",
            "artifact_sha256": sha256,
            "runner": "onnxruntime",
            "device": "cpu",
            "status": "ok",
            "threads": 2,
            "latency": {"median_ns": 5e5},
            "verdict": {"state": "valid", "reasons": []},
            "speedup": None,
            "accuracy": {"images": 60, "top1": 0.9, "agreement": 1.0},
        }
        value = {
            "results": [row],
            "baseline": {"top1": 0.9},
            "data": {"source": "nowhere-any-more"},
            "plan": {"thoroughness": "full"},
            "environment": {"machine": {"cpu": "one"}},
        }
        write_json(folder / "results.json", sealed({**value, **changes}))

    return write


@pytest.fixture
def run_script() -> Run:
    """Runs a script of a bundle as on a device, isolated, in another folder than its own."""

    def run(script: Path, *arguments: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", str(script), *map(str, arguments)]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **more)

    return run


@pytest.fixture
def write_sums() -> Callable[[Path], None]:
    """Writes the checksums of a changed bundle anew, so that only the later checks can find the change."""

    def write(folder: Path) -> None:
        others = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.sha256"]
        lines = [f"{sha256_of_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in others]
        (folder / "manifest.sha256").write_text("".join(lines))

    return write


@pytest.fixture
def scripts_of() -> Iterator[Scripts]:
    """Gives infer.py and verify.py of a bundle as modules, loaded as they load each other.

    One process can so ask them many things; starting one for each would take minutes.
    """
    names = (
        *("backend", "bundle", "checks", "checksums", "decoding", "infer", "interface", "isa"),
        *("latency", "preprocessing", "signature", "verify", "version_range"),
    )

    def load(bundle: Path) -> tuple[Any, Any]:
        for name in names:
            sys.modules.pop(name, None)
        with mock.patch.object(sys, "path", [str(bundle), *sys.path]):
            loaded = [importlib.import_module(name) for name in names]
        assert {Path(str(module.__file__)).parent for module in loaded} == {bundle}
        return sys.modules["infer"], sys.modules["verify"]

    with mock.patch.object(sys, "dont_write_bytecode", True):
        yield load
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def plain_bundle(tmp_path: Path) -> Path:
    """Files with right checksums, one of them in a folder, as `check_files` sees them; it runs nothing."""
    folder = tmp_path / "made" / "plain"
    (folder / "assets" / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    (folder / "manifest.json").write_text('{"schema_version": 1}')
    (folder / "model.onnx").write_bytes(random.normal(0, 12, 200_000).round().astype(np.int8).tobytes())
    (folder / "assets" / "inner" / "labels.txt").write_text("cat\ndog\n")
    (folder / "empty.txt").write_bytes(b"")
    names = ("assets/inner/labels.txt", "empty.txt", "manifest.json", "model.onnx")
    lines = [f"{sha256_of_file(folder / name)}  {name}\n" for name in names]
    (folder / "manifest.sha256").write_text("".join(lines))
    return folder


@pytest.fixture
def key_pair(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public Ed25519 key, in files as OpenSSL writes them."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def make_unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets every reading of files of a name fail, as a broken disk does."""
    right = Path.open

    def make(name: str) -> None:
        def broken(path: Path, *arguments: Any) -> object:
            if path.name == name:
                raise OSError(5, "Input/output error")
            return right(path, *arguments)

        monkeypatch.setattr(Path, "open", broken)

    return make
