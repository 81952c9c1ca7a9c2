"""TFLite Metadata as bytes: the FlatBuffers schema of tensorflow/tflite-support, version 1.0 of its parser.

metadata_schema.fbs (tensorflow_lite_support/metadata in https://github.com/tensorflow/tflite-support) gives
tables and order of fields; how tables lie in bytes is FlatBuffers' own (flatbuffers.dev/internals). Code that
is generated from the schema comes only with `tflite-support`, which is no longer maintained, and with
`mediapipe`, a framework of its own. We use some twenty fields, so they are written here by their places.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar, Union

IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
"""No field that is used here came later (metadata_version.cc of tflite-support)."""

_IMAGE = 2  # ContentProperties.ImageProperties
_NORMALIZATION = 1  # ProcessUnitOptions.NormalizationOptions
_UNREADABLE = (struct.error, IndexError, TypeError, ValueError, OverflowError)
"""What FlatBuffers' reader meets where bytes are damaged; it follows any offset."""

_Field = Union[str, int, tuple[float, ...], "_Fields", "list[_Fields]", None]
_Fields = Mapping[int, _Field]
_Item = TypeVar("_Item")


class ColorSpace(IntEnum):
    """ColorSpaceType. There is none for BGR."""

    UNKNOWN = 0
    RGB = 1


class FileKind(IntEnum):
    """AssociatedFileType, of which we write one."""

    TENSOR_AXIS_LABELS = 2


