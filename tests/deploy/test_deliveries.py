"""A bundle for each target, from the command to the archive, unpacked and verified as on a device."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.integrity.unpacking import unpack
from deploy.stage import Bundle, BundleRequest, bundle_folder
from edgepress.errors import InputError
from edgepress.files import sha256_of_file

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.long

MIB = 1 << 20
VARIANTS = {
    "linux-x64-cpu": "onnx-static_wi7_au8",
    "linux-x64-cpu with LiteRT": "tflite-static_wi8_ai8",
    "linux-arm64-cpu": "onnx-static_wi8_ai8",
    "mobile": "tflite-static_wi8_ai8",
    "triton": "onnx-static_wi7_au8",
    "jetson-orin": "tensorrt-static_wi8_ai8",
    "nvidia-server": "onnx-wf16_af16",
    "rtx-desktop": "engine-sm86-static_wi8_ai8",
}
VALID_HERE = ("linux-x64-cpu", "linux-x64-cpu with LiteRT", "mobile")
REASONS = {
    "linux-arm64-cpu": "the bundle is for aarch64 or arm64, this machine is",
    "triton": "no Triton answers at http://127.0.0.1:9",
    "jetson-orin": "the bundle is for aarch64, this machine is",
    "nvidia-server": "no NVIDIA GPU can be used here",
    "rtx-desktop": "no NVIDIA GPU can be used here",
}


@pytest.fixture(scope="module")
def artifacts(cli: Cli, measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits with what the other targets take: INT8 for ARM, and plans."""
    folder = tmp_path_factory.mktemp("deliveries") / "digits"
    shutil.copytree(measured, folder)
    for target, recipe in (
        ("linux-arm64", "onnx_static_wi8_ai8"),
        ("linux-x64-avx2", "engine_static_wi8_ai8"),
    ):
        done = cli("optimize", folder, "--target", target, "--recipe", recipe)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def delivered(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """A bundle for each target, by its name in VARIANTS."""
    out = tmp_path_factory.mktemp("delivered")
    return {
        name: bundle_folder(
            BundleRequest(artifacts, name.partition(" ")[0], out / name.replace(" ", "-"), variant=variant)
        )
        for name, variant in VARIANTS.items()
    }


@pytest.fixture
def from_archive(delivered: dict[str, Bundle], tmp_path: Path) -> Callable[[str], Path]:
    """Unpacks a bundle's archive, as on a device."""

    def unpacked(name: str) -> Path:
        return unpack(delivered[name].archive.path, tmp_path / name.replace(" ", "-")).folder

    return unpacked


def run(
    folder: Path, script: str, *arguments: str | Path, python: str = sys.executable
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-I", str(folder / script), *map(str, arguments)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGEPRESS_TRITON_URL": "http://127.0.0.1:9"},
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_bundle_from_its_archive_verifies_or_says_what_is_missing(
    delivered: dict[str, Bundle], from_archive: Callable[[str], Path], name: str
) -> None:
    folder = from_archive(name)
    done = run(folder, "verify.py", "--json")
    found = json.loads(done.stdout)
    if name in VALID_HERE:
        assert (done.returncode, found["verdict"]) == (0, "VALID"), found
        assert delivered[name].proof == "VALID"
    else:
        assert (done.returncode, found["verdict"]) == (2, "COULD NOT RUN"), found
        assert REASONS[name] in found["checks"]["failed"]
        assert "files are as they were" in found["checks"]["files"]
        assert delivered[name].proof.startswith("all files are as they should be; not run here: ")
    assert done.stderr == ""


@pytest.mark.parametrize("name", VARIANTS)
def test_bundle_adds_at_most_a_megabyte_to_its_model(delivered: dict[str, Bundle], name: str) -> None:
    folder = delivered[name].folder
    manifest = json.loads((folder / "manifest.json").read_text())
    plans = [folder / plan["file"] for plan in manifest.get("plans", [])]
    models = plans or [folder / manifest["model"]["file"]]
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sum(sizes.values()) - sum(sizes[path] for path in models) <= MIB


@pytest.mark.parametrize("name", VARIANTS)
def test_archive_is_the_same_byte_for_byte(
    delivered: dict[str, Bundle], artifacts: Path, tmp_path: Path, name: str
) -> None:
    first = delivered[name]
    out = tmp_path / first.folder.name
    again = bundle_folder(BundleRequest(artifacts, first.target, out, variant=VARIANTS[name]))
    assert again.archive.sha256 == first.archive.sha256
    assert again.archive.path.read_bytes() == first.archive.path.read_bytes()
    assert (
        bundle_folder(BundleRequest(artifacts, first.target, out, variant=VARIANTS[name])).proof
        == "up to date"
    )


def test_manifest_says_what_an_integrator_needs(delivered: dict[str, Bundle]) -> None:
    for name, bundle in delivered.items():
        manifest = json.loads((bundle.folder / "manifest.json").read_text())
        model = manifest["model"]
        assert model["inputs"][0]["shape"][1:] == [32, 32, 3], name
        assert {"name", "shape", "dtype", "quantization"} == set(model["inputs"][0])
        assert (model["calibration"] is None) is (VARIANTS[name] == "onnx-wf16_af16")
        assert manifest["preprocessing"]["height"] == 32
        assert manifest["labels"] == [str(i) for i in range(10)]
        assert {"tolerance", "tolerance_rms", "tolerance_rule", "execution"} <= set(manifest["golden"])
        for path, digest in manifest["files"].items():
            assert sha256_of_file(bundle.folder / path) == digest
    lite = json.loads((delivered["mobile"].folder / "manifest.json").read_text())["model"]
    assert lite["inputs"][0]["dtype"] == "int8"
    assert set(lite["inputs"][0]["quantization"]) == {"scale", "zero_point"}


def test_the_phones_file_describes_itself_and_has_the_labels(delivered: dict[str, Bundle]) -> None:
    from deploy.mobile.metadata import labels_of, metadata_of

    path = delivered["mobile"].folder / "model.tflite"
    assert labels_of(path) == tuple(str(i) for i in range(10))
    assert metadata_of(path).name == "vgg16-digits"


def test_plans_for_several_gpus_lie_in_one_bundle(delivered: dict[str, Bundle]) -> None:
    manifest = json.loads((delivered["rtx-desktop"].folder / "manifest.json").read_text())
    assert [plan["capabilities"] for plan in manifest["plans"]] == [["8.6"], ["8.9"]]
    assert manifest["plans_missing"] == ["12.0"]


def clean_python(folder: Path, where: Path) -> str:
    """An interpreter with a bundle's requirements and nothing else."""
    venv.create(where, with_pip=True)
    python = str(where / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt")]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"pip cannot install here: {installed.stderr.strip().splitlines()[-1]}")
    return python


@pytest.mark.parametrize("names", [("linux-x64-cpu",), ("linux-x64-cpu with LiteRT", "mobile")])
def test_bundle_works_in_an_environment_with_its_requirements_only(
    from_archive: Callable[[str], Path], tmp_path: Path, names: tuple[str, ...]
) -> None:
    from PIL import Image

    folders = [from_archive(name) for name in names]
    python = clean_python(folders[0], tmp_path / "clean")
    Image.new("RGB", (90, 60), (200, 10, 10)).save(tmp_path / "red.jpg")
    for folder in folders:
        assert (folder / "requirements.txt").read_text() == (folders[0] / "requirements.txt").read_text()
        done = run(folder, "verify.py", "--latency", "10000", python=python)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "latency: median" in done.stdout
        done = run(folder, "infer.py", tmp_path / "red.jpg", "--json", python=python)
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)[0]["answers"]) == 5


