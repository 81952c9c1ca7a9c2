"""Reads out of a TFLite file in what precision its weighted layers really are."""

import math
import struct
from pathlib import Path
from typing import Any

from edgepress.artifact import Precision, Quantization, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.stored_tensors import StoredTensor, Tally
from edgepress.inspection.tflite_graph import (
    WEIGHT_PLACES,
    TfliteModel,
    layer_name,
    name_of,
    shape_of,
    tflite_model,
)

# Input index of the bias.
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3, "FULLY_CONNECTED": 2}
# They have weights (or whole graphs) whose MACs are not counted.
_UNREAD = frozenset(
    {
        *("CONV_3D", "CONV_3D_TRANSPOSE", "EMBEDDING_LOOKUP", "RNN", "LSTM", "SVDF", "CUSTOM", "WHILE", "IF"),
        *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_LSTM"),
        *("CALL_ONCE", "STABLEHLO_COMPOSITE"),
    }
)
# What following an offset that is not one can end in: the flatbuffer's reader checks nothing itself.
_DAMAGE = (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
_REFORMATS = {"QUANTIZE", "DEQUANTIZE"}


def inspect_tflite(path: Path) -> Inspection:
    """Layers, leftovers and signature of a TFLite file's main graph. MACs are those of one picture.

    Raises:
        InputError: `path` is no TFLite file, or its bytes contradict each other.
    """
    try:
        return _read(path)
    except _DAMAGE as error:
        raise InputError(
            f"{path} is truncated or damaged: what it says of its graph leads nowhere ({error}). "
            "Copy or export it again."
        ) from error


def _read(path: Path) -> Inspection:
    with tflite_model(path) as model:
        model.require_whole(path, path.stat().st_size)
        operators = list(model.operators())
        if not operators:
            raise InputError(
                f"{path} holds no TFLite graph: wanted operators, got none. Export the model anew."
            )
        reader = _LayerReader(model, operators)
        layers = tuple(reader.read(name, op) for name, op in operators if name in WEIGHT_PLACES)
        computed = [
            name for name, op in operators if not op.InputsLength() or not model.is_constant(op.Inputs(0))
        ]
        reformats = sum(name in _REFORMATS for name in computed)
        inputs = tuple(_spec(model, name, index) for name, index in model.inputs())
        outputs = tuple(_spec(model, name, index) for name, index in model.outputs())
        uncounted = tuple(f"{name_of(model, op)} ({name})" for name, op in operators if name in _UNREAD)
        transposes = sum(name == "TRANSPOSE" for name, _ in operators)
    casts, beside = computed.count("CAST"), reader.unlisted
    return Inspection(layers, casts, transposes, inputs, outputs, uncounted, beside, reformats=reformats)


class _LayerReader:
    """Follows the operands of weighted operators back to what is stored. Reads each operator once, in order.

    Attributes:
        unlisted: Floating-point values that are stored, but for no weighted operator.
    """

    def __init__(self, model: TfliteModel, operators: list[tuple[str, Any]]) -> None:
        self._model = model
        self._dequantized: dict[int, int] = {
            op.Outputs(0): op.Inputs(0) for name, op in operators if name == "DEQUANTIZE"
        }
        self._tally = Tally()
        operands = {self._stored(index) for name, op in operators for index in _operands(name, op)}
        rest = (index for index in model.tensors() if index not in operands and model.type_of(index).is_float)
        self.unlisted = sum(tensor.values for tensor in map(self._tensor, rest) if tensor is not None)

    def read(self, name: str, operator: Any) -> Layer:
        """Parameters, MACs and precisions of one operator."""
        model = self._model
        source = operator.Inputs(2 if name == "TRANSPOSE_CONV" else 0)  # whose first is the result's shape
        weight = operator.Inputs(WEIGHT_PLACES[name])
        stored = self._stored(weight)
        output = model.tensor(operator.Outputs(0))
        operands = {model.type_of(index).precision for index in (source, weight)}
        shapes = (shape_of(model.tensor(source)), shape_of(model.tensor(stored)), shape_of(output))
        weights, biases, stored_bytes = self._tally.add(
            self._tensor(stored), self._tensor(self._bias(name, operator))
        )
        return Layer(
            layer_name(model, operator, stored),
            weights,
            _macs(name, *shapes),
            model.type_of(stored).precision,
            operands.pop() if len(operands) == 1 else Precision.FP32,
            name,
            shape_of(output)[1:],
            biases,
            stored_bytes,
            model.type_of(stored).odd_name,
        )

    def _stored(self, index: int) -> int:
        """The tensor that a DEQUANTIZE turns into this one; itself where there is none."""
        return self._dequantized.get(index, index)

    def _bias(self, name: str, operator: Any) -> int | None:
        place = _BIAS.get(name, operator.InputsLength())
        index = int(operator.Inputs(place)) if place < operator.InputsLength() else -1
        return self._stored(index) if index >= 0 else None

    def _tensor(self, index: int | None) -> StoredTensor | None:
        """The values of a tensor in the file; None where it is computed.

        Raises:
            ValueError: Its shape is not that of so many bytes.
        """
        model = self._model
        if index is None or not model.is_constant(index):
            return None
        shape, size_bytes = shape_of(model.tensor(index)), model.stored_bytes(index)
        count = math.prod(shape)
        wanted_bytes = model.type_of(index).size_bytes(count)
        if wanted_bytes != size_bytes and model.tensor(index).Sparsity() is None:
            raise ValueError(f"tensor {index} of {shape} takes {wanted_bytes} bytes, {size_bytes} are stored")
        return StoredTensor(model.tensor(index).Buffer(), count, size_bytes)


def _operands(name: str, operator: Any) -> tuple[int, ...]:
    """Indices of all inputs of a weighted operator."""
    return tuple(operator.Inputs(i) for i in range(operator.InputsLength())) if name in WEIGHT_PLACES else ()


def _macs(name: str, source: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...]) -> int:
    """Multiply-accumulates; convolution weights are (out, rows, columns, in), dense ones (out, in)."""
    if name == "DEPTHWISE_CONV_2D":
        return math.prod(result) * weight[1] * weight[2]
    if name == "TRANSPOSE_CONV":
        return math.prod(source) * math.prod(weight[:3])
    if name == "BATCH_MATMUL":
        return math.prod(result) * source[-1]
    return math.prod(result) * math.prod(weight[1:])


def _spec(model: TfliteModel, name: str, index: int) -> TensorSpec:
    tensor = model.tensor(index)
    found, quantization = tensor.Quantization(), None
    if found is not None and found.ScaleLength():
        scale = float(found.Scale(0))
        if not math.isfinite(scale):
            raise ValueError(f"tensor {index}: a scale of {scale}")
        quantization = Quantization(scale, int(found.ZeroPoint(0)))
    return TensorSpec(name, shape_of(tensor), model.type_of(index).name.lower(), quantization)
