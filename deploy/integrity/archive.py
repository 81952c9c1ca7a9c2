"""A bundle as one file: a `.tar.gz` that is the same, byte for byte, whoever writes it.

The format is ustar: every tar can read it, it has no extension headers, in which times or owners could hide,
and a reader can refuse those of others. PAX would add names beyond 255 bytes and files beyond 8 GiB, which no
bundle has. The bytes depend on the content and on the compressor: another zlib may pack the same otherwise.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from deploy.delivered import BUNDLE_MANIFEST, place_of
from deploy.integrity.ustar import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    MIB,
    Blocks,
    Limits,
    opened,
    read_members,
    unzipped,
)
from deploy.runtime.bundle import CouldNotRun, Invalid
from deploy.runtime.checksums import SIGNATURE, SUMS, read_sums
from edgepress.errors import InputError
from edgepress.files import atomic_path, require_disk, sha256_of_file
from edgepress.progress import Progress, silent

SUFFIX = ".tar.gz"
# 1980-01-01T00:00:00Z. FAT, which SD cards have, and zip files cannot hold an earlier time; older versions of
# GNU tar warn of one in 1970.
_TIME_S = 315_532_800
# 100 MB of normally distributed int8 weights with a deviation of 12 steps: 75 MB in 3.3 s at level 1, 73 MB
# in 4.2 s at level 6, and the same size in 4.3 s at level 9. It is packed once and sent to many devices.
_LEVEL = 6
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # RFC 1952: no name, no time, system unknown
_MARGIN_BYTES = 1 << 24


@dataclass(frozen=True)
class Archive:
    """A written archive.

    Attributes:
        path: Where it is.
        sha256: Of its bytes, as lower-case hex.
        size_bytes: Of the file.
    """

    path: Path
    sha256: str
    size_bytes: int


def archive_of(folder: Path) -> Path:
    """Where a bundle's archive belongs: beside the bundle."""
    place = place_of(folder)
    return place.with_name(place.name + SUFFIX)


def write_archive(folder: Path, progress: Progress = silent) -> Archive:
    """Write a bundle as a `.tar.gz` beside it: what manifest.sha256 names, it itself and its signature.

    Each file is compared with its checksum while it is packed. What is there already is replaced only if it
    is a bundle's archive, and stays as it is on failure. Memory does not grow with the model.

    Args:
        folder: Of the bundle.
        progress: Told "archive", in MiB of the bundle.

    Raises:
        InputError: It is no bundle, a file of it was changed, its name does not fit into a header, something
            else is in the archive's place, or the disk is full.
    """
    path = archive_of(folder)
    require_archive_place(path)
    sizes = _sizes_of(folder)
    require_disk(path.parent, sum(sizes.values()) + _MARGIN_BYTES, f"Packing {folder}")
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            written = _Hashed(stream)
            with gzip.GzipFile("", "wb", _LEVEL, cast("BinaryIO", written), mtime=0) as packed:
                for chunk in _tar_of(folder, sizes, progress):
                    packed.write(chunk)
        size_bytes = temporary.stat().st_size
        require_archive_place(path)  # it may have changed meanwhile
    return Archive(path, written.digest.hexdigest(), size_bytes)


def archived(folder: Path, progress: Progress = silent) -> Archive:
    """The archive of a bundle: the one that is there, or else written anew.

    Raises:
        InputError: As `write_archive` does.
    """
    path = archive_of(folder)
    if archive_holds(path, folder):
        return Archive(path, sha256_of_file(path), path.stat().st_size)
    return write_archive(folder, progress)


def archive_holds(archive: Path, folder: Path) -> bool:
    """Whether an archive is the one that would be written for a bundle.

    It is unpacked on the way and compared with the bundle, byte for byte, which takes a fraction of packing.
    An archive by another zlib is one that would be written, too.

    Raises:
        InputError: `folder` is no bundle, or lacks a file.
    """
    sizes, limits = _sizes_of(folder), Limits()
    if archive.is_symlink() or not archive.is_file():
        return False
    try:
        with opened(archive) as stream:
            if stream.read(len(_HEADER)) != _HEADER:
                return False
            stream.seek(0)
            blocks = Blocks(archive, unzipped(archive, stream, limits, silent), limits.total_bytes)
            same = all(blocks.take(len(chunk)) == chunk for chunk in _tar_of(folder, sizes, silent))
            return same and not any(map(len, blocks.rest()))
    except (InputError, OSError):  # it is no archive, or a file was changed
        return False


