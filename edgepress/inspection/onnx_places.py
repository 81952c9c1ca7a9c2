"""Where the weights lie in an ONNX file, so that they can be changed there without reading the rest.

An ONNX file is a Protocol Buffers message (https://protobuf.dev/programming-guides/encoding): fields of a
number, a wire type and, for nested messages and bytes, a length. Only the way to the weights is walked here.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgepress.artifact import Precision
from edgepress.errors import InputError

# Field numbers of onnx.proto.
_GRAPH = 7  # ModelProto.graph
_INITIALIZER = 5  # GraphProto.initializer
_DATA_TYPE, _NAME, _RAW_DATA = 2, 8, 9  # of TensorProto
_PRECISIONS = {  # TensorProto.DataType
    1: Precision.FP32,
    2: Precision.INT8,  # uint8
    3: Precision.INT8,
    10: Precision.FP16,
}

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


def stored_precisions(path: Path) -> frozenset[Precision]:
    """The precisions in which an ONNX file stores something: a device asks, where there is no onnx package.

    Raises:
        InputError: There is no such file, or it is no Protocol Buffers message.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            types = {
                kind
                for graph in _fields(content, (0, len(content)), _GRAPH)
                for tensor in _fields(content, graph, _INITIALIZER)
                for kind in _numbers(content, tensor, _DATA_TYPE)
            }
    except (OSError, IndexError, ValueError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}). Export the model anew.") from error
    return frozenset(_PRECISIONS[kind] for kind in types if kind in _PRECISIONS)


def _fields(content: mmap.mmap, message: Place, number: int) -> Iterator[Place]:
    """The places of all delimited fields of a number in a message."""
    return ((at, value) for key, at, value in _walked(content, message) if key == (number << 3 | _DELIMITED))


def _numbers(content: mmap.mmap, message: Place, number: int) -> Iterator[int]:
    """The values of all numeric fields of a number in a message."""
    return (value for key, _, value in _walked(content, message) if key == (number << 3 | _VARINT))


def _walked(content: mmap.mmap, message: Place) -> Iterator[tuple[int, int, int]]:
    """(number and wire type, first byte, length or, of a number, its value) of each field."""
    at, end = message[0], sum(message)
    while at < end:
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield key, at, value
            continue
        if kind == _DELIMITED:
            length, at = _varint(content, at)
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        yield key, at, length
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
