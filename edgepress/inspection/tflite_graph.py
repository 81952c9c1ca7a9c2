"""Reading TFLite files through their schema: nothing is loaded but what is asked for."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepress.errors import InputError
from edgepress.inspection.number_type import NumberType

WEIGHT_PLACES = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
}
"""Weighted operator → which of its inputs is the weight."""

_KERNEL = "/kernel"  # what export puts behind the layer's name
_IDENTIFIER = b"TFL3"
_DATA = 4  # place of the field `data` in the table `Buffer` of TFLite's schema


@contextmanager
def tflite_model(path: Path) -> "Iterator[TfliteModel]":
    """Open a TFLite file; weights stay on disk.

    Raises:
        InputError: It is no TFLite file.
    """
    with path.open("rb") as stream:
        if stream.read(8)[4:] != _IDENTIFIER:
            raise InputError(f"{path} is no TFLite file. Export the model anew.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield tflite_model_in(content)


def tflite_model_in(content: "mmap.mmap | memoryview") -> "TfliteModel":
    """The model in the bytes of a TFLite file, which stay where they are."""
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(content)
    return TfliteModel(root, _names(schema.BuiltinOperator), _names(schema.TensorType))


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _place_of(buffer: Any) -> tuple[int, int]:
    """(first byte, number of bytes). Large files keep the data behind the flatbuffer."""
    inside = buffer._tab.Offset(_DATA)  # 0 where the buffer has no data
    begin = buffer._tab.Vector(inside) if inside else buffer.Offset()
    return int(begin), int(buffer.DataLength() or buffer.Size())


def _require_index(index: int, length: int, what: str) -> None:
    """Check an index, which the flatbuffer's reader follows wherever it leads.

    Raises:
        ValueError: It is out of range.
    """
    if not 0 <= index < length:
        raise ValueError(f"{what} {index} of {length}")


class TfliteModel:
    """The main graph of a TFLite file. Use it only while `tflite_model` is open."""

    def __init__(self, model: Any, operator_names: dict[int, str], type_names: dict[int, str]) -> None:
        self._model = model
        self._operator_names = operator_names
        self._type_names = type_names
        _require_index(0, model.SubgraphsLength(), "graph")
        self.graph = model.Subgraphs(0)

    def require_whole(self, path: Path, file_bytes: int) -> None:
        """Check that all weights lie inside the file.

        Raises:
            InputError: They do not: the file was cut off.
        """
        for i in range(self._model.BuffersLength()):
            begin, size = _place_of(self._model.Buffers(i))
            end = begin if begin > file_bytes else begin + size
            if end > file_bytes:
                raise InputError(
                    f"{path} is truncated: wanted weights up to byte {end}, it has {file_bytes}. "
                    "Copy or export it again."
                )

    def operators(self) -> Iterator[tuple[str, Any]]:
        """(name such as "CONV_2D", operator) in order of execution."""
        for i in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(i)
            _require_index(operator.OpcodeIndex(), self._model.OperatorCodesLength(), "operator code")
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            yield self._operator_names[number], operator

    def tensor(self, index: int) -> Any:
        """The tensor of that index.

        Raises:
            ValueError: There is none.
        """
        _require_index(index, self.graph.TensorsLength(), "tensor")
        return self.graph.Tensors(index)

    def tensors(self) -> range:
        """Indices of all tensors."""
        return range(self.graph.TensorsLength())

    def type_of(self, index: int) -> NumberType:
        """Type of a tensor's values."""
        return NumberType(self._type_names[self.tensor(index).Type()])

    def is_constant(self, index: int) -> bool:
        """Whether the tensor's values are in the file."""
        return self.stored_bytes(index) > 0

    def stored_bytes(self, index: int) -> int:
        """Size of the tensor's values in the file; 0 where they are computed."""
        return self.place_of(index)[1]

    def place_of(self, index: int) -> tuple[int, int]:
        """(first byte in the file, number of bytes) of the tensor's values; no bytes where there are none."""
        place = self.tensor(index).Buffer()
        _require_index(place, self._model.BuffersLength(), "buffer")
        return _place_of(self._model.Buffers(place))

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
    """Dimensions of a tensor.

    Raises:
        ValueError: One is negative. (What is dynamic is -1 in another field and 1 here.)
    """
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    if min(shape, default=0) < 0:
        raise ValueError(f"a tensor of {shape}")
    return shape


def name_of(model: TfliteModel, operator: Any) -> str:
    """The name of an operator's first output: operators have none."""
    return str(model.tensor(operator.Outputs(0)).Name().decode())


def layer_name(model: TfliteModel, operator: Any, weight: int) -> str:
    """The layer that the stored weight is called after, as ONNX calls the node of the same layer.

    Where the weight is not called so, it is what the operator makes; that may be the graph's output.
    """
    name = str(model.tensor(weight).Name().decode())
    return name.removesuffix(_KERNEL) if name.endswith(_KERNEL) else name_of(model, operator)
