"""Archives that mean harm: each is refused in one line, nothing is left, nothing was written elsewhere."""

import gzip
import io
import json
import os
import shutil
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.integrity.archive import write_archive
from deploy.integrity.signing import sign
from deploy.integrity.unpacking import unpack
from deploy.integrity.ustar import Limits
from deploy.runtime.checksums import check_files
from edgepress.cli.main import main
from edgepress.errors import EdgepressError, InputError, ProofError
from edgepress.files import sha256_of_file

Keys = tuple[Path, Path]
NORMAL = Limits()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder in which archives are written and unpacked, to be looked at afterwards."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def content_of(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): None if p.is_dir() or p.is_symlink() else p.read_bytes()
        for p in sorted(folder.rglob("*"))
    }


def packed(path: Path, *members: tuple[str, dict[str, Any]], tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    """A gzipped tar with these members; a size without content is filled with zeros."""
    with tarfile.open(path, "w:gz", format=tar_format, encoding="utf-8") as tar:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(bytes(member.size)) if member.size else None)
    return path


def refused(archive: Path, message: str, limits: Limits = NORMAL) -> None:
    """It is refused with this message, and the whole place is as it was."""
    place = archive.parent.parent
    before = content_of(place)
    with pytest.raises(InputError, match=message) as refusal:
        unpack(archive, archive.parent / "out", limits=limits)
    assert "\n" not in str(refusal.value)
    assert content_of(place) == before


FOLDER: tuple[str, dict[str, Any]] = ("b", {"type": tarfile.DIRTYPE})
HOSTILE: list[tuple[str, list[tuple[str, dict[str, Any]]], str]] = [
    ("absolute", [("/harm", {})], "'/harm' has an absolute path. Do not use it"),
    ("up", [("../harm", {})], "'../harm' has a part in its path that is no plain name. Do not"),
    ("up inside", [("b/../../harm", {})], "that is no plain name"),
    ("folder up", [("b/..", {"type": tarfile.DIRTYPE})], "that is no plain name"),
    ("dot", [("./b/x", {})], "that is no plain name"),
    ("two slashes", [("b//x", {})], "that is no plain name"),
    ("space at the end", [("b/infer.py ", {})], "that is no plain name"),
    ("dot at the end", [("b/infer.py.", {})], "that is no plain name"),
    ("file with a slash", [("b/x/", {"type": b"\0"})], "that is no plain name"),
    ("backslash", [("b/..\\harm", {})], "has a backslash or a colon in its name. Do not use it"),
    ("drive", [("C:/harm", {})], "has a backslash or a colon in its name"),
    ("stream", [("b/infer.py:harm", {})], "has a backslash or a colon in its name"),
    ("newline", [("b/x\ny", {})], r"'b/x\\ny' has a control character in its name. Do not use it"),
    ("escape", [("b/\x1b[2Jx", {})], "has a control character in its name"),
    ("right to left", [("b/\u202egpj.py", {})], "has a control character in its name"),
    (
        "symbolic link",
        [("b/x", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})],
        "is a symbolic link, and",
    ),
    (
        "linked folder",
        [("b", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("b/x", {})],
        "is a symbolic link",
    ),
    (
        "hard link",
        [("b/x", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})],
        "is a hard link, and a bundle",
    ),
    ("device", [("b/x", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})], "is a character device"),
    ("disk", [("b/x", {"type": tarfile.BLKTYPE, "devmajor": 8})], "is a block device"),
    ("pipe", [("b/x", {"type": tarfile.FIFOTYPE})], "is a FIFO, and a bundle has files and folders only"),
    ("contiguous", [("b/x", {"type": tarfile.CONTTYPE})], "is of the unknown kind b'7'"),
    ("sparse", [("b/x", {"type": tarfile.GNUTYPE_SPARSE})], "is a sparse file"),
    ("twice", [("b/x", {}), ("b/x", {})], "'b/x' is there twice, or differs in capitals only. Do not use it"),
    ("folder twice", [FOLDER, FOLDER], "'b' is there twice"),
    ("capitals", [("b/x", {}), ("b/X", {})], "'b/X' is there twice, or differs in capitals only"),
    ("sharp s", [("b/straße", {}), ("b/STRASSE", {})], "is there twice, or differs in capitals only"),
    ("two spellings of é", [("b/é", {}), ("b/e\u0301", {})], "is there twice, or differs in capitals only"),
    ("folder in capitals", [("b/x/y", {}), ("b/X/z", {})], "'b/X/z' is there twice, or differs in capitals"),
    ("file, then folder", [("b/x", {}), ("b/x/y", {})], "'b/x/y' is both a file and a folder. Do not use it"),
    ("folder, then file", [("b/x/y", {}), ("b/x", {})], "'b/x' is both a file and a folder"),
    ("no folder", [("x", {})], "'x' lies in no folder, and a bundle is one folder. Do not use it"),
    ("two folders", [("a/x", {}), ("b/x", {})], "'b/x' lies in a second folder, and a bundle is one folder"),
    ("deep", [("b" + "/d" * 8, {})], "has a name of more than 255 bytes or 8 parts. Do not use it"),
    ("long", [("b" * 155 + "/" + "x" * 100, {})], "has a name of more than 255 bytes"),
    ("compiled", [("b/__pycache__/infer.cpython-311.pyc", {})], "is compiled code, which no bundle has"),
    ("cache", [("b/__pycache__", {"type": tarfile.DIRTYPE})], "is compiled code, which no bundle has"),
    ("extension", [("b/infer.so", {})], "is compiled code, which no bundle has"),
    ("nothing", [], "holds no sound bundle.*manifest.sha256 cannot be read"),
]


