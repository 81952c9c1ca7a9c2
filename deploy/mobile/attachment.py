"""A buffer is added to a TFLite file in front of it, and files are added behind it; the model stays as it is.

Offsets inside a flatbuffer are relative and lead forward (flatbuffers.dev/internals). So a new `Model` table
in front can refer to all that the old one refers to, wherever that lies; to pack the file anew would hold
550 MB of weights in memory. What is in front is a multiple of 16 bytes, so all stays as aligned as it was.
The old table remains as bytes that nothing refers to. Places counted from the beginning of the file, which
TFLite's schema has for large data (`Buffer.offset`, `Operator.large_custom_options_offset`), are moved on.

Files behind it are a zip archive without compression, as the documentation of TFLite Metadata asks for:
readers take a file's bytes where they lie. Its own offsets count from the beginning of the whole file: the
reader for Android (ZipFile.java of tflite-support) takes them so.
"""

import mmap
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgepress.errors import InputError

LIMIT_BYTES = 2**31
"""A TFLite file must stay below it: readers take its offsets for signed 32-bit numbers."""

_IDENTIFIER = b"TFL3"
_ALIGNMENT_BYTES = 16  # of Buffer.data (force_align in TFLite's schema), the largest there is
_CHUNK_BYTES = 4 << 20
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_UNREADABLE = (struct.error, IndexError, TypeError, ValueError, AttributeError)
"""What FlatBuffers' reader meets where bytes are damaged; it follows any offset."""
# Fields of `Model` by their places in TFLite's schema, and the first that is not known here.
_VERSION, _BUFFERS, _METADATA, _END = 0, 4, 6, 10
_BUFFER_OFFSET = 1  # of `Buffer`
_OPTIONS_OFFSET = 9  # of `Operator`: large_custom_options_offset


@contextmanager
def mapped_model(path: Path) -> "Iterator[Any]":
    """The `Model` of a TFLite file, which stays on disk.

    Raises:
        InputError: It is missing, or no TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Export the model anew.") from error
    with stream:
        if stream.read(8)[4:] != _IDENTIFIER:
            raise InputError(f"{path} is no TFLite file. Export the model anew.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                yield schema.Model.GetRootAs(content)
            except _UNREADABLE as error:
                raise InputError(f"{path} is damaged ({error}). Export the model anew.") from error


def attach(source: Path, destination: Path, name: str, content: bytes, files: Mapping[str, bytes]) -> int:
    """Write a TFLite file with one more entry in `Model.metadata`, and with files behind it.

    Args:
        source: TFLite file; unchanged. It is read in blocks of a few MB.
        destination: New file. The same input gives the same bytes.
        name: Of the entry, which `source` does not have.
        content: Of the entry's buffer.
        files: Their content by their names.

    Returns:
        By how many bytes what `source` holds was moved on.

    Raises:
        InputError: `source` is no TFLite file that is known here, has such an entry, or would get too large.
    """
    with mapped_model(source) as model:
        _require_known(source, model, name)
        head = _head(model, name, content)
        absolute = list(_absolute_places(model))
    moved, size = len(head), source.stat().st_size
    room = size + moved + sum(map(len, files.values()))
    if room >= LIMIT_BYTES:
        raise InputError(
            f"One TFLite file holds less than {LIMIT_BYTES / 1e9:.1f} GB, and {source} with what is added "
            f"would have {room / 1e9:.1f} GB. Use a smaller variant."
        )
    with destination.open("w+b") as stream, source.open("rb") as old:
        stream.write(head)
        shutil.copyfileobj(old, stream, _CHUNK_BYTES)
        for place, value in absolute:
            stream.seek(moved + place)
            stream.write(struct.pack("<Q", value + moved))
        stream.seek(0, 2)
        _append_zip(stream, files)
    return moved


def attached_files(path: Path) -> dict[str, bytes]:
    """What a standard zip reader finds at the end of a file, by name; nothing where there is no archive.

    Raises:
        InputError: There is one, and it is damaged.
    """
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error) as error:
        raise InputError(
            f"The files at the end of {path} cannot be read ({error or 'cut off'}). Bundle it anew."
        ) from error


def attached_content(path: Path, name: str) -> bytes | None:
    """The buffer of an entry in `Model.metadata`; None if there is no such entry.

    Raises:
        InputError: The file is missing, damaged, or no TFLite file.
    """
    with mapped_model(path) as model:
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if entry.Name() == name.encode():
                begin, size = place_of(model.Buffers(entry.Buffer()))
                return bytes(model._tab.Bytes[begin : begin + size])
    return None


def place_of(buffer: Any) -> tuple[int, int]:
    """(first byte in the file, number of bytes) of a buffer's data; (0, 0) where it has none."""
    inside = buffer._tab.Offset(4)
    begin = buffer._tab.Vector(inside) if inside else buffer.Offset()
    size = int(buffer.DataLength() or buffer.Size())
    return (int(begin), size) if size else (0, 0)


