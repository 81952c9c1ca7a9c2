"""Reading TFLite files through their schema: nothing is loaded but what is asked for."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepress.errors import InputError

_IDENTIFIER = b"TFL3"


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

    def signature(self) -> Any:
        """The first signature, which names inputs and outputs.

        Raises:
            InputError: The file has none.
        """
        if not self._model.SignatureDefsLength():
            raise InputError("The TFLite file has no signature. Export the model anew.")
        return self._model.SignatureDefs(0)


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Dimensions of a tensor."""
    return tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
