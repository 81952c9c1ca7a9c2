"""What may be replaced, and what counts as up to date: nobody loses a file to a bundle."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.selection import Limits
from deploy.stage import BundleRequest, bundle_folder
from edgepress.errors import InputError, MissingRuntimeError


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make(folder: Path, out: Path, max_drop: float = 1.0) -> None:
    bundle_folder(BundleRequest(folder, "linux-x64-cpu", out, variant="onnx-fp32", limits=Limits(max_drop)))


def test_folder_with_a_manifest_sha256_of_its_own_is_not_touched(small: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("keep me")
    (mine / "manifest.sha256").write_text(f"{hashlib.sha256(b'keep me').hexdigest()}  thesis.txt\n")
    before = content_of(mine)
    with pytest.raises(
        InputError, match="is there and is no bundle.*Nothing in it was touched.*another --out"
    ):
        make(small, mine)
    assert content_of(mine) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("added file", r"changed since \(not named in manifest.sha256: thesis.txt"),
        ("added folder", r"changed since \(not named in manifest.sha256: data"),
        ("file in the cache", r"changed since \(.*__pycache__"),
        ("edited README", r"changed since \(README.md: SHA-256 is"),
        ("missing file", r"changed since \(missing: labels.txt"),
    ],
)
def test_bundle_that_was_changed_is_neither_current_nor_replaced(
    small: Path, small_bundle: Path, change: str, reason: str
) -> None:
    if change == "added file":
        (small_bundle / "thesis.txt").write_text("keep me")
    elif change == "added folder":
        (small_bundle / "data").mkdir()
    elif change == "file in the cache":
        (small_bundle / "__pycache__").mkdir()
        (small_bundle / "__pycache__" / "thesis.txt").write_text("keep me")
    elif change == "edited README":
        (small_bundle / "README.md").write_text("my notes")
    else:
        (small_bundle / "labels.txt").unlink()
    before = content_of(small_bundle)
    with pytest.raises(InputError, match=reason):
        make(small, small_bundle)
    assert content_of(small_bundle) == before


def test_whole_bundle_is_current_and_an_older_one_is_replaced(
    small: Path, small_bundle: Path, write_results: Callable[..., None]
) -> None:
    written = (small_bundle / "manifest.json").stat().st_mtime_ns
    (small_bundle / "__pycache__").mkdir()
    (small_bundle / "__pycache__" / "infer.cpython-311.pyc").write_bytes(b"left by an import")
    make(small, small_bundle)
    assert (small_bundle / "manifest.json").stat().st_mtime_ns == written
    write_results(small, "other")
    make(small, small_bundle)
    assert (small_bundle / "manifest.json").stat().st_mtime_ns > written
    assert not (small_bundle / "__pycache__").exists()


def test_file_symlink_and_artifact_are_not_replaced(small: Path, small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    (small / "more").mkdir()
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to(small)
    dangling.symlink_to(tmp_path / "nowhere")
    before = content_of(tmp_path)
    for out, reason in (
        (tmp_path / "file", "is a file"),
        (small / "onnx-fp32.onnx", "is a file"),
        (link, "is a symbolic link"),
        (dangling, "is a symbolic link"),
        (small, "is there and is no bundle"),
        (tmp_path, "is there and is no bundle"),
        (small / "more" / "..", "is there and is no bundle"),
        (tmp_path / "file" / "below", "Cannot write"),
        (tmp_path / ("n" * 300), "cannot be looked at"),
    ):
        with pytest.raises(InputError, match=reason):
            make(small, out)
    assert content_of(tmp_path) == before
    assert link.is_symlink()
    assert dangling.is_symlink()


def test_bundle_does_not_go_into_an_artifact_that_is_a_folder(small: Path) -> None:
    (small / "onnx-fp32.onnx").unlink()
    (small / "onnx-fp32.onnx").mkdir()
    with pytest.raises(InputError, match="is inside the artifact onnx-fp32. Give another --out"):
        make(small, small / "onnx-fp32.onnx" / "bundle")
    assert os.listdir(small / "onnx-fp32.onnx") == []


def test_empty_folder_is_taken(small: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make(small, tmp_path / "empty")
    assert (tmp_path / "empty" / "verify.py").is_file()


@pytest.mark.parametrize("max_drop", [float("nan"), -1.0])
def test_loss_that_is_no_limit_is_refused(small: Path, tmp_path: Path, max_drop: float) -> None:
    with pytest.raises(InputError, match="--max-drop wants 0 points or more. Received: "):
        make(small, tmp_path / "out", max_drop)


def test_file_that_comes_while_the_bundle_is_made_is_not_lost(
    small: Path, small_bundle: Path, write_results: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy import stage

    def prove(*_: Any) -> str:
        (small_bundle / "thesis.txt").write_text("keep me")
        return "VALID"

    write_results(small, "other")
    monkeypatch.setattr(stage, "prove", prove)
    with pytest.raises(InputError, match="thesis.txt"):
        make(small, small_bundle)
    assert (small_bundle / "thesis.txt").read_text() == "keep me"
    assert not list(small.parent.glob(".scratch-*"))


@pytest.mark.parametrize("label", ["two\nlines", "form\x0cfeed", "", "\ud800"])
def test_label_that_fits_on_no_line_is_refused(small: Path, tmp_path: Path, label: str) -> None:
    path = small / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["model"]["labels"][1] = label
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="does not fit on a line of labels.txt.*--labels"):
        make(small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_its_runtime_nothing_is_delivered(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingRuntimeError, match=r"'onnxruntime' is not installed here.*edgepress\[onnxruntime\]"
    ):
        make(small, tmp_path / "x")
    assert not (tmp_path / "x").exists()
