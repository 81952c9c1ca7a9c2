"""TFLite files written without holding their weights: the graph first, each weight after it.

A flatbuffer refers to its parts by offsets that may point anywhere further on (FlatBuffers internals,
flatbuffers.dev/internals). So the graph is built with empty weights, and these are appended one at a time.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError

Array = NDArray[Any]
ReadValue = Callable[[], Array]
"""Gives the values of one buffer: a view of any strides where that is possible."""

LIMIT_BYTES = 2**31
"""A TFLite file must stay below it: its offsets are signed 32-bit numbers."""

_IDENTIFIER = b"TFL3"
_ALIGNMENT_BYTES = 16  # of Buffer.data (force_align in TFLite's schema)
_LENGTH_BYTES = 4  # in front of a vector
_DATA = 4  # place of the field `data` in the vtable of `Buffer`
_CHUNK_BYTES = 4 << 20


def builtin_name(code: Any) -> str:
    """Name such as "CONV_2D" of an `OperatorCodeT`."""
    from ai_edge_litert import schema_py_generated as schema

    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the latter ends at 127
    names: dict[int, str] = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return names[number]


def write_tflite(path: Path, model: Any, values: Mapping[int, ReadValue]) -> None:
    """Write a TFLite file; the same model gives the same bytes.

    Args:
        path: New file.
        model: A `ModelT`, unchanged. Small values may be the data of its buffers.
        values: By index into `model.buffers`: what the buffer holds in place of its data, little-endian. Read
            one at a time, and written in blocks of a few MB.

    Raises:
        InputError: The file would not stay below `LIMIT_BYTES`.
    """
    reads = {i: _known(buffer.data) for i, buffer in enumerate(model.buffers) if _has_data(buffer)}
    reads.update(values)
    graph = _with_empty_data(model, reads)
    places = _places_of_data(graph)
    with path.open("w+b") as stream:
        stream.write(graph)
        for i, read in sorted(reads.items()):
            value = read()
            start = _aligned(stream.tell() + _LENGTH_BYTES)
            require_room(start + value.nbytes)
            stream.write(bytes(start - _LENGTH_BYTES - stream.tell()))
            stream.write(value.nbytes.to_bytes(_LENGTH_BYTES, "little"))
            for block in _blocks(value):
                stream.write(block.data)
            stream.seek(places[i])
            stream.write((start - _LENGTH_BYTES - places[i]).to_bytes(_LENGTH_BYTES, "little"))
            stream.seek(0, 2)


def require_room(size_bytes: int) -> None:
    """Check that one TFLite file can have so many bytes.

    Raises:
        InputError: It cannot.
    """
    if size_bytes >= LIMIT_BYTES:
        raise InputError(
            f"One TFLite file holds less than {LIMIT_BYTES / 1e9:.1f} GB, and this one would have at least "
            f"{size_bytes / 1e9:.1f} GB. Leave TFLite out with --format, or use a smaller model."
        )


def _known(value: Array) -> ReadValue:
    return lambda: value


def _has_data(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _with_empty_data(model: Any, reads: Mapping[int, ReadValue]) -> bytearray:
    """The flatbuffer in which every buffer of `reads` has data of no length."""
    import flatbuffers

    skeleton = copy.copy(model)
    skeleton.buffers = [copy.copy(buffer) for buffer in model.buffers]
    for i in reads:
        skeleton.buffers[i].data = np.zeros(0, np.uint8)
    builder = flatbuffers.Builder()
    builder.Finish(skeleton.Pack(builder), _IDENTIFIER)
    return bytearray(builder.Output())


def _places_of_data(graph: bytearray) -> dict[int, int]:
    """Where in the file each buffer says where its data are."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(graph, 0)
    places = {}
    for i in range(model.BuffersLength()):
        table = model.Buffers(i)._tab
        field = table.Offset(_DATA)
        if field:
            places[i] = table.Pos + field
    return places


def _aligned(position: int) -> int:
    return position + -position % _ALIGNMENT_BYTES


def _blocks(value: Array) -> Iterator[Array]:
    """Contiguous pieces of an array, in order, as bytes."""
    if value.ndim == 0:
        value = value.reshape(1)
    rows = max(1, _CHUNK_BYTES * len(value) // max(1, value.nbytes))
    for first in range(0, len(value), rows):
        yield np.ascontiguousarray(value[first : first + rows]).reshape(-1).view(np.uint8)