@pytest.mark.parametrize(("name", "members", "message"), HOSTILE, ids=[name for name, *_ in HOSTILE])
def test_hostile_member_is_refused(
    place: Path, name: str, members: list[tuple[str, dict[str, Any]]], message: str
) -> None:
    archive = packed(place / "a.tar.gz", *members)
    if name == "nothing":
        with pytest.raises(ProofError, match=message):
            unpack(archive, place / "out")
        assert list(content_of(place)) == ["a.tar.gz"]
        return
    refused(archive, message)


@pytest.mark.parametrize(
    ("tar_format", "attributes", "message"),
    [
        (
            tarfile.PAX_FORMAT,
            {"pax_headers": {"path": "../harm"}},
            "is a PAX header, which renames or resizes",
        ),
        (tarfile.PAX_FORMAT, {"pax_headers": {"size": "1"}}, "is a PAX header"),
        (tarfile.PAX_FORMAT, {"pax_headers": {"GNU.sparse.size": "99999999999"}}, "is a PAX header"),
        (tarfile.PAX_FORMAT, {"pax_headers": {"comment": "harmless"}}, "is a PAX header"),
        (tarfile.GNU_FORMAT, {"name": "b/" + "x" * 300}, "is a GNU header of a long name"),
        (tarfile.GNU_FORMAT, {}, "is in another format than ustar. Pack it anew: tar --format=ustar -czf"),
    ],
)
def test_extension_header_is_refused(
    place: Path, tar_format: int, attributes: dict[str, Any], message: str
) -> None:
    refused(packed(place / "a.tar.gz", ("b/x", attributes), tar_format=tar_format), message)


def test_global_pax_header_is_refused(place: Path) -> None:
    with tarfile.open(
        place / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"path": "harm"}
    ) as tar:
        tar.addfile(tarfile.TarInfo("b/x"))
    refused(place / "a.tar.gz", "is a PAX header")


def header(name: str = "b/x", size_bytes: int = 0) -> bytearray:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return bytearray(member.tobuf(tarfile.USTAR_FORMAT))


