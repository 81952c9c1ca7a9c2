import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from edgepress.cli import preflight

Usage = namedtuple("Usage", "total used free")


def missing(tmp_path: Path, **changes: str) -> list[str]:
    given = {
        "model": "vgg16-digits",
        "weights": "",
        "data": "",
        "out": str(tmp_path / "out"),
        "environment": str(tmp_path),
        "needs_data": "all",
    }
    return preflight.missing(**{**given, **changes})


def test_missing_is_empty_for_the_default(tmp_path: Path) -> None:
    assert missing(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vgg17"}, "MODEL=vgg17 is neither vgg16, vgg16-digits nor a .keras file"),
        ({"model": "mine.keras"}, "MODEL=mine.keras does not exist"),
        ({"weights": "w.h5"}, "WEIGHTS=w.h5 does not exist"),
        ({"model": "vgg16"}, "DATA= is needed for MODEL=vgg16"),
        ({"data": "photos"}, "DATA=photos does not exist"),
    ],
)
def test_missing_names_what_to_give(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    assert any(message in clause for clause in missing(tmp_path, **changes))


def test_missing_wants_no_data_for_export_alone(tmp_path: Path) -> None:
    assert missing(tmp_path, model="vgg16", needs_data="") == []


def test_missing_names_an_old_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert "Python 3.11 to 3.13 is needed and " in missing(tmp_path)[0]


def test_missing_names_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 10**9))
    assert "5.5 GB of disk are needed and " in missing(tmp_path, model="vgg16", data="digits")[0]
    assert missing(tmp_path) == []


def test_preflight_as_a_program_ends_in_one_line() -> None:
    arguments = ["vgg17", "", "nowhere", "out", ".", "all"]
    done = subprocess.run(
        [sys.executable, preflight.__file__, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("edgepress: cannot start: MODEL=vgg17")
