"""Reads out of an ONNX file in what precision its weighted layers really are."""

import math
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.artifact import Precision, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.number_type import NumberType
from edgepress.inspection.onnx_graph import (
    consumers,
    external_files,
    inferred,
    load_graph,
    producers,
    shape_of,
    values,
    weighted_op,
    without_weights,
)
from edgepress.inspection.onnx_reformats import reformats_of
from edgepress.inspection.stored_tensors import StoredTensor, Tally

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]

# Seen through on the way from an operand to what is stored: the number of values stays.
_SAME_TYPE = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})
_SAME_VALUES = frozenset({*_SAME_TYPE, "QuantizeLinear", "DequantizeLinear", "Cast"})
# Their MACs are not counted, and their weights may not be.
_UNREAD = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"),
        *("FusedConv", "FusedMatMul", "FusedGemm", "Einsum", "LSTM", "GRU", "RNN", "Attention"),
    }
)
# Protobuf gives a name that is no UTF-8 as bytes.
_NO_TEXT = "a name in it is no text"
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def inspect_onnx(path: Path) -> Inspection:
    """Layers, leftovers and signature of an ONNX file. MACs are those of one picture.

    Weights are not read: the file is enough, also where its weights lie in another one. A weight that several
    layers share counts once, with the first.

    Raises:
        InputError: `path` is no ONNX file, or its graph is not sound.
    """
    try:
        return _read(path)
    except UnicodeDecodeError as error:
        raise _not_sound(path, _NO_TEXT) from error


def _read(path: Path) -> Inspection:
    stored = load_graph(path)
    model = _without_functions(without_weights(stored), path)
    graph = model.graph
    _require_sound(graph, path)
    reader = _LayerReader(graph, _shapes(model, path))
    layers = tuple(reader.read(node) for node in graph.node if weighted_op(node) is not None)
    unread = (f"{_name_of(node)} ({node.op_type})" for node in graph.node if _is_unread(node))
    initializers = {tensor.name for tensor in graph.initializer}
    operators = [node.op_type for node in graph.node]
    return Inspection(
        layers,
        operators.count("Cast"),
        operators.count("Transpose"),
        tuple(_spec(value) for value in graph.input if value.name not in initializers),
        tuple(_spec(value) for value in graph.output),
        (*reader.uncounted, *unread),
        reader.unlisted(),
        tuple(map(str, external_files(stored))),
        reformats_of(graph, initializers),
    )


def _without_functions(model: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    """The model with the bodies of its own functions where they are called."""
    import onnx.inliner

    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise _not_sound(path, error) from error


def _require_sound(graph: "onnx.GraphProto", path: Path) -> None:
    """Check what is read here and what the shape inference does not check.

    Raises:
        InputError: A layer without operands or result, a weight with a negative size, a name that is no text.
    """
    named = (*graph.input, *graph.output, *graph.node, *graph.initializer)
    results = (name for node in graph.node for name in node.output)
    if any(isinstance(name, bytes) for name in (*(item.name for item in named), *results)):
        raise _not_sound(path, _NO_TEXT)
    for node in graph.node:
        if not node.output or (weighted_op(node) is not None and len(node.input) < 2):
            raise _not_sound(path, f"node {node.name!r} ({node.op_type}) lacks inputs or outputs")
    for tensor in graph.initializer:
        if any(size < 0 for size in tensor.dims):
            raise _not_sound(path, f"weight {tensor.name!r} has the shape {list(tensor.dims)}")


def _not_sound(path: Path, reason: Exception | str) -> InputError:
    return InputError(
        f"{path}: its graph is not sound ({' '.join(str(reason).split())}). Export the model anew."
    )


def _shapes(model: "onnx.ModelProto", path: Path) -> dict[str, Shape]:
    import onnx

    try:
        found = inferred(model, batch=1)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        raise _not_sound(path, error) from error
    return {value.name: shape_of(value) for value in values(found.graph)}


def _is_unread(node: "onnx.NodeProto") -> bool:
    """Whether a node may have weights that are not counted: graphs inside it, or another kind of operator."""
    return node.op_type in _UNREAD or any(a.HasField("g") for a in node.attribute)


def _name_of(node: "onnx.NodeProto") -> str:
    return str(node.name or node.output[0])


def _spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, (), value.type.WhichOneof("value") or "unknown")
    number = value.type.tensor_type.elem_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(number))
    except KeyError:
        dtype = "unknown"
    return TensorSpec(value.name, shape_of(value), dtype)


