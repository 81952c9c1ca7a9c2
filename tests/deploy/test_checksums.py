"""What counts as a whole bundle: every file that is named, and no other; no link, no way out."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.runtime.bundle import CouldNotRun, Invalid
from deploy.runtime.checksums import check_files, read_sums

DIGEST = "0" * 64


def test_whole_bundle_with_folders_passes(plain_bundle: Path) -> None:
    assert check_files(plain_bundle) == "4 files are as they were"
    assert list(read_sums(plain_bundle)) == [
        *("assets/inner/labels.txt", "empty.txt", "manifest.json", "model.onnx")
    ]
    (plain_bundle / "manifest.sig").write_text("of whoever")  # signature.py says what that is worth
    assert check_files(plain_bundle) == "4 files are as they were"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("changed", r"assets/inner/labels.txt: SHA-256 is \w{12}…, wanted \w{12}…. Unpack the bundle again."),
        ("missing", "missing: assets/inner/labels.txt. Unpack the bundle again."),
        ("folder instead", "missing: assets/inner/labels.txt. Unpack"),
        ("file instead of a folder", "missing: assets/inner/labels.txt. Unpack"),
        ("added", "not named in manifest.sha256: assets/more. Keep your own files outside of the bundle."),
        ("many added", "not named in manifest.sha256: 0, 1, 2, 3, 4 and 5 more. Keep"),
        ("added folder", "not named in manifest.sha256: assets/inner/more. Keep"),
        ("cache with a script", "not named in manifest.sha256: __pycache__. Keep"),
        ("cache below", "not named in manifest.sha256: assets/__pycache__. Keep"),
        ("engine that nobody allowed", "not named in manifest.sha256: engine. Keep"),
        ("link to the same", "model.onnx is a symbolic link, which no bundle has. Unpack the bundle again."),
        ("linked folder", "assets is a symbolic link"),
        ("linked cache", "__pycache__ is a symbolic link"),
        ("pipe", "model.onnx is neither a file nor a folder. Unpack the bundle again."),
        ("list is a pipe", "manifest.sha256 is no file. Unpack"),
        ("list is a link", "manifest.sha256 is no file. Unpack"),
        ("list is huge", "manifest.sha256 is larger than 1048576 bytes. Unpack"),
        ("no list", "manifest.sha256 cannot be read .*No such file.*Unpack"),
    ],
)
def test_everything_else_is_invalid(plain_bundle: Path, change: str, message: str) -> None:
    alter(plain_bundle, change)
    with pytest.raises(Invalid, match=message) as refusal:
        check_files(plain_bundle)
    assert "\n" not in str(refusal.value)


def alter(folder: Path, change: str) -> None:
    inner, outside = folder / "assets" / "inner", folder.parent / "outside"
    labels = inner / "labels.txt"
    if change == "changed":
        labels.write_text("cat\ndoh\n")
    elif change in {"missing", "folder instead", "file instead of a folder"}:
        labels.unlink()
        if change == "folder instead":
            labels.mkdir()
        elif change == "file instead of a folder":
            inner.rmdir()
            inner.write_text("cat\ndog\n")
    elif "link" in change and "list" not in change:
        replace_by_link(folder / LINKED[change], outside)
    elif change == "pipe":
        (folder / "model.onnx").unlink()
        os.mkfifo(folder / "model.onnx")
    elif "list" in change:
        alter_list(folder / "manifest.sha256", change, outside)
    else:
        add(folder, ADDED[change])


def replace_by_link(path: Path, outside: Path) -> None:
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)


def add(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(b"")


LINKED = {"link to the same": "model.onnx", "linked folder": "assets", "linked cache": "__pycache__"}
ADDED = {
    "added": ["assets/more"],
    "many added": [str(i) for i in range(10)],
    "added folder": ["assets/inner/more/"],
    "cache with a script": ["__pycache__/x.pyc", "__pycache__/more.py"],
    "cache below": ["assets/__pycache__/x.pyc"],
    "engine that nobody allowed": ["engine/model.plan"],
}


def alter_list(sums: Path, change: str, outside: Path) -> None:
    if change == "list is huge":
        sums.write_text(sums.read_text() * 5000)
        return
    sums.rename(outside)
    if change == "list is a pipe":
        os.mkfifo(sums)
    elif change == "list is a link":
        sums.symlink_to(outside)


@pytest.mark.parametrize(
    "line",
    [
        f"{DIGEST}  /etc/passwd",
        f"{DIGEST}  ../outside",
        f"{DIGEST}  a/../../outside",
        f"{DIGEST}  ./a",
        f"{DIGEST}  a//b",
        f"{DIGEST}  a/",
        f"{DIGEST}  a\\b",
        f"{DIGEST}  c:a",
        f"{DIGEST}  a\tb",
        f"{DIGEST}  a\0b",
        f"{DIGEST}  ",
        f"{DIGEST}  manifest.sha256",
        f"{DIGEST}  manifest.sig",
        f"{DIGEST}  model.onnx",  # a second time
        f"{DIGEST} *a",
        f"{DIGEST}\ta",
        f"{DIGEST[1:]}  a",
        f"{DIGEST}0  a",
        f"{DIGEST[1:]}g  a",
        f"{DIGEST[1:]}A  a",
        "a",
        "",
    ],
)
def test_line_that_is_no_checksum_of_a_file_inside_is_invalid(plain_bundle: Path, line: str) -> None:
    with (plain_bundle / "manifest.sha256").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(Invalid, match="manifest.sha256 has a line that is no checksum: .*Unpack the bundle"):
        check_files(plain_bundle)


def test_list_that_is_cut_or_no_text_or_empty_is_invalid(plain_bundle: Path) -> None:
    sums = plain_bundle / "manifest.sha256"
    whole = sums.read_bytes()
    for content, message in (
        (whole[:-1], "does not end with a whole line"),
        (b"", "names no file"),
        (whole.replace(b"empty", b"empt\xc3"), "cannot be read"),
    ):
        sums.write_bytes(content)
        with pytest.raises(Invalid, match=message):
            check_files(plain_bundle)


def test_what_was_made_here_is_left_out_only_if_the_caller_says_so(plain_bundle: Path) -> None:
    engine = plain_bundle / "engine"
    (engine / "cache").mkdir(parents=True)
    (engine / "model.plan").write_bytes(b"plan")
    (engine / "cache" / "timing").write_bytes(b"times")
    assert check_files(plain_bundle, frozenset({"engine"})) == "4 files are as they were"
    with pytest.raises(Invalid, match="not named in manifest.sha256: engine"):
        check_files(plain_bundle, frozenset({"assets"}))
    (engine / "model.plan").unlink()
    (engine / "model.plan").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="engine/model.plan is a symbolic link"):
        check_files(plain_bundle, frozenset({"engine"}))
    (engine / "model.plan").unlink()
    (plain_bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(Invalid, match="model.onnx: SHA-256"):
        check_files(plain_bundle, frozenset({"engine", "model.onnx"}))


def test_what_is_made_here_is_a_folder(plain_bundle: Path) -> None:
    (plain_bundle / "engine").write_bytes(b"a file")
    with pytest.raises(Invalid, match="not named in manifest.sha256: engine"):
        check_files(plain_bundle, frozenset({"engine"}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_no_verdict(plain_bundle: Path) -> None:
    (plain_bundle / "model.onnx").chmod(0)
    with pytest.raises(CouldNotRun, match="model.onnx cannot be read .*Check its rights"):
        check_files(plain_bundle)


def test_folder_that_cannot_be_looked_through_is_no_verdict(
    plain_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(
        CouldNotRun, match="plain cannot be looked through .*Permission denied.*Check its rights"
    ):
        check_files(plain_bundle)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.sha256"])
def test_reading_that_fails_is_no_verdict(
    plain_bundle: Path, make_unreadable: Callable[[str], None], name: str
) -> None:
    make_unreadable(name)
    with pytest.raises(CouldNotRun, match=f"{name} cannot be read .*Input/output error.*Check its rights"):
        check_files(plain_bundle)


def test_memory_does_not_grow_with_the_model(plain_bundle: Path) -> None:
    from edgepress.files import sha256_of_file

    model, sums = plain_bundle / "model.onnx", plain_bundle / "manifest.sha256"
    before = sha256_of_file(model)
    os.truncate(model, 64 << 20)
    sums.write_text(sums.read_text().replace(before, sha256_of_file(model)))
    tracemalloc.start()
    try:
        check_files(plain_bundle)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
