"""Versions, pip's command lines, and distributions over each other: on fake installations in a folder."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from edgepress.doctor.integrity import Conflict, Damage, conflicts_among, damage_of
from edgepress.doctor.packages import (
    Package,
    Pip,
    installed_versions,
    packages_of,
    pip_absence,
    pip_here,
    requirements_of_edgepress,
)

PIP = Pip("pip", {"onnxruntime": "<1.33,>=1.30"})


def install(site: Path, name: str, version: str, files: dict[str, str]) -> None:
    """What pip does: files, and a RECORD with their hashes and sizes."""
    record = []
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text)}")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("\n".join([*record, f"{info.name}/RECORD,,", ""]))


def distributions(*sites: Path) -> tuple[importlib.metadata.Distribution, ...]:
    return tuple(importlib.metadata.distributions(path=[str(site) for site in sites]))


CPU_FILES = {"onnxruntime/__init__.py": "cpu", "onnxruntime/capi/core.so": "cpu" * 100}
GPU_FILES = {"onnxruntime/__init__.py": "gpu", "onnxruntime/capi/core.so": "gpu" * 900}


def test_packages_of_leaves_out_what_belongs_elsewhere() -> None:
    extras = (("keras", "gpu-tf"), ("tensorrt", "gpu-trt"), ("keras", "keras"))
    lines = [f'{name}>=3; extra == "{extra}"' for name, extra in extras]
    found = packages_of(lines, {"keras": "3.15"}, frozenset({"gpu-tf", "gpu-trt"}))
    assert [(package.name, package.extra) for package in found] == [("keras", "keras")]


def test_packages_of_reads_ranges_and_extras() -> None:
    requirements = (
        "numpy<3,>=2.0",
        'onnxruntime<1.33,>=1.30; extra == "onnxruntime"',
        'edgepress[keras]; extra == "cpu"',
        'keras<3.16,>=3.12; extra == "keras"',
        'h5py<4; extra == "keras"',
        "not a requirement !!",
    )
    found = packages_of(requirements, {"numpy": "2.4.6", "onnxruntime": "1.19.2", "h5py": "from a fork"})
    assert found == (
        Package("numpy", "", "<3,>=2.0", "2.4.6", fits=True),
        Package("onnxruntime", "onnxruntime", "<1.33,>=1.30", "1.19.2", fits=False),
        Package("keras", "keras", "<3.16,>=3.12", None, None),
        Package("h5py", "keras", "<4", "from a fork", fits=False),
    )


def test_installed_versions_takes_the_one_that_is_imported_and_passes_over_wreckage(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    install(first, "Onnxruntime", "1.32.0", {})
    install(second, "onnxruntime", "1.19.2", {})
    (second / "keras-3.0.dist-info").mkdir()
    assert installed_versions(distributions(first, second)) == {"onnxruntime": "1.32.0"}


def test_pip_writes_our_own_ranges() -> None:
    assert PIP.install(["onnxruntime", "tensorrt"]) == "pip install 'onnxruntime<1.33,>=1.30' tensorrt"
    assert PIP.reinstall(["onnxruntime-gpu"]) == (
        "pip install --force-reinstall --no-deps 'onnxruntime-gpu<1.33,>=1.30'"
    )
    assert "'tensorflow[and-cuda]>=2'" in Pip("pip", {"tensorflow": ">=2"}).install(["tensorflow[and-cuda]"])


def test_pip_here_has_the_ranges_of_the_metadata() -> None:
    found = packages_of(requirements_of_edgepress(), {})
    assert pip_here(found).ranges["onnxruntime"] == next(p.wanted for p in found if p.name == "onnxruntime")


def test_pip_here_is_the_one_of_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    for folder in (own, foreign):
        folder.mkdir()
        (folder / "pip").write_text("#!/bin/sh\n")
        (folder / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    monkeypatch.setenv("PATH", str(own))
    assert pip_here(()).command == "pip"
    monkeypatch.setenv("PATH", str(foreign))
    assert pip_here(()).command == f"{own}/python -m pip"
    monkeypatch.chdir(tmp_path)
    assert pip_here(()).command == "own/python -m pip"


def test_without_pip_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pip_absence() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert pip_absence() == f"pip is not installed: {sys.executable} -m ensurepip"
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    assert pip_absence() is None
    assert pip_here(()).install(["tensorrt"]) == f"UV_PYTHON={sys.executable} uv pip install tensorrt"


def test_conflicts_of_onnxruntime_under_its_gpu_build(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.32.0", CPU_FILES)
    install(tmp_path, "onnxruntime-gpu", "1.31.0", GPU_FILES)
    both = ("onnxruntime", "onnxruntime-gpu")
    uninstall = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install --force-reinstall --no-deps"
    found = conflicts_among(distributions(tmp_path), PIP, gpu=False)
    damages = (Damage("onnxruntime", 2, 2),)
    assert found == (Conflict("onnxruntime", both, damages, f"{uninstall} 'onnxruntime<1.33,>=1.30'"),)
    assert str(found[0]) == (
        "onnxruntime and onnxruntime-gpu are installed over each other "
        "(2 of the 2 files of onnxruntime are missing or changed)"
    )
    on_gpu = conflicts_among(distributions(tmp_path), PIP, gpu=True)
    assert on_gpu[0].repair == f"{uninstall} 'onnxruntime-gpu<1.33,>=1.30'"


def test_conflicts_of_a_build_whose_rival_was_removed_after_it(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.32.0", GPU_FILES)
    assert conflicts_among(distributions(tmp_path), PIP, gpu=True) == ()
    shutil.rmtree(tmp_path / "onnxruntime")
    found = conflicts_among(distributions(tmp_path), PIP, gpu=True)
    assert [conflict.damages for conflict in found] == [(Damage("onnxruntime-gpu", 2, 2),)]
    assert found[0].repair == "pip install --force-reinstall --no-deps 'onnxruntime-gpu<1.33,>=1.30'"
    assert "another package was installed over it, or removed after it" in str(found[0])


def test_conflicts_of_a_distribution_of_an_unknown_name(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.32.0", CPU_FILES)
    install(tmp_path, "onnxruntime-of-a-vendor", "1.32.0", CPU_FILES)
    found = conflicts_among(distributions(tmp_path), PIP, gpu=False)
    assert [conflict.distributions for conflict in found] == [("onnxruntime", "onnxruntime-of-a-vendor")]
    assert found[0].damages == ()


def test_a_file_of_equal_size_and_other_content_counts_as_changed(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.32.0", CPU_FILES)
    (distribution,) = distributions(tmp_path)
    assert damage_of(distribution, "onnxruntime") is None
    (tmp_path / "onnxruntime/__init__.py").write_text("gpu")
    assert damage_of(distribution, "onnxruntime") == Damage("onnxruntime", 1, 2)


def test_files_that_conda_edited_are_not_called_damaged(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.32.0", CPU_FILES)
    (tmp_path / "onnxruntime/capi/core.so").write_text("edited")
    (tmp_path / "onnxruntime-1.32.0.dist-info/INSTALLER").write_text("conda\n")
    assert conflicts_among(distributions(tmp_path), PIP, gpu=False) == ()


def test_a_distribution_without_a_record_is_no_conflict(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.32.0", CPU_FILES)
    (tmp_path / "onnxruntime-1.32.0.dist-info/RECORD").unlink()
    assert conflicts_among(distributions(tmp_path), PIP, gpu=False) == ()
