"""A bundle's archive: the same bytes for the same content, read by others, replaced only if it is ours."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.integrity.archive import archive_holds, is_bundle_archive, write_archive
from edgepress.errors import InputError
from edgepress.files import sha256_of_file

MEMBERS = [
    *("plain", "plain/assets", "plain/assets/inner", "plain/assets/inner/labels.txt", "plain/empty.txt"),
    *("plain/manifest.json", "plain/manifest.sha256", "plain/model.onnx"),
]


def test_archive_has_the_members_and_nothing_of_this_machine(plain_bundle: Path) -> None:
    told = []
    found = write_archive(plain_bundle, lambda *state: told.append(state))
    assert found.path == plain_bundle.parent / "plain.tar.gz"
    assert found.size_bytes == found.path.stat().st_size
    assert found.sha256 == sha256_of_file(found.path)
    assert told[-1] == ("archive", 0, 1)  # less than a MiB
    assert found.path.read_bytes()[:10] == bytes([31, 139, 8, 0, 0, 0, 0, 0, 0, 255])  # no name, no time
    with tarfile.open(found.path) as tar:
        assert tar.format  # of the reader; the members tell that there is no other header
        assert tar.pax_headers == {}
        assert tar.getnames() == MEMBERS
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 315_532_800  # 1980, the first year of FAT
            assert member.mode == (0o755 if member.isdir() else 0o644)
            assert member.isdir() or member.isreg()
            if member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                assert stream.read() == (plain_bundle.parent / member.name).read_bytes()
    content = gzip.decompress(found.path.read_bytes())
    assert len(content) % tarfile.RECORDSIZE == 0
    assert content.endswith(bytes(2 * tarfile.BLOCKSIZE))
    assert sorted(path.name for path in plain_bundle.parent.iterdir()) == ["plain", "plain.tar.gz"]


def test_bytes_do_not_depend_on_times_modes_order_hash_seed_or_umask(
    plain_bundle: Path, tmp_path: Path
) -> None:
    wanted = write_archive(plain_bundle)
    other = tmp_path / "elsewhere" / "plain"
    other.mkdir(parents=True)
    for path in sorted(plain_bundle.rglob("*"), reverse=True):  # another order of creation
        target = other / path.relative_to(plain_bundle)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            shutil.copyfile(path, target)
            target.chmod(0o700)
            os.utime(target, (1e9, 1e9))
    (other / "assets").chmod(0o700)
    code = (
        "import os, pathlib; os.umask(0o077)\n"
        "from deploy.integrity.archive import write_archive\n"
        f"print(write_archive(pathlib.Path({str(other)!r})).sha256)"
    )
    root = str(Path(__file__).resolve().parents[2])
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root, "TZ": "Asia/Tokyo"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == wanted.sha256
    assert other.with_name("plain.tar.gz").read_bytes() == wanted.path.read_bytes()


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar here")
def test_tar_of_the_system_unpacks_it_without_a_word(plain_bundle: Path, tmp_path: Path) -> None:
    archive = write_archive(plain_bundle).path
    (tmp_path / "there").mkdir()
    command = ["tar", "-xzf", str(archive), "-C", str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sums = ["sha256sum", "-c", "--quiet", "manifest.sha256"]
    assert subprocess.run(sums, cwd=tmp_path / "there" / "plain", check=False).returncode == 0


def test_what_was_made_here_and_what_python_left_stays_behind(plain_bundle: Path) -> None:
    before = write_archive(plain_bundle)
    for name in ("engine", "__pycache__"):
        (plain_bundle / name).mkdir()
        (plain_bundle / name / "x.pyc").write_bytes(b"left")
    assert write_archive(plain_bundle) == before
    (plain_bundle / "manifest.sig").write_text("a signature")
    with tarfile.open(write_archive(plain_bundle).path) as tar:
        assert tar.getnames() == sorted([*MEMBERS, "plain/manifest.sig"])


def test_up_to_date_archive_is_known_and_any_other_is_not(plain_bundle: Path, tmp_path: Path) -> None:
    archive = plain_bundle.parent / "plain.tar.gz"
    assert not archive_holds(archive, plain_bundle)
    write_archive(plain_bundle)
    assert archive_holds(archive, plain_bundle)
    whole = archive.read_bytes()
    content = gzip.decompress(whole)
    other_level = io.BytesIO()
    with gzip.GzipFile("", "wb", 3, other_level, mtime=0) as stream:
        stream.write(content)
    assert other_level.getvalue() != whole
    archive.write_bytes(other_level.getvalue())
    assert archive_holds(archive, plain_bundle), "the same tar by another compressor"
    for name, bad in (
        ("cut", whole[:-1]),
        ("cut in half", whole[: len(whole) // 2]),
        ("followed", whole + b"x"),
        ("named", gzip.compress(content, mtime=1)),
        ("longer", gzip_of(content + bytes(10240))),
        ("shorter", gzip_of(content[:-512])),
        ("changed", gzip_of(content[:600] + b"x" + content[601:])),
        ("changed in the file", gzip_of(content[:-20_000] + b"x" + content[-19_999:])),
        ("empty", b""),
        ("no gzip", b"x" * 1000),
    ):
        archive.write_bytes(bad)
        assert not archive_holds(archive, plain_bundle), name
    archive.write_bytes(whole)
    archive.rename(tmp_path / "aside")
    archive.symlink_to(tmp_path / "aside")
    assert not archive_holds(archive, plain_bundle)
    (plain_bundle / "manifest.sig").write_text("a signature")
    assert not archive_holds(tmp_path / "aside", plain_bundle), "it was signed since"


def gzip_of(content: bytes) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, packed, mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


def test_only_the_archive_of_a_bundle_is_replaced(plain_bundle: Path, tmp_path: Path) -> None:
    archive = plain_bundle.parent / "plain.tar.gz"
    first = write_archive(plain_bundle)
    (plain_bundle / "manifest.sig").write_text("a signature")
    assert write_archive(plain_bundle).sha256 != first.sha256  # an older one is replaced
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(plain_bundle / "model.onnx", "thesis/chapters.txt")
    foreign = (tmp_path / "other.tar.gz").read_bytes()
    for content in (b"keep me", b"", foreign, foreign[:100]):
        archive.write_bytes(content)
        assert not is_bundle_archive(archive)
        with pytest.raises(
            InputError, match="is no archive of a bundle. It was not touched: give another --out"
        ):
            write_archive(plain_bundle)
        assert archive.read_bytes() == content
    archive.unlink()
    archive.mkdir()
    with pytest.raises(InputError, match="is no archive of a bundle"):
        write_archive(plain_bundle)
    archive.rmdir()
    archive.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no archive of a bundle"):
        write_archive(plain_bundle)
    assert archive.is_symlink()


def test_bundle_archive_is_told_by_its_two_manifests_in_one_folder(
    plain_bundle: Path, tmp_path: Path
) -> None:
    assert is_bundle_archive(write_archive(plain_bundle).path)
    assert not is_bundle_archive(tmp_path)
    assert not is_bundle_archive(tmp_path / "nowhere")
    both = ("manifest.json", "manifest.sha256")
    for name, members, expected in (
        ("both", [f"a/{n}" for n in both], True),
        ("one", ["a/manifest.json", "a/other"], False),
        ("two folders", ["a/manifest.json", "b/manifest.sha256"], False),
        ("none", list(both), False),
        ("deeper", [f"a/b/{n}" for n in both], False),
        ("outside", ["../manifest.json", "../manifest.sha256"], False),
    ):
        path = tmp_path / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
            for member in members:
                tar.addfile(tarfile.TarInfo(member), io.BytesIO())
        assert is_bundle_archive(path) is expected, name


def test_changed_file_or_no_bundle_is_not_packed_and_the_old_archive_stays(
    plain_bundle: Path, tmp_path: Path
) -> None:
    archive = write_archive(plain_bundle).path
    before = archive.read_bytes()
    model = plain_bundle / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(b"x" + whole[1:])
    with pytest.raises(InputError, match="model.onnx was changed since the bundle was made. Make the bundle"):
        write_archive(plain_bundle)
    assert not archive_holds(archive, plain_bundle)
    model.unlink()
    with pytest.raises(InputError, match="model.onnx is missing or is a link. Make the bundle again"):
        write_archive(plain_bundle)
    (tmp_path / "aside").write_bytes(whole)
    model.symlink_to(tmp_path / "aside")
    with pytest.raises(InputError, match="model.onnx is missing or is a link"):
        write_archive(plain_bundle)
    with pytest.raises(InputError, match="cannot be packed: manifest.sha256 cannot be read"):
        write_archive(tmp_path)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in plain_bundle.parent.iterdir()) == ["plain", "plain.tar.gz"]


def test_file_that_cannot_be_read_leaves_the_old_archive(
    plain_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, right = write_archive(plain_bundle).path, Path.open
    before = archive.read_bytes()

    def broken(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == "model.onnx":
            raise OSError(5, "Input/output error")
        return right(path, mode, **options)

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(InputError, match="model.onnx cannot be read .*Input/output error.*Check its rights"):
        write_archive(plain_bundle)
    monkeypatch.undo()
    assert archive.read_bytes() == before


@pytest.mark.parametrize("name", ["n" * 156, "b\udcffd"])
def test_name_that_fits_into_no_header_is_refused(plain_bundle: Path, name: str) -> None:
    folder = plain_bundle.with_name(name)
    plain_bundle.rename(folder)
    with pytest.raises(InputError, match="does not fit into a tar file .*shorter name with --out"):
        write_archive(folder)
    assert [path.name for path in folder.parent.iterdir()] == [name]


def test_name_that_is_too_long_with_its_suffix_is_refused(plain_bundle: Path) -> None:
    folder = plain_bundle.rename(plain_bundle.with_name("n" * 250))
    with pytest.raises(
        InputError, match=r"tar.gz cannot be looked at \(File name too long\). Give another --out"
    ):
        write_archive(folder)


def test_name_in_other_letters_is_packed_as_utf_8(plain_bundle: Path) -> None:
    folder = plain_bundle.rename(plain_bundle.with_name("bündel"))
    archive = write_archive(folder).path
    with tarfile.open(archive) as tar:
        assert tar.getnames()[0] == "bündel"
    assert archive_holds(archive, folder)


def test_memory_stays_flat_and_progress_is_told(plain_bundle: Path) -> None:
    model, sums = plain_bundle / "model.onnx", plain_bundle / "manifest.sha256"
    old = sha256_of_file(model)
    block = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).tobytes()
    model.write_bytes(block * 16)
    sums.write_text(sums.read_text().replace(old, hashlib.sha256(block * 16).hexdigest()))
    told = []
    tracemalloc.start()
    try:
        archive = write_archive(plain_bundle, lambda *state: told.append(state)).path
        assert archive_holds(archive, plain_bundle)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert told[-1] == ("archive", 16, 16)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
