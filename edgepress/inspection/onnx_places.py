"""Where the weights lie in an ONNX file, so that they can be changed there without reading the rest.

An ONNX file is a Protocol Buffers message (https://protobuf.dev/programming-guides/encoding): fields of a
number, a wire type and, for nested messages and bytes, a length. Only the way to the weights is walked here.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgepress.errors import InputError

# Field numbers of onnx.proto.
_GRAPH = 7  # ModelProto.graph
_INITIALIZER = 5  # GraphProto.initializer
_NAME, _RAW_DATA = 8, 9  # of TensorProto

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5

Place = tuple[int, int]
"""(first byte in the file, number of bytes)"""


def places_of_weights(path: Path) -> dict[str, Place]:
    """Where the raw data of each initializer lies.

    Args:
        path: ONNX file that holds its weights.

    Returns:
        By name; tensors that are stored in another way (lists of numbers, another file) are not there.

    Raises:
        InputError: The file is no Protocol Buffers message.
    """
    found: dict[str, Place] = {}
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            for graph in _fields(content, (0, len(content)), _GRAPH):
                for tensor in _fields(content, graph, _INITIALIZER):
                    name = next(_fields(content, tensor, _NAME), (0, 0))
                    data = next(_fields(content, tensor, _RAW_DATA), None)
                    if data is not None:
                        found[content[name[0] : sum(name)].decode()] = data
        except (IndexError, ValueError) as error:
            raise InputError(f"{path} cannot be read as ONNX ({error}). Export the model anew.") from error
    return found


def _fields(content: mmap.mmap, message: Place, number: int) -> Iterator[Place]:
    """The places of all delimited fields of a number in a message."""
    at, end = message[0], sum(message)
    while at < end:
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
            continue
        if kind == _DELIMITED:
            length, at = _varint(content, at)
            if key >> 3 == number:
                yield at, length
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        at += length
    if at > end:
        raise ValueError(f"a field ends at byte {at}, its message at {end}")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """(number, first byte behind it)."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
