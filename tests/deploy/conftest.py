"""A benchmarked folder and its bundle."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.stage import BundleRequest, bundle_folder

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def measured(cli: Cli, digits_optimized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits with results of a quick benchmark of its ONNX files. Read-only: see `copy_of`."""
    import shutil

    folder = tmp_path_factory.mktemp("measured") / "digits"
    shutil.copytree(digits_optimized, folder)
    done = cli("benchmark", folder, "--quick", "--limit", 60, "--variant", "onnx-fp32", "onnx-wf16_af16")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def bundle(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the INT8 artifact for x86-64. Read-only: see `copy_of`."""
    out = tmp_path_factory.mktemp("bundles") / "digits-x64"
    bundle_folder(BundleRequest(measured, "linux-x64-cpu", out, variant="onnx-static_wi7_au8"))
    return out
