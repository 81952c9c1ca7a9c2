"""Reading TFLite files through their schema: nothing is loaded but what is asked for."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepress.errors import InputError

_IDENTIFIER = b"TFL3"
_DATA = 4  # place of the field `data` in the table `Buffer` of TFLite's schema


@contextmanager
def tflite_model(path: Path) -> "Iterator[TfliteModel]":
    """Open a TFLite file; weights stay on disk.

    Raises:
        InputError: It is no TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    with path.open("rb") as stream:
        if stream.read(8)[4:] != _IDENTIFIER:
            raise InputError(f"{path} is no TFLite file. Export the model anew.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield TfliteModel(schema.Model.GetRootAs(content), _names(schema.BuiltinOperator))


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


class TfliteModel:
    """The main graph of a TFLite file. Use it only while `tflite_model` is open."""

    def __init__(self, model: Any, operator_names: dict[int, str]) -> None:
        self._model = model
        self._operator_names = operator_names
        self.graph = model.Subgraphs(0)

    def require_whole(self, path: Path, file_bytes: int) -> None:
        """Check that all weights lie inside the file.

        Raises:
            InputError: They do not: the file was cut off.
        """
        for i in range(self._model.BuffersLength()):
            buffer = self._model.Buffers(i)
            inside = buffer._tab.Offset(_DATA)  # 0 where the buffer has no data
            begin = buffer._tab.Vector(inside) if inside else buffer.Offset()
            end = begin if begin > file_bytes else begin + (buffer.DataLength() or buffer.Size())
            if end > file_bytes:
                raise InputError(
                    f"{path} is truncated: wanted weights up to byte {end}, it has {file_bytes}. "
                    "Copy or export it again."
                )

    def operators(self) -> Iterator[tuple[str, Any]]:
        """(name such as "CONV_2D", operator) in order of execution."""
        for i in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(i)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            yield self._operator_names[number], operator

    def tensor(self, index: int) -> Any:
        """The tensor of that index."""
        return self.graph.Tensors(index)

    def is_constant(self, index: int) -> bool:
        """Whether the tensor's values are in the file."""
        buffer = self._model.Buffers(self.tensor(index).Buffer())
        # Large files keep the data behind the flatbuffer: then the buffer has a size instead.
        return bool(buffer.DataLength() or buffer.Size())

    def activations(self) -> Iterator[int]:
        """Indices of the graph's inputs and of all operators' outputs."""
        yield from (self.graph.Inputs(i) for i in range(self.graph.InputsLength()))
        for _, operator in self.operators():
            yield from (operator.Outputs(i) for i in range(operator.OutputsLength()))

    def inputs(self) -> Iterator[tuple[str, int]]:
        """(name, index of the tensor) of each input: the signature's, or the graph's where there is none."""
        if self._model.SignatureDefsLength():
            signature = self.signature()
            yield from _named(signature.Inputs(i) for i in range(signature.InputsLength()))
        else:
            yield from self._unnamed(self.graph.Inputs(i) for i in range(self.graph.InputsLength()))

    def outputs(self) -> Iterator[tuple[str, int]]:
        """The same of each output."""
        if self._model.SignatureDefsLength():
            signature = self.signature()
            yield from _named(signature.Outputs(i) for i in range(signature.OutputsLength()))
        else:
            yield from self._unnamed(self.graph.Outputs(i) for i in range(self.graph.OutputsLength()))

    def _unnamed(self, indices: Iterator[int]) -> Iterator[tuple[str, int]]:
        for index in indices:
            yield self.tensor(index).Name().decode(), index

    def signature(self) -> Any:
        """The first signature, which names inputs and outputs.

        Raises:
            InputError: The file has none.
        """
        if not self._model.SignatureDefsLength():
            raise InputError("The TFLite file has no signature. Export the model anew.")
        return self._model.SignatureDefs(0)


def _named(mappings: Iterator[Any]) -> Iterator[tuple[str, int]]:
    for mapping in mappings:
        yield mapping.Name().decode(), mapping.TensorIndex()


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Dimensions of a tensor."""
    return tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