def with_checksum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_header_that_is_damaged_or_lies_is_refused(place: Path) -> None:
    end = bytes(1024)
    for at, value, message in (
        (0, b"b/x\0y", "has a NUL in its name. Do not use it"),
        (345, b"b\0/..", "has a NUL in its name"),
        (0, b"b/\xff\xfe", "has a name that is no UTF-8"),
        (124, b"\x80" + bytes(10) + b"\x01", "has a size that is none"),  # GNU's binary numbers
        (124, b"-0000000001\0", "has a size that is none"),
        (124, b"0000000009x\0", "has a size that is none"),
        (124, bytes(12), "has a size that is none"),
        (345, b"/etc", "has an absolute path"),
        (345, b"../..", "is no plain name"),
        (257, b"ustar  \0", "is in another format than ustar"),
        (257, bytes(8), "is in another format than ustar"),
    ):
        block = header()
        block[at : at + len(value)] = value
        refused(raw(place / "a.tar.gz", with_checksum(block) + end), message)
    block = header()
    block[0] ^= 1
    refused(raw(place / "a.tar.gz", bytes(block) + end), "has a damaged header. Get the archive again")
    member = tarfile.TarInfo("b")
    member.type, member.size = tarfile.DIRTYPE, 512
    folder = bytes(member.tobuf(tarfile.USTAR_FORMAT)) + bytes(512)
    refused(raw(place / "a.tar.gz", folder + end), "has a size that is none")


def test_data_behind_the_content_or_the_end_is_refused(place: Path) -> None:
    one = bytes(header(size_bytes=3))
    archive = place / "a.tar.gz"
    refused(raw(archive, one + b"abcd" + bytes(508 + 1024)), "'b/x' is followed by data instead of padding")
    whole = one + b"abc" + bytes(509)
    refused(raw(archive, whole + bytes(512) + one + bytes(1024)), "goes on after its end of archive. Get")
    refused(raw(archive, whole + bytes(1024) + one + bytes(1024)), "goes on after its end of archive")
    refused(raw(archive, whole), "ends within its tar data. Get the archive again")
    refused(raw(archive, whole + bytes(512)), "ends within its tar data")
    refused(raw(archive, whole[:600]), "ends within its tar data")
    refused(raw(archive, b""), "ends within its tar data")


def test_gzip_that_is_cut_or_damaged_or_followed_is_refused(plain_bundle: Path, place: Path) -> None:
    whole = write_archive(plain_bundle).path.read_bytes()
    archive = place / "a.tar.gz"
    half = len(whole) // 2
    for content, message in (
        (whole[:half], "a.tar.gz is truncated. Get the archive again from where it was made"),
        (whole[:-1], "is truncated"),
        (whole[:5], "is truncated"),
        (b"", "is truncated"),
        (whole + b"x", "has something after its gzip data"),
        (whole + whole, "has something after its gzip data"),  # RFC 1952 has members that follow each other
        (whole + bytes(2 << 20), "has something after its gzip data"),
        (whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], "is no gzip file or is damaged"),  # of its CRC
        (
            whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :],
            "is damaged|ends within|damaged header",
        ),
        (b"no gzip at all", "is no gzip file or is damaged"),
        (gzip.decompress(whole), "is no gzip file or is damaged"),
    ):
        archive.write_bytes(content)
        refused(archive, message)


def bomb(path: Path, declared_bytes: int, total_mib: int) -> Path:
    """Zeros, a thousand times smaller when packed."""
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(bytes(header(size_bytes=declared_bytes)))
        for _ in range(total_mib):
            stream.write(bytes(1 << 20))
    return path


