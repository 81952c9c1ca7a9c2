"""A gzipped tar that is read without trusting it: plain files and folders below one folder, and nothing else.

`tarfile` follows headers that rename, resize or link what comes after them; a bundle's archive has none, so
each of them is a reason to stop. Formats: POSIX.1-1988 ustar (`pax`(1), "ustar Interchange Format"), RFC
1952.
"""

import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepress.errors import InputError
from edgepress.progress import Progress, silent

BLOCK_BYTES = 512
CHUNK_BYTES = 1 << 20
MIB = 1 << 20
_AGAIN = "Get the archive again from where it was made."
_GZIP = 31  # zlib's number for one gzip member with its header and its checksum
# In this order: name, mode, uid, gid, size, mtime, checksum, kind of member, name of the linked file, magic,
# version, names of owner and group, two numbers of a device, prefix of the name.
_HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 6s 2s 32s 32s 8s 8s 155s 12x")
_FILES, _FOLDER = {b"0", b"\0"}, b"5"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"x": "a PAX header, which renames or resizes what follows",
    b"g": "a PAX header, which renames or resizes what follows",
    b"L": "a GNU header of a long name",
    b"K": "a GNU header of a long name",
    b"S": "a sparse file",
}
_NAME_BYTES = 255
_DEPTH = 8


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        members: Files and folders.
        total_bytes: Of everything, unzipped. The default has room for a model of 2 GiB, the most that one
            ONNX file can have.
    """

    members: int = 1000
    total_bytes: int = 4 << 30


@dataclass(frozen=True)
class Member:
    """A file or a folder in an archive.

    Attributes:
        name: Its path, with `/` between the parts and none at the end.
        is_folder: Whether it is a folder.
        size_bytes: Of a file's content.
    """

    name: str
    is_folder: bool
    size_bytes: int


def read_members(
    archive: Path, limits: Limits, progress: Progress = silent
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Each member and its content, in chunks; what the caller leaves of the content is skipped.

    Memory is bounded by a few chunks, whatever the archive says of itself.

    Args:
        archive: A `.tar.gz`.
        limits: Beyond which reading stops.
        progress: Told "unpack", in MiB of the archive.

    Raises:
        InputError: It is no such archive, is damaged, exceeds a limit, or holds anything that could be
            written elsewhere than below one new folder.
    """
    with opened(archive) as stream:
        blocks = Blocks(archive, unzipped(archive, stream, limits, progress), limits.total_bytes)
        names = _Names(archive, limits.members)
        while any(header := blocks.take(BLOCK_BYTES)):
            member = _member_of(archive, header)
            names.add(member)
            content = _content(archive, blocks, member)
            yield member, content
            for _ in content:
                pass
        if any(blocks.take(BLOCK_BYTES)) or any(map(any, blocks.rest())):
            raise InputError(f"{archive} goes on after its end of archive. {_AGAIN}")


def opened(archive: Path) -> BinaryIO:
    """An archive to read from.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return archive.open("rb")
    except OSError as error:
        raise _unreadable(archive, error) from error


def _unreadable(archive: Path, error: OSError) -> InputError:
    return InputError(f"{archive} cannot be read ({error.strerror or error}). Check its rights and the disk.")


def unzipped(archive: Path, stream: BinaryIO, limits: Limits, progress: Progress) -> Iterator[bytes]:
    """The content of one gzip member, in chunks of at most 1 MiB, and nothing may follow it."""
    total_mib, unzip, count = max(1, archive.stat().st_size // MIB), zlib.decompressobj(_GZIP), 0
    while not unzip.eof:
        try:
            packed = unzip.unconsumed_tail or stream.read(CHUNK_BYTES)
            chunk = unzip.decompress(packed, CHUNK_BYTES)
        except OSError as error:
            raise _unreadable(archive, error) from error
        except zlib.error as error:
            raise InputError(f"{archive} is no gzip file or is damaged ({error}). {_AGAIN}") from error
        if not packed and not chunk and not unzip.eof:
            raise InputError(f"{archive} is truncated. {_AGAIN}")
        count += len(chunk)
        if count > limits.total_bytes:
            raise InputError(
                f"{archive} unpacks to more than {limits.total_bytes} bytes; no bundle does. Do not use it."
            )
        progress("unpack", min(stream.tell() // MIB, total_mib), total_mib)
        yield chunk
    if unzip.unused_data or stream.read(1):
        raise InputError(f"{archive} has something after its gzip data. {_AGAIN}")


class Blocks:
    """Takes so many bytes at a time of what comes in chunks of any size."""

    def __init__(self, archive: Path, chunks: Iterator[bytes], most_bytes: int) -> None:
        self._archive, self._chunks, self._held = archive, chunks, b""
        self.left_bytes = most_bytes

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes, at most a chunk."""
        while len(self._held) < count:
            more = next(self._chunks, None)
            if more is None:
                raise InputError(f"{self._archive} ends within its tar data. {_AGAIN}")
            self._held += more
        taken, self._held = self._held[:count], self._held[count:]
        self.left_bytes -= count
        return taken

    def rest(self) -> Iterator[bytes]:
        """Everything that is left."""
        yield self._held
        yield from self._chunks