def is_bundle_archive(path: Path) -> bool:
    """Whether a file is the archive of a bundle, of this one or of another.

    It is if it begins as one: plain files below one folder, manifest.json and manifest.sha256 among them.
    """
    wanted = {BUNDLE_MANIFEST, SUMS}
    if path.is_symlink() or not path.is_file():
        return False
    try:
        for member, _ in read_members(path, Limits()):
            wanted -= {member.name.partition("/")[2]}
            if not wanted:
                return True
    except InputError:
        return False
    return False


def require_archive_place(path: Path) -> None:
    """Only an archive of a bundle is replaced.

    Raises:
        InputError: Something else is there.
    """
    try:
        foreign = path.is_symlink() or (path.exists() and not is_bundle_archive(path))
    except OSError as error:
        raise InputError(f"{path} cannot be looked at ({error.strerror}). Give another --out.") from error
    if foreign:
        raise InputError(
            f"{path} is there and is no archive of a bundle. It was not touched: give another --out, or move "
            "it away yourself."
        )


class _Rising:
    """Reports each amount once: there are more chunks than units."""

    def __init__(self, progress: Progress, task: str, total: int) -> None:
        self._progress, self._task, self._total, self._told = progress, task, total, -1

    def __call__(self, done: int) -> None:
        """So much is done."""
        done = min(done, self._total)
        if done > self._told:
            self._told = done
            self._progress(self._task, done, self._total)


class _Hashed(io.RawIOBase):
    """Passes on what is written, and hashes it."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream, self.digest = stream, hashlib.sha256()

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]  # gzip writes bytes only
        """Write and hash."""
        self.digest.update(content)
        return self._stream.write(content)


def _sizes_of(folder: Path) -> dict[str, int]:
    """Bytes of each file of a bundle that goes into its archive, by its path, sorted.

    Raises:
        InputError: It is no bundle, or lacks a file.
    """
    try:
        names = {*read_sums(folder), SUMS}
    except (Invalid, CouldNotRun) as error:
        raise InputError(f"{folder} cannot be packed: {error}") from error
    names |= {SIGNATURE} if (folder / SIGNATURE).exists() else set()
    whole = folder.resolve()
    for name in names:
        if (folder / name).resolve() != whole / name or not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing or is a link. Make the bundle again.")
    return {name: (folder / name).stat().st_size for name in sorted(names)}


def _tar_of(folder: Path, sizes: dict[str, int], progress: Progress) -> Iterator[bytes]:
    """The tar file of a bundle, in chunks.

    Raises:
        InputError: A file was changed, or a name does not fit.
    """
    top, sums = place_of(folder).name, read_sums(folder)
    folders = {"/".join(name.split("/")[:end]) for name in sizes for end in range(1, name.count("/") + 1)}
    total_mib, done_bytes, count = max(1, sum(sizes.values()) // MIB), 0, BLOCK_BYTES
    tell = _Rising(progress, "archive", total_mib)
    yield _header(top, None)
    for name in sorted({*sizes, *folders}):
        size_bytes = sizes.get(name)
        padding = bytes(-(size_bytes or 0) % BLOCK_BYTES)
        yield _header(f"{top}/{name}", size_bytes)
        if size_bytes is not None:
            for chunk in _content(folder, name, size_bytes, sums.get(name)):
                done_bytes += len(chunk)
                tell(done_bytes // MIB)
                yield chunk
        yield padding
        count += BLOCK_BYTES + (size_bytes or 0) + len(padding)
    end = 2 * BLOCK_BYTES
    yield bytes(end + -(count + end) % tarfile.RECORDSIZE)


def _header(name: str, size_bytes: int | None) -> bytes:
    """The header of a file, or of a folder (None)."""
    member = tarfile.TarInfo(name)
    member.mtime = _TIME_S
    if size_bytes is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size, member.mode = size_bytes, 0o644
    try:
        return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:  # UnicodeEncodeError is one
        raise InputError(
            f"{name!r} does not fit into a tar file ({error}). Give the bundle a shorter name with --out."
        ) from error


def _content(folder: Path, name: str, size_bytes: int, wanted: str | None) -> Iterator[bytes]:
    """A file in chunks; in the end it was as its checksum and its size say."""
    digest, count = hashlib.sha256(), 0
    try:
        with (folder / name).open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                count += len(chunk)
                yield chunk
    except OSError as error:
        raise InputError(f"{folder / name} cannot be read ({error}). Check its rights.") from error
    if count != size_bytes or wanted not in {None, digest.hexdigest()}:
        raise InputError(f"{folder / name} was changed since the bundle was made. Make the bundle again.")