def _require_known(source: Path, model: Any, name: str) -> None:
    if 4 * (model.BuffersLength() + model.MetadataLength()) > source.stat().st_size:
        raise ValueError("more buffers than it has bytes")
    table = model._tab
    vtable = table.Pos - struct.unpack_from("<i", table.Bytes, table.Pos)[0]
    slots = (struct.unpack_from("<H", table.Bytes, vtable)[0] - 4) // 2
    if any(table.Offset(4 + 2 * slot) for slot in range(_END, slots)):
        raise InputError(
            f"{source} has parts that TFLite's schema did not have when this was written, and they would be "
            "lost. Use a newer edgepress."
        )
    if any(model.Metadata(i).Name() == name.encode() for i in range(model.MetadataLength())):
        raise InputError(f"{source} has {name} already. Give a file without it: export the model anew.")


def _absolute_places(model: Any) -> Iterator[tuple[int, int]]:
    """(place, value) of each number that counts from the beginning of the file; up to 1 it says nothing."""
    tables = [(model.Buffers(i)._tab, _BUFFER_OFFSET) for i in range(model.BuffersLength())]
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        tables += [(graph.Operators(j)._tab, _OPTIONS_OFFSET) for j in range(graph.OperatorsLength())]
    for table, slot in tables:
        inside = table.Offset(4 + 2 * slot)
        if inside:
            (value,) = struct.unpack_from("<Q", table.Bytes, table.Pos + inside)
            if value > 1:
                yield table.Pos + inside, value


def _head(model: Any, name: str, content: bytes) -> bytearray:
    """What comes in front of a file: its `Model` with one more buffer and one more entry of metadata."""
    from ai_edge_litert import schema_py_generated as schema

    old = model._tab
    head = _head_without_offsets(model, name, content)
    moved = len(head)
    new = schema.Model.GetRootAs(head)._tab

    def lead(place: int, target: int) -> None:
        """Let an offset in the head lead to what is at `target` in the old file."""
        struct.pack_into("<I", head, place, moved + target - place)

    for slot in range(_END):
        inside = old.Offset(4 + 2 * slot)
        if slot in {_BUFFERS, _METADATA}:
            begin = new.Vector(new.Offset(4 + 2 * slot))
            for i in range(old.VectorLen(inside) if inside else 0):
                lead(begin + 4 * i, old.Indirect(old.Vector(inside) + 4 * i))
        elif inside and slot != _VERSION:
            lead(new.Pos + new.Offset(4 + 2 * slot), old.Indirect(old.Pos + inside))
    return head


def _head_without_offsets(model: Any, name: str, content: bytes) -> bytearray:
    """The same, with a number in place of each offset that leads into the old file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    builder = flatbuffers.Builder()
    builder.StartVector(1, len(content), _ALIGNMENT_BYTES)
    for byte in reversed(content):
        builder.PrependByte(byte)
    data = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    buffer = schema.BufferEnd(builder)
    text = builder.CreateString(name)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, text)
    schema.MetadataAddBuffer(builder, model.BuffersLength())
    entry = schema.MetadataEnd(builder)
    vectors = {
        _BUFFERS: _vector_with_room(builder, model.BuffersLength(), buffer),
        _METADATA: _vector_with_room(builder, model.MetadataLength(), entry),
    }
    builder.StartObject(_END)
    for slot in range(_END):
        if slot in vectors:
            builder.PrependUOffsetTRelativeSlot(slot, vectors[slot], 0)
        elif slot == _VERSION:
            builder.PrependUint32Slot(slot, model.Version(), 0)
        elif model._tab.Offset(4 + 2 * slot):
            builder.PrependUint32Slot(slot, 1, 0)
    builder.Finish(builder.EndObject(), _IDENTIFIER)
    head = bytearray(builder.Output())
    return head + bytes(-len(head) % _ALIGNMENT_BYTES)


def _vector_with_room(builder: Any, room: int, last: int) -> int:
    """A vector of offsets, of which only the last one is known yet."""
    builder.StartVector(4, room + 1, 4)
    builder.PrependUOffsetTRelative(last)
    for _ in range(room):
        builder.PrependUint32(0)
    return int(builder.EndVector())


def _append_zip(stream: BinaryIO, files: Mapping[str, bytes]) -> None:
    if not files:
        return
    # Not mode "a", which looks for an archive first, and may find one in the bytes of weights.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            information = zipfile.ZipInfo(name, _ZIP_DATE)
            information.create_system = _UNIX
            information.external_attr = 0o644 << 16
            archive.writestr(information, content)