def _member_of(archive: Path, header: bytes) -> Member:
    """What a header says, which is believed only where it is one of ours."""
    fields = _HEADER.unpack(header)
    where = f"{archive}: the member {_shown(fields[0])}"
    blank = header[:148] + b" " * 8 + header[156:]  # the checksum is taken with spaces in its own place
    if _number(fields[6]) != sum(blank):
        raise InputError(f"{where} has a damaged header. {_AGAIN}")
    kind = fields[7]
    if kind not in _FILES and kind != _FOLDER:
        what = _REFUSED.get(kind, f"of the unknown kind {kind!r}")
        raise InputError(f"{where} is {what}, and a bundle has files and folders only. Do not use it.")
    if fields[9] + fields[10] != b"ustar\x0000":
        raise InputError(
            f"{where} is in another format than ustar. Pack it anew: tar --format=ustar -czf FILE DIR"
        )
    size_bytes = _number(fields[4])
    if size_bytes is None or (kind == _FOLDER and size_bytes):
        raise InputError(f"{where} has a size that is none: {fields[4]!r}. {_AGAIN}")
    name = _name_of(where, fields[0], fields[15])
    if kind == _FOLDER:
        name = name.removesuffix("/")
    _require_name(where, name)
    return Member(name, kind == _FOLDER, size_bytes)


def _number(field: bytes) -> int | None:
    """An octal number as text; None for anything else, also for GNU's binary numbers."""
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not set(digits) - set(b"01234567") else None


def _name_of(where: str, name: bytes, prefix: bytes) -> str:
    """The whole name of a member, of its two parts in a header."""
    parts = []
    for field in (prefix, name):
        text, _, rest = field.partition(b"\0")
        if any(rest):
            raise InputError(f"{where} has a NUL in its name. Do not use it.")
        parts += [text] if text else []
    try:
        return b"/".join(parts).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a name that is no UTF-8. Do not use it.") from error


def _require_name(where: str, name: str) -> None:
    """Refuse a name that any system could understand as a place elsewhere, or that it could not write."""
    if not name.isprintable():
        raise InputError(f"{where} has a control character in its name. Do not use it.")
    if set(name) & set("\\:"):
        raise InputError(f"{where} has a backslash or a colon in its name. Do not use it.")
    if name.startswith("/"):
        raise InputError(f"{where} has an absolute path. Do not use it.")
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or any(part.endswith((".", " ")) for part in parts):
        raise InputError(f"{where} has a part in its path that is no plain name. Do not use it.")
    if len(name.encode()) > _NAME_BYTES or len(parts) > _DEPTH:
        raise InputError(
            f"{where} has a name of more than {_NAME_BYTES} bytes or {_DEPTH} parts. Do not use it."
        )


class _Names:
    """The names so far: each once, also where capitals do not count, and all below one folder."""

    def __init__(self, archive: Path, most: int) -> None:
        self._archive, self._most, self._count = archive, most, 0
        self._is_folder: dict[str, bool] = {}
        self._named: set[str] = set()
        self._spelt: dict[str, str] = {}

    def add(self, member: Member) -> None:
        """Take one more member, or refuse it."""
        self._count += 1
        where = f"{self._archive}: the member {_shown(member.name.encode())}"
        if self._count > self._most:
            raise InputError(f"{self._archive} has more than {self._most} members. Do not use it.")
        parts = member.name.split("/")
        if len(parts) == 1 and not member.is_folder:
            raise InputError(f"{where} lies in no folder, and a bundle is one folder. Do not use it.")
        self._add_paths(where, parts, member)
        if len([name for name in self._is_folder if "/" not in name]) > 1:
            raise InputError(f"{where} lies in a second folder, and a bundle is one folder. Do not use it.")

    def _add_paths(self, where: str, parts: list[str], member: Member) -> None:
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            key = unicodedata.normalize("NFC", path).casefold()  # as macOS and Windows compare names
            is_folder = member.is_folder or end < len(parts)
            if self._is_folder.setdefault(key, is_folder) is not is_folder:
                raise InputError(f"{where} is both a file and a folder. Do not use it.")
            if self._spelt.setdefault(key, path) != path or (end == len(parts) and key in self._named):
                raise InputError(f"{where} is there twice, or differs in capitals only. Do not use it.")
        self._named.add(key)


def _content(archive: Path, blocks: Blocks, member: Member) -> Iterator[bytes]:
    """The bytes of a member; afterwards the next header is next."""
    left = member.size_bytes
    if left > blocks.left_bytes:
        raise InputError(
            f"{archive}: {member.name!r} says that it has {left} bytes, more than any bundle. Do not use it."
        )
    while left:
        chunk = blocks.take(min(left, CHUNK_BYTES))
        left -= len(chunk)
        yield chunk
    if any(blocks.take(-member.size_bytes % BLOCK_BYTES)):
        raise InputError(f"{archive}: {member.name!r} is followed by data instead of padding. {_AGAIN}")


def _shown(name: bytes) -> str:
    """A name as it can be printed on one line."""
    return repr(name.rstrip(b"\0")[:80].decode(errors="replace"))
