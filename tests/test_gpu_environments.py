"""The extras of a GPU's runtimes resolve: pip's own resolver, against the index, with nothing installed.

One package is stood in for: what the index has of TensorRT's libraries fetches its wheel from an index of
NVIDIA while pip reads its metadata. That cannot be reached from everywhere, so pip is given an empty wheel of
that name and version; that this version is on the index, pip itself says before.
"""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

from edgepress.environments import ENVIRONMENTS, Environment

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = "tensorrt_cu13_libs"
METAPACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13")  # no code, no wheels
Resolve = Callable[[str], Mapping[str, Version]]

pytestmark = pytest.mark.network


def extras() -> Mapping[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: Mapping[str, list[str]] = project["optional-dependencies"]
    return found


def succeed(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A pip that reads the metadata of a wheel without the wheel, as Python 3.11's own does not."""
    folder = tmp_path_factory.mktemp("pip")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "install", "--quiet", "--retries", "1", "--upgrade", "pip"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no package index can be reached: {(done.stderr.splitlines() or ['?'])[-1]}")
    return command


@pytest.fixture
def resolve(pip: list[str], tmp_path: Path) -> Resolve:
    """Gives name → version of all that pip would install for an extra."""

    def resolved(extra: str) -> Mapping[str, Version]:
        report, wheels = tmp_path / "report.json", tmp_path / "wheels"
        options = ["--dry-run", "--quiet", "--ignore-installed", "--report", str(report)]
        tensorrt = [
            line for line in extras()[extra] if Requirement(line).name in {"tensorrt", "tensorrt-cu13"}
        ]
        if tensorrt:
            succeed([*pip, "install", *options, "--no-deps", *tensorrt])
            (version,) = {each["metadata"]["version"] for each in json.loads(report.read_text())["install"]}
            assert version in succeed([*pip, "index", "versions", LIBRARIES.replace("_", "-")])
            empty_wheel(wheels, LIBRARIES, version)
        sources = [
            "--only-binary",
            ":all:",
            "--no-binary",
            "tensorrt,tensorrt-cu13,tensorrt-rtx,tensorrt-rtx-cu13",
        ]
        places = ["--find-links", str(wheels)] if tensorrt else []
        succeed([*pip, "install", "--use-feature=fast-deps", *options, *sources, *places, f"{ROOT}[{extra}]"])
        installs = json.loads(report.read_text())["install"]
        return {
            re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower(): Version(each["metadata"]["version"])
            for each in installs
        }

    return resolved


def empty_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.skipif(sys.platform != "linux", reason="NVIDIA's packages are for Linux here")
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.extra)
def test_extra_resolves(environment: Environment, resolve: Resolve) -> None:
    found = resolve(environment.extra)
    assert set(environment.distributions) <= set(found)
    assert {"edgepress", "numpy", "pillow", "scikit-learn"} <= set(found), "what a runner's process needs"
    if environment.extra == "gpu-trt":
        assert found["tensorrt"].major == 11
        assert found["tensorrt-cu13-bindings"] == found[LIBRARIES.replace("_", "-")] == found["tensorrt"]
    if environment.extra == "gpu-ort":
        assert "onnxruntime" not in found, "the two overwrite each other"
        assert found["tensorrt-cu13"].major == 10, "ONNX Runtime's provider links libnvinfer.so.10"
        assert found["nvidia-cuda-runtime"].major == 13
        assert "nvidia-cudnn-cu13" in found
    if environment.extra == "gpu-tf":
        assert "nvidia-cudnn-cu12" in found, "TensorFlow brings CUDA 12"


def test_what_belongs_apart_is_in_no_extra_together() -> None:
    apart = {environment.extra for environment in ENVIRONMENTS}
    for name, lines in extras().items():
        inside = {
            extra
            for line in lines
            if Requirement(line).name == "edgepress"
            for extra in Requirement(line).extras
        }
        assert not inside & apart, f"{name} would install a GPU's runtimes over those of the CPU"