@dataclass(frozen=True)
class Normalization:
    """NormalizationOptions: what a reader does to R, G and B in 0…255, (value - mean) / deviation.

    Attributes:
        mean: Of each channel; float32 values.
        deviation: Of each channel; float32 values.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class ValueRange:
    """Stats: between which values a tensor is.

    Attributes:
        lowest: A single value stands for all channels; float32.
        highest: The same.
    """

    lowest: tuple[float, ...]
    highest: tuple[float, ...]


@dataclass(frozen=True)
class AssociatedFile:
    """A file in the zip at the end of the TFLite file.

    Attributes:
        name: In the zip.
        description: In words.
        kind: What readers do with it.
    """

    name: str
    description: str
    kind: FileKind


@dataclass(frozen=True)
class TensorDescription:
    """TensorMetadata.

    Attributes:
        name: Of the tensor, in interfaces that are made from the metadata.
        description: In words.
        color_space: Of a picture; None for what is none.
        normalization: None where a reader has nothing to do, or cannot do it.
        values: Between which the tensor is; None where that is not known.
        files: That belong to it.
    """

    name: str
    description: str
    color_space: ColorSpace | None = None
    normalization: Normalization | None = None
    values: ValueRange | None = None
    files: tuple[AssociatedFile, ...] = ()


@dataclass(frozen=True)
class TfliteMetadata:
    """ModelMetadata with its one SubGraphMetadata.

    Attributes:
        name: Of the model.
        description: In words.
        version: Of the model.
        author: Who made the file.
        licence: Of the model; None where it is not known.
        inputs: One for each input of the graph, in its order.
        outputs: The same of the outputs.
        parser_version: The oldest parser that understands all of it.
    """

    name: str
    description: str
    version: str
    author: str
    licence: str | None
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    parser_version: str = PARSER_VERSION


def encoded(metadata: TfliteMetadata) -> bytes:
    """The flatbuffer; the same metadata give the same bytes."""
    import flatbuffers

    subgraph: _Fields = {
        2: [_tensor_fields(tensor) for tensor in metadata.inputs],
        3: [_tensor_fields(tensor) for tensor in metadata.outputs],
    }
    fields: _Fields = {
        0: metadata.name,
        1: metadata.description,
        2: metadata.version,
        3: [subgraph],
        4: metadata.author,
        5: metadata.licence,
        7: metadata.parser_version,
    }
    builder = flatbuffers.Builder()
    builder.Finish(_put_table(builder, fields), IDENTIFIER)
    return bytes(builder.Output())


def decoded(content: bytes) -> TfliteMetadata:
    """The inverse of `encoded`. Fields that are not in `TfliteMetadata` are passed over.

    Raises:
        ValueError: These are no metadata, or they are damaged.
    """
    from flatbuffers.table import Table

    if content[4:8] != IDENTIFIER:
        raise ValueError(f"their identifier is {content[4:8]!r}, wanted {IDENTIFIER!r}")
    try:
        root = _Reader(Table(content, struct.unpack_from("<I", content)[0]))
        (subgraph,) = root.tables(3)
        return TfliteMetadata(
            name=root.text(0) or "",
            description=root.text(1) or "",
            version=root.text(2) or "",
            author=root.text(4) or "",
            licence=root.text(5),
            inputs=tuple(_tensor_of(table) for table in subgraph.tables(2)),
            outputs=tuple(_tensor_of(table) for table in subgraph.tables(3)),
            parser_version=root.text(7) or "",
        )
    except _UNREADABLE as error:
        raise ValueError(f"they are damaged ({error})") from error


def _tensor_fields(tensor: TensorDescription) -> _Fields:
    image, normalization, values = tensor.color_space, tensor.normalization, tensor.values
    files: list[_Fields] = [{0: file.name, 1: file.description, 2: int(file.kind)} for file in tensor.files]
    return {
        0: tensor.name,
        1: tensor.description,
        3: None if image is None else {0: _IMAGE, 1: {0: int(image)}},
        4: None
        if normalization is None
        else [{0: _NORMALIZATION, 1: {0: normalization.mean, 1: normalization.deviation}}],
        5: None if values is None else {0: values.highest, 1: values.lowest},
        6: files or None,
    }


def _tensor_of(table: "_Reader") -> TensorDescription:
    content, values = table.table(3), table.table(5)
    image = content.table(1) if content is not None and content.number(0) == _IMAGE else None
    found = [unit.table(1) for unit in table.tables(4) if unit.number(0) == _NORMALIZATION]
    normalization = next((unit for unit in found if unit is not None), None)
    return TensorDescription(
        name=table.text(0) or "",
        description=table.text(1) or "",
        color_space=None if image is None else ColorSpace(image.number(0)),
        normalization=None
        if normalization is None
        else Normalization(normalization.floats(0), normalization.floats(1)),
        values=None if values is None else ValueRange(lowest=values.floats(1), highest=values.floats(0)),
        files=tuple(
            AssociatedFile(file.text(0) or "", file.text(1) or "", FileKind(file.number(2)))
            for file in table.tables(6)
        ),
    )


def _put_table(builder: Any, fields: _Fields) -> int:
    """Write a table behind what it refers to; the offset of the table."""
    given = {slot: value for slot, value in fields.items() if value is not None}
    places = {slot: _put(builder, value) for slot, value in given.items() if not isinstance(value, int)}
    builder.StartObject(max(given, default=-1) + 1)
    for slot, value in given.items():
        if isinstance(value, int):
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, places[slot], 0)
    return int(builder.EndObject())


def _put(builder: Any, value: _Field) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Mapping):
        return _put_table(builder, value)
    if isinstance(value, tuple):
        return _put_vector(builder, value, builder.PrependFloat32)
    tables = [_put_table(builder, table) for table in value or ()]  # type: ignore[union-attr]
    return _put_vector(builder, tables, builder.PrependUOffsetTRelative)


def _put_vector(builder: Any, items: Sequence[_Item], put: Callable[[_Item], None]) -> int:
    """Four bytes an item. FlatBuffers grow from the end, so the last item comes first."""
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        put(item)
    return int(builder.EndVector())


class _Reader:
    """One table. A field that is not there is None, 0 or empty."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def _place(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))

    def number(self, slot: int) -> int:
        from flatbuffers.number_types import Uint8Flags

        place = self._place(slot)
        return int(self._table.Get(Uint8Flags, place + self._table.Pos)) if place else 0

    def text(self, slot: int) -> str | None:
        place = self._place(slot)
        return str(self._table.String(place + self._table.Pos).decode()) if place else None

    def floats(self, slot: int) -> tuple[float, ...]:
        place = self._place(slot)
        if not place:
            return ()
        count, start = self._table.VectorLen(place), self._table.Vector(place)
        return struct.unpack_from(f"<{count}f", self._table.Bytes, start)

    def table(self, slot: int) -> "_Reader | None":
        place = self._place(slot)
        return self._at(place + self._table.Pos) if place else None

    def tables(self, slot: int) -> "list[_Reader]":
        place = self._place(slot)
        if not place:
            return []
        count, start = self._table.VectorLen(place), self._table.Vector(place)
        return [self._at(start + 4 * i) for i in range(count)]

    def _at(self, place: int) -> "_Reader":
        from flatbuffers.table import Table

        return _Reader(Table(self._table.Bytes, self._table.Indirect(place)))