class _LayerReader:
    """Follows the operands of weighted layers back to what is stored. Reads each layer once, in order.

    Attributes:
        uncounted: Layers whose MACs could not be told so far.
    """

    def __init__(self, graph: "onnx.GraphProto", shapes: dict[str, Shape]) -> None:
        self._makers = producers(graph)
        self._users = consumers(graph)
        constants = {
            node.output[0]: attribute.t
            for node in graph.node
            for attribute in node.attribute
            if node.op_type == "Constant" and attribute.name == "value"
        }
        self._tensors: dict[str, onnx.TensorProto] = {
            **constants,
            **{tensor.name: tensor for tensor in graph.initializer},
        }
        self._shapes = shapes
        self._tally = Tally()
        self.uncounted: list[str] = []

    def read(self, node: "onnx.NodeProto") -> Layer:
        """Parameters, MACs and precisions of one layer."""
        operand = node.input[1]
        stored = self._stored(operand)
        if stored is None and node.op_type == "MatMul":
            operand = node.input[0]
            stored = self._stored(operand)
        weight = tuple(self._tensors[stored].dims) if stored is not None else ()
        both_int8 = all(self._is_int8(name) for name in node.input[:2])
        of_weight = self._type(stored)
        macs = self._macs(node, weight)
        if macs is None:
            self.uncounted.append(f"{_name_of(node)} ({node.op_type}: its shape is not known)")
        weights, biases, stored_bytes = self._tally.add(self._tensor(stored), self._tensor(self._bias(node)))
        return Layer(
            _name_of(node),
            weights,
            macs or 0,
            of_weight.precision,
            Precision.INT8 if both_int8 else self._float_precision(operand),
            node.op_type,
            self._shapes.get(node.output[0], ())[1:],
            biases,
            stored_bytes,
            of_weight.odd_name,
        )

    def unlisted(self) -> int:
        """Floating-point values stored for no layer read so far, but for scales of quantized tensors."""
        scales = {
            name
            for users in self._users.values()
            for user in users
            if user.op_type in _QUANTIZERS
            for name in user.input[1:]
        }
        rest = self._tensors.keys() - self._tally.counted - scales
        return sum(math.prod(self._tensors[name].dims) for name in rest if self._type(name).is_float)

    def _tensor(self, name: str | None) -> StoredTensor | None:
        if name is None:
            return None
        count = math.prod(self._tensors[name].dims)
        return StoredTensor(name, count, self._type(name).size_bytes(count))

    def _type(self, name: str | None) -> NumberType:
        import onnx

        if name is None:
            return NumberType("FLOAT")
        known = onnx.TensorProto.DataType
        number = self._tensors[name].data_type
        return NumberType(known.Name(number) if number in known.values() else f"TYPE_{number}")

    def _bias(self, node: "onnx.NodeProto") -> str | None:
        """The stored tensor added to each channel of the result, by the node itself or the next one."""
        if len(node.input) > 2 and node.input[2]:
            return self._stored(node.input[2])
        users = self._users.get(node.output[0], [])
        if len(users) != 1 or users[0].op_type != "Add":
            return None
        other = next((name for name in users[0].input if name != node.output[0]), "")
        stored = self._stored(other)
        shape = self._shapes.get(node.output[0], ())
        axis = 1 if node.op_type in {"Conv", "ConvTranspose"} else -1
        if stored is None or len(shape) < 2 or math.prod(self._tensors[stored].dims) != shape[axis]:
            return None
        return stored

    def _origins(self, name: str, through: Container[str]) -> Iterator[str]:
        """A tensor, its maker's first input, and so on, as long as the maker is one of these operators."""
        seen: set[str] = set()
        while name not in seen:
            yield name
            seen.add(name)  # a damaged graph may run in a circle
            maker = self._makers.get(name)
            if maker is not None and maker.op_type in through and maker.input:
                name = maker.input[0]

    def _stored(self, name: str) -> str | None:
        """The initializer behind a tensor, seen through what keeps its values."""
        return next((origin for origin in self._origins(name, _SAME_VALUES) if origin in self._tensors), None)

    def _is_int8(self, name: str) -> bool:
        maker = self._makers.get(name)
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _float_precision(self, name: str) -> Precision:
        """Type in which a weight enters the product: its own, or that of the scale that dequantizes it."""
        *_, name = self._origins(name, _SAME_TYPE)
        maker = self._makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear" and len(maker.input) > 1:
            name = maker.input[1]
        return self._type(name if name in self._tensors else None).precision

    def _macs(self, node: "onnx.NodeProto", weight: tuple[int, ...]) -> int | None:
        """Multiply-accumulates of one use; None where a shape that they need is not known."""
        result = self._elements(node.output[0])
        if node.op_type == "Conv":
            return None if result is None else result * math.prod(weight[1:])
        if node.op_type == "ConvTranspose":
            source = self._elements(node.input[0])
            return None if source is None else source * math.prod(weight[1:])
        flipped = any(a.name == "transA" and a.i for a in node.attribute)
        shape = self._shapes.get(node.input[0]) or weight  # a weight on the left has no shape of its own here
        depth = shape[-2 if flipped and len(shape) > 1 else -1] if shape else None
        return None if result is None or depth is None else result * depth

    def _elements(self, name: str) -> int | None:
        """Values of a tensor for one picture; None where its shape is not known."""
        batch, *rest = self._shapes.get(name) or (None, None)
        sizes = [batch or 1, *rest]
        return None if None in sizes else math.prod(size or 0 for size in sizes)
