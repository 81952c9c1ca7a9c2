import errno
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from edgepress.errors import InputError
from edgepress.files import (
    atomic_path,
    make_folder,
    read_json,
    require_disk,
    sha256_of_json,
    sha256_of_path,
    size_bytes,
    write_json,
)


def test_atomic_path_leaves_old_content_and_no_scratch_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_atomic_path_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["saved"]


def test_atomic_path_says_what_to_do_when_the_disk_is_full(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left while writing .*Free some disk"):
        with atomic_path(tmp_path / "a"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_atomic_path_on_a_really_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(InputError, match="No space left"):
            with atomic_path(tmp_path / "a") as temporary:
                temporary.write_bytes(bytes(1 << 20))
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_make_folder_refuses_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write .*Choose a folder that you may write to"):
        make_folder(tmp_path / "file" / "out")


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out is a folder, and a file was to take its place"):
        write_json(tmp_path / "out", {})
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_sha256_of_path_of_a_folder_follows_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "sub" / "a").write_bytes(b"a")
    lines = f"{hashlib.sha256(b'b').hexdigest()}  b\n{hashlib.sha256(b'a').hexdigest()}  sub/a\n"
    assert sha256_of_path(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    assert size_bytes(tmp_path) == 2


def test_sha256_of_json_does_not_depend_on_key_order() -> None:
    assert sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No thing at"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("\udcff", "cannot be"),
    ],
)
def test_read_json_names_what_is_wrong(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        read_json(path, "thing")


def test_require_disk_names_both_figures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Export needs about 1000000000\.0 GB of disk, .* GB free"):
        require_disk(tmp_path / "not" / "yet", 10**18, "Export")
    require_disk(tmp_path / "not" / "yet", 1, "Export")