def test_bomb_is_stopped_while_it_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limits(total_bytes=8 << 20)
    refused(bomb(place / "a.tar.gz", 100 << 20, 1), "says that it has 104857600 bytes, more than any", limit)
    refused(
        bomb(place / "a.tar.gz", 7 << 20, 64), "unpacks to more than 8388608 bytes; no bundle does", limit
    )
    written = bytes_removed(monkeypatch)
    refused(bomb(place / "a.tar.gz", 8_000_000, 64), "unpacks to more than 8388608 bytes", limit)
    assert 4_000_000 < max(written) <= limit.total_bytes
    tracemalloc.start()
    try:
        refused(bomb(place / "a.tar.gz", 0, 64), "unpacks to more than 8388608 bytes", limit)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def bytes_removed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Becomes the bytes that lie in each folder that is removed from now on."""
    found, right = [], shutil.rmtree

    def rmtree(path: Path, **options: Any) -> None:
        found.append(sum(p.stat().st_size for p in Path(path).rglob("*") if p.is_file()))
        right(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    return found


def test_absolute_path_into_a_folder_that_is_there_writes_nothing(place: Path) -> None:
    refused(packed(place / "a.tar.gz", (f"{place.parent}/harm", {"size": 3})), "has an absolute path")


def test_more_members_than_a_bundle_has_are_refused(place: Path) -> None:
    members: list[tuple[str, dict[str, Any]]] = [(f"b/{i}", {}) for i in range(20)]
    refused(
        packed(place / "a.tar.gz", *members), "has more than 19 members. Do not use it", Limits(members=19)
    )
    assert Limits().total_bytes > 2 << 30
    many: list[tuple[str, dict[str, Any]]] = [(f"b/{i}", {}) for i in range(1001)]
    refused(packed(place / "a.tar.gz", *many), "has more than 1000 members")


def test_bundle_is_unpacked_as_it_was(plain_bundle: Path, place: Path) -> None:
    told = []
    archive = write_archive(plain_bundle).path
    before = content_of(plain_bundle.parent)
    found = unpack(archive, place / "new" / "out", progress=lambda *state: told.append(state))
    assert found.folder == place / "new" / "out"
    assert (found.files, found.signature, found.signer) == ("4 files are as they were", None, None)
    assert content_of(found.folder) == content_of(plain_bundle)
    assert content_of(plain_bundle.parent) == before
    assert {task for task, *_ in told} == {"unpack"}
    assert write_archive(found.folder.rename(place / "plain")).path.read_bytes() == archive.read_bytes()


def test_longest_name_goes_through(plain_bundle: Path, place: Path) -> None:
    folder = plain_bundle.rename(plain_bundle.with_name("n" * 155))
    assert content_of(unpack(write_archive(folder).path, place / "out").folder) == content_of(folder)


def test_modes_owners_and_links_to_the_outside_are_not_taken_over(plain_bundle: Path, place: Path) -> None:
    path = place / "a.tar.gz"

    def changed(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode, member.uid, member.uname, member.mtime = 0o6777, 12345, "root", 1
        return member

    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(plain_bundle, "b", filter=changed)
    found = unpack(path, place / "out").folder
    for file in found.rglob("*"):
        state = file.stat()
        assert state.st_mode & 0o7022 == 0
        assert state.st_uid == os.geteuid()
        assert state.st_mtime > 1e9


def test_folder_that_holds_something_is_not_touched(plain_bundle: Path, place: Path) -> None:
    archive = write_archive(plain_bundle).path
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("keep me")
    (place / "file").write_text("keep me")
    (place / "link").symlink_to(place / "empty")
    (place / "empty").mkdir()
    before = content_of(place)
    for out, message in (
        (place / "mine", "mine is not empty. Nothing in it was touched: give another --out, or move it away"),
        (place / "file", "file is there and is no folder. It was not touched: give another --out"),
        (place / "link", "link is there and is no folder"),
        (place / "file" / "below", "Cannot write"),
        (place / ("n" * 300), "Cannot write"),
        (None, "plain is not empty"),  # the bundle itself, beside its archive
    ):
        with pytest.raises(InputError, match=message):
            unpack(archive, out)
    assert content_of(place) == before
    assert unpack(archive, place / "empty").folder == place / "empty"
    assert content_of(place / "empty") == content_of(plain_bundle)


def test_file_that_comes_meanwhile_is_not_lost(
    plain_bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(folder: Path) -> str:
        (place / "out").mkdir()
        (place / "out" / "thesis.txt").write_text("keep me")
        return check_files(folder)

    monkeypatch.setattr("deploy.integrity.unpacking.check_files", check)
    with pytest.raises(InputError, match="out is not empty"):
        unpack(write_archive(plain_bundle).path, place / "out")
    assert content_of(place) == {"out": None, "out/thesis.txt": b"keep me"}


def test_bundle_that_is_not_what_its_list_says_is_not_delivered(
    plain_bundle: Path, key_pair: Keys, place: Path
) -> None:
    for name, message in (
        ("model.onnx", "holds no sound bundle, and nothing was unpacked: model.onnx: SHA-256 is"),
        ("added.py", "nothing was unpacked: not named in manifest.sha256: added.py"),
        ("engine/model.plan", "not named in manifest.sha256: engine"),
        ("manifest.sig", "manifest.sig is no signature"),
    ):
        path = place / "a.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
            for file in sorted(path for path in plain_bundle.rglob("*") if path.is_file()):
                inside = file.relative_to(plain_bundle).as_posix()
                if inside != name:
                    tar.add(file, f"b/{inside}")
            tar.addfile(header_of(f"b/{name}", 5), io.BytesIO(b"other"))
        with pytest.raises(ProofError, match=message):
            unpack(path, place / "deep" / "er" / "out")
        assert list(content_of(place)) == ["a.tar.gz"], "folders above are gone, too"
    sums = plain_bundle / "manifest.sha256"
    lines = [line for line in sums.read_text().splitlines(keepends=True) if "manifest.json" not in line]
    sums.write_text("".join(lines))
    (plain_bundle / "manifest.json").unlink()
    with pytest.raises(ProofError, match="holds no bundle: its manifest.sha256 does not name manifest.json"):
        unpack(write_archive(plain_bundle).path, place / "out")


def header_of(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    return member


def test_signature_is_checked_before_the_bundle_gets_its_place(
    plain_bundle: Path, key_pair: Keys, place: Path
) -> None:
    out = place / "out"
    unsigned = write_archive(plain_bundle).path
    with pytest.raises(ProofError, match="nothing was unpacked: manifest.sig is missing"):
        unpack(unsigned, out, key_pair[1])
    fingerprint = sign(plain_bundle, key_pair[0]).fingerprint
    signed = write_archive(plain_bundle).path
    with pytest.raises(InputError, match="cannot be checked, and nothing was unpacked: the public key"):
        unpack(signed, out, place / "nowhere.pem")
    assert list(content_of(place)) == []
    found = unpack(signed, out, key_pair[1])
    assert found.signer == fingerprint
    assert found.signature is not None
    assert fingerprint in found.signature
    model, sums = plain_bundle / "model.onnx", plain_bundle / "manifest.sha256"
    old = sha256_of_file(model)
    model.write_bytes(b"x" + model.read_bytes()[1:])
    sums.write_text(sums.read_text().replace(old, sha256_of_file(model)))
    forged = write_archive(plain_bundle).path
    with pytest.raises(ProofError, match="manifest.sha256 is not what was signed"):
        unpack(forged, place / "forged", key_pair[1])
    assert unpack(forged, place / "unasked").signature is None


def test_what_is_no_file_and_has_no_name_is_refused(plain_bundle: Path, place: Path) -> None:
    archive = write_archive(plain_bundle).path
    for path, message in (
        (
            place / "nowhere.tar.gz",
            "nowhere.tar.gz is not there. Give the .tar.gz that `edgepress bundle` wrote",
        ),
        (place, "place is no file. Give"),
        (
            archive.rename(place / "bundle.bin"),
            "does not end with .tar.gz or .tgz. Name the folder with --out",
        ),
    ):
        with pytest.raises(InputError, match=message):
            unpack(path)
    assert unpack((place / "bundle.bin").rename(place / "x.tgz")).folder == place / "x"


def test_archive_that_cannot_be_read_is_told_so(
    plain_bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, right = write_archive(plain_bundle).path, Path.open

    def locked(path: Path, mode: str = "r", **options: Any) -> Any:
        if path == archive:
            raise PermissionError(13, "Permission denied")
        return right(path, mode, **options)

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(
        InputError, match=r"plain.tar.gz cannot be read \(Permission denied\). Check its rights"
    ):
        unpack(archive, place / "out")
    assert content_of(place) == {}


def test_disk_that_fails_within_an_archive_is_told_so(
    plain_bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(plain_bundle).path

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("deploy.integrity.ustar.opened", lambda _: Failing())
    with pytest.raises(
        InputError, match=r"plain.tar.gz cannot be read \(Input/output error\). Check its rights"
    ):
        unpack(archive, place / "out")
    assert content_of(place) == {}


def test_full_disk_leaves_nothing(plain_bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, right = write_archive(plain_bundle).path, Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "xb" and path.name == "model.onnx":
            raise OSError(28, "No space left on device")
        return right(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match="No space left while writing"):
        unpack(archive, place / "a" / "out")
    assert content_of(place) == {}


def test_memory_stays_flat(plain_bundle: Path, place: Path) -> None:
    model, sums = plain_bundle / "model.onnx", plain_bundle / "manifest.sha256"
    old = sha256_of_file(model)
    model.write_bytes(np.random.default_rng(0).integers(0, 256, 16 << 20, np.uint8).tobytes())
    sums.write_text(sums.read_text().replace(old, sha256_of_file(model)))
    archive = write_archive(plain_bundle).path
    tracemalloc.start()
    try:
        unpack(archive, place / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_in_an_archive_leaves_the_whole_bundle_or_nothing(
    plain_bundle: Path, place: Path, seed: int
) -> None:
    """A flipped bit may lie where it changes nothing that is unpacked, in the time of the gzip header."""
    (plain_bundle / "model.onnx").write_bytes(b"small")
    names = ("assets/inner/labels.txt", "empty.txt", "manifest.json", "model.onnx")
    lines = [f"{sha256_of_file(plain_bundle / name)}  {name}\n" for name in names]
    (plain_bundle / "manifest.sha256").write_text("".join(lines))
    whole = write_archive(plain_bundle).path.read_bytes()
    random = np.random.default_rng(seed)
    archive, wanted, passed = place / "a.tar.gz", content_of(plain_bundle), 0
    for i in range(40):
        at, bit = int(random.integers(len(whole))), 1 << int(random.integers(8))
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        out = place / f"out{i}"
        try:
            assert content_of(unpack(archive, out).folder) == wanted, (at, bit)
            passed += 1
        except EdgepressError:
            assert not out.exists()
    assert passed < 10


def test_command_tells_what_it_found(
    plain_bundle: Path, key_pair: Keys, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = str(write_archive(plain_bundle).path)
    assert main(["unpack", archive, "--out", str(place / "a"), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{place / 'a'}: 4 files are as they were\n  not signed\n"
    fingerprint = sign(plain_bundle, key_pair[0]).fingerprint
    write_archive(plain_bundle)
    assert main(["unpack", archive, "--out", str(place / "b")]) == 0
    assert f"signed, as it says, with the key {fingerprint}; --public-key checks" in capsys.readouterr().out
    options = ["--public-key", str(key_pair[1]), "--json"]
    assert main(["unpack", archive, "--out", str(place / "c"), *options]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["bundle"] == str(place / "c")
    assert value["signer"] == fingerprint
    assert value["signature"].startswith("manifest.sha256 is as it was signed with the Ed25519 key")
    assert main(["unpack", archive, "--out", str(place / "c")]) == 2
    assert capsys.readouterr().err.endswith("or move it away yourself.\n")