@pytest.mark.skipif(
    "EDGEPRESS_ARM64_PYTHON" not in os.environ,
    reason="EDGEPRESS_ARM64_PYTHON names no Python for aarch64 with numpy, onnxruntime and pillow",
)
def test_arm64_bundle_is_valid_on_arm64(from_archive: Callable[[str], Path]) -> None:
    done = run(from_archive("linux-arm64-cpu"), "verify.py", python=os.environ["EDGEPRESS_ARM64_PYTHON"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "machine: aarch64" in done.stdout


def in_a_box(folder: Path, script: str, *arguments: str) -> list[str]:
    """A command that runs a script without a network, on a disk that cannot be written to."""
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/x" 2>/dev/null'
    inner = f'{read_only} && cd / && exec "$@"'
    command = [sys.executable, "-I", str(folder / script), *arguments]
    return ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c", inner, str(folder), *command]


@pytest.mark.parametrize("name", VALID_HERE)
def test_bundle_works_without_network_on_a_disk_that_is_read_only(
    from_archive: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = from_archive(name)
    if (
        shutil.which("unshare") is None
        or subprocess.run(in_a_box(folder, "infer.py", "--help"), capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody make a box without network and with a read-only disk")
    np.save(tmp_path / "x.npy", np.zeros((32, 32, 3), np.uint8))
    for script, *arguments in (("verify.py",), ("infer.py", str(tmp_path / "x.npy"))):
        done = subprocess.run(
            in_a_box(folder, script, *arguments), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (">=1.0,<1.5", "onnxruntime is .*, and >=1.0,<1.5 is wanted. Run: pip install -r requirements.txt"),
        ("newest", "accepted_versions: 'newest' is no clause of a version range"),
    ],
)
def test_another_version_of_the_runtime_is_told(
    from_archive: Callable[[str], Path], write_sums: Callable[[Path], None], wanted: str, message: str
) -> None:
    folder = from_archive("linux-x64-cpu")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["accepted_versions"]["onnxruntime"] = wanted
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_sums(folder)
    done = run(folder, "verify.py")
    assert done.returncode == (2 if wanted != "newest" else 1)
    assert re.search(message, done.stdout), done.stdout


def test_a_cpu_without_the_instructions_is_told(
    from_archive: Callable[[str], Path], write_sums: Callable[[Path], None]
) -> None:
    folder = from_archive("linux-x64-cpu")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"]["isas"] = ["arm64-dotprod"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_sums(folder)
    done = run(folder, "verify.py")
    assert done.returncode == 2
    assert "the bundle is for arm64-dotprod, and this CPU is x86-64" in done.stdout


@pytest.mark.parametrize(("budget", "code"), [("0.000001", 1), ("100000", 0)])
def test_latency_is_held_against_a_budget(
    from_archive: Callable[[str], Path], budget: str, code: int
) -> None:
    done = run(from_archive("linux-x64-cpu"), "verify.py", "--latency", budget)
    assert done.returncode == code, done.stdout
    assert f"allowed: {float(budget):g} ms" in done.stdout


def test_latency_without_a_budget_could_not_run(from_archive: Callable[[str], Path]) -> None:
    done = run(from_archive("linux-x64-cpu"), "verify.py", "--latency")
    assert done.returncode == 2
    assert "has no latency budget. Give one in milliseconds: --latency MS" in done.stdout


def test_benchmark_tells_where_it_ran_and_how_long(from_archive: Callable[[str], Path]) -> None:
    done = run(from_archive("linux-x64-cpu"), "infer.py", "--benchmark", "--json", "--threads", "1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["where"], found["threads"], found["batch"]) == ("CPUExecutionProvider", 1, 1)
    assert len(found["samples_ns"]) >= 20
    assert found["median_ns"] == pytest.approx(float(np.median(found["samples_ns"])))
    assert run(from_archive("mobile"), "infer.py").returncode == 2


def test_signed_bundle_is_proven_by_its_key(artifacts: Path, tmp_path: Path) -> None:
    for arguments in (
        ("genpkey", "-algorithm", "ed25519", "-out", "private.pem"),
        ("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"),
    ):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)
    request = BundleRequest(
        artifacts,
        "linux-x64-cpu",
        tmp_path / "signed",
        variant="onnx-static_wi7_au8",
        signing_key=tmp_path / "private.pem",
    )
    assert bundle_folder(request).proof == "VALID"
    done = run(tmp_path / "signed", "verify.py", "--public-key", tmp_path / "public.pem")
    assert done.returncode == 0, done.stdout
    assert "signature: manifest.sha256 is as it was signed" in done.stdout
    assert bundle_folder(request).proof == "up to date"
    assert bundle_folder(replace(request, signing_key=None)).proof == "VALID"  # made anew, without
    assert run(tmp_path / "signed", "verify.py", "--public-key", tmp_path / "public.pem").returncode == 1


def test_what_cannot_fit_is_refused_with_the_numbers(artifacts: Path, tmp_path: Path) -> None:
    profile = tmp_path / "watch.toml"
    text = (Path(bundle_folder.__code__.co_filename).parent / "targets" / "mobile.toml").read_text()
    profile.write_text(text.replace("most_bytes = 200_000_000", "most_bytes = 100_000"))
    with pytest.raises(
        InputError, match="has nothing for watch: .*tflite-fp32 has 3.8 MB, and watch takes 0.1 MB"
    ):
        bundle_folder(BundleRequest(artifacts, str(profile), tmp_path / "x"))
    with pytest.raises(
        InputError, match="tflite-fp32 has 3.8 MB, and watch takes 0.1 MB at most. Choose another"
    ):
        bundle_folder(BundleRequest(artifacts, str(profile), tmp_path / "x", variant="tflite-fp32"))
    assert not (tmp_path / "x").exists()


def test_a_gpus_bundle_is_chosen_by_name_where_nothing_was_measured(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="was measured on a GPU with tensorrt, and jetson-orin is chosen"
    ) as refusal:
        bundle_folder(BundleRequest(artifacts, "jetson-orin", tmp_path / "x"))
    assert "--variant: onnx-fp32, onnx-wf16_af16, tensorrt-static_wi8_ai8" in str(refusal.value)


def test_something_else_in_the_archives_place_is_not_touched(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("my thesis")
    with pytest.raises(InputError, match="is there and is no archive of a bundle. It was not touched"):
        bundle_folder(BundleRequest(artifacts, "linux-x64-cpu", tmp_path / "x", variant="onnx-fp32"))
    assert (tmp_path / "x.tar.gz").read_text() == "my thesis"
    assert not (tmp_path / "x").exists()


def test_options_of_the_command_reach_the_bundle(cli: Cli, artifacts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"--max-latency-ms": "0.00001", "--max-mb": "0.1"}
    for name, value in options.items():
        done = cli("bundle", artifacts, "--out", tmp_path / "x", name, value)
        assert done.returncode == 1, done.stderr
        assert "Nothing keeps to the limits" in done.stderr
        done = cli("bundle", artifacts, "--out", tmp_path / "x", name, "0")
        assert done.returncode == 2
        assert f"{name} wants" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_reader_that_goes_away_is_no_verdict(from_archive: Callable[[str], Path]) -> None:
    command = [sys.executable, "-I", str(from_archive("mobile") / "verify.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode not in {0, 1}
