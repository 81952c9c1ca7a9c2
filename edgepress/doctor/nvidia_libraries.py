"""NVIDIA's libraries on this machine. None is loaded: the names of their files carry the versions."""

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from edgepress.doctor.fact import Unknown

_PATIENCE_S = 10.0
_LIBRARIES = {
    "CUDA runtime": "libcudart.so*",
    "cuDNN": "libcudnn.so*",
    "TensorRT": "libnvinfer.so*",
    "TensorRT-RTX": "libtensorrt_rtx.so*",
}
_SYSTEM_FOLDERS = (
    *("usr/local/cuda*/lib64", "usr/local/cuda*/targets/*/lib"),
    *("usr/lib/*-linux-gnu", "usr/lib64", "opt/tensorrt*/lib"),
)
_PACKAGE_FOLDERS = ("nvidia/*/lib", "tensorrt_libs", "tensorrt_rtx_libs")


@dataclass(frozen=True)
class Library:
    """A library of NVIDIA's.

    Attributes:
        name: In words.
        version: As far as the file's name tells.
        path: Of the file, with symbolic links followed.
    """

    name: str
    version: str | Unknown
    path: str


def libraries_under(root: Path, packages: Path | None = None, search: str = "") -> tuple[Library, ...]:
    """CUDA, cuDNN and TensorRT, each file once.

    Args:
        root: "/", or a copy of parts of it.
        packages: The folder that pip installs into; None for that of this interpreter.
        search: Further folders, as in LD_LIBRARY_PATH.
    """
    packages = packages or Path(sysconfig.get_path("platlib"))
    folders = [
        *(Path(folder) for folder in search.split(os.pathsep) if folder),
        *_matches(packages, _PACKAGE_FOLDERS),
        *_matches(root, _SYSTEM_FOLDERS),
    ]
    found: dict[str, Library] = {}
    for name, pattern in _LIBRARIES.items():
        for folder in folders:
            for path in _matches(folder, (pattern,)):
                file = path.resolve()
                found.setdefault(str(file), Library(name, _version_in(file.name), str(file)))
    return tuple(found.values())


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    try:
        return [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    except OSError:  # a folder that may not be read: the loader cannot take a library from there either
        return []


def _version_in(name: str) -> str | Unknown:
    _, _, version = name.partition(".so.")
    return version or Unknown(f"the name {name} does not say")


def nvcc_version(root: Path, path: str | None = None) -> str | Unknown | None:
    """The release of CUDA's compiler, such as "12.8"; None without one.

    Args:
        root: Where to look for usr/local/cuda if it is not on the path.
        path: Folders as in PATH; None for those of this process.
    """
    usual = root / "usr/local/cuda/bin/nvcc"
    command = shutil.which("nvcc", path=path) or (str(usual) if usual.is_file() else None)
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unknown(f"{command}: {error}")
    release = re.search(r"release (\d+\.\d+)", done.stdout)
    return release[1] if release else Unknown(f"{command} --version does not say")
