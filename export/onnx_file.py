"""Writes an ONNX file with no second copy of the weights.

A protobuf message is the concatenation of its fields (protobuf.dev/programming-guides/encoding), so the graph
without its weights is serialized by protobuf, and each weight follows as a field of the graph of its own:
read when its turn has come, and written in pieces. Lengths stand before contents and are computed beforehand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from edgepress.artifact import ONNX_GRAPH
from export.conversion import Array
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

_CHUNK_BYTES = 4 << 20
_SMALLEST_EXTERNAL_BYTES = 1024  # as in onnx.save: smaller ones may hold what shapes are inferred from
_ALIGNMENT_BYTES = 4096  # pages, so that a runtime can map each weight (onnx/docs/ExternalData.md)

_LENGTH_DELIMITED = 2  # protobuf's wire type
# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9


def write_onnx(path: Path, model: "onnx.ModelProto", weights: Mapping[str, Weight]) -> None:
    """Write a model in one file.

    Args:
        path: New file; must take less than 2 GiB in all, which is the most that protobuf reads.
        model: Without initializers; unchanged.
        weights: Initializers by name, written in this order.
    """
    initializers = [_Initializer(_header(name, weight), weight) for name, weight in weights.items()]
    with path.open("wb") as stream:
        _write_model(stream, model, initializers)


def write_onnx_folder(folder: Path, model: "onnx.ModelProto", weights: Mapping[str, Weight]) -> None:
    """Write a model of any size: `model.onnx`, and beside it `model.onnx.data` with the large weights.

    Args:
        folder: New folder.
        model: Without initializers; unchanged.
        weights: Initializers by name, written in this order.
    """
    folder.mkdir()
    data_name = f"{ONNX_GRAPH}.data"
    initializers = []
    with (folder / data_name).open("wb") as stream:
        for name, weight in weights.items():
            header = _header(name, weight)
            if weight.size_bytes < _SMALLEST_EXTERNAL_BYTES:
                initializers.append(_Initializer(header, weight))
                continue
            stream.write(bytes(-stream.tell() % _ALIGNMENT_BYTES))
            _locate(header, data_name, stream.tell(), weight.size_bytes)
            _write_values(stream, weight)
            initializers.append(_Initializer(header, None))
    with (folder / ONNX_GRAPH).open("wb") as stream:
        _write_model(stream, model, initializers)


@dataclass(frozen=True)
class _Initializer:
    """A TensorProto.

    Attributes:
        header: All but the values.
        inside: The values that follow it; None if they lie elsewhere.
    """

    header: "onnx.TensorProto"
    inside: Weight | None

    @property
    def raw_data_tag(self) -> bytes:
        """What stands between header and values."""
        return _tag(_TENSOR_RAW_DATA, self.inside.size_bytes) if self.inside else b""

    @property
    def length(self) -> int:
        """Bytes of the whole message."""
        values = self.inside.size_bytes if self.inside else 0
        return int(self.header.ByteSize()) + len(self.raw_data_tag) + values

    @property
    def tag(self) -> bytes:
        """What stands before the message in its graph."""
        return _tag(_GRAPH_INITIALIZER, self.length)


def _header(name: str, weight: Weight) -> "onnx.TensorProto":
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    return onnx.TensorProto(name=name, dims=weight.shape, data_type=kind)


def _locate(header: "onnx.TensorProto", file_name: str, offset: int, length: int) -> None:
    header.data_location = type(header).EXTERNAL
    for key, value in (("location", file_name), ("offset", offset), ("length", length)):
        header.external_data.add(key=key, value=str(value))


def _write_model(stream: IO[bytes], model: "onnx.ModelProto", initializers: list[_Initializer]) -> None:
    frame = type(model)()
    frame.CopyFrom(model)
    frame.ClearField("graph")
    graph = model.graph.SerializeToString(deterministic=True)
    length = len(graph) + sum(len(item.tag) + item.length for item in initializers)
    stream.write(frame.SerializeToString(deterministic=True))
    stream.write(_tag(_MODEL_GRAPH, length))
    stream.write(graph)
    for item in initializers:
        stream.write(item.tag)
        stream.write(item.header.SerializeToString(deterministic=True))
        stream.write(item.raw_data_tag)
        if item.inside is not None:
            _write_values(stream, item.inside)


def _write_values(stream: IO[bytes], weight: Weight) -> None:
    values = weight.read()
    if (values.size, values.dtype) != (weight.size, weight.dtype):  # its length is in the file already
        raise ValueError(
            f"wanted {weight.size} values of {weight.dtype}, got {values.size} of {values.dtype}"
        )
    for piece in _pieces(values):
        stream.write(np.ascontiguousarray(piece, piece.dtype.newbyteorder("<")).data)


def _pieces(values: Array) -> Iterator[Array]:
    """Views that make up an array in C order: contiguous, or small enough to be copied."""
    if values.flags.c_contiguous or values.nbytes <= _CHUNK_BYTES:
        yield values
        return
    rows = max(1, _CHUNK_BYTES * len(values) // values.nbytes)
    for start in range(0, len(values), rows):
        piece = values[start : start + rows]
        if rows == 1 and piece.ndim > 1:
            yield from _pieces(piece[0])
        else:
            yield piece


def _tag(field: int, length: int) -> bytes:
    """The key of a length-delimited field, and its length."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Base 128, the lowest seven bits first; all bytes but the last have the highest bit set."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
