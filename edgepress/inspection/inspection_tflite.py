"""Reads out of a TFLite file in what precision its weighted layers really are."""

import math
import struct
from pathlib import Path
from typing import Any

from edgepress.artifact import Precision, Quantization, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.tflite_graph import TfliteModel, shape_of, tflite_model

# Input index of the weight.
_WEIGHTED = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
}
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
_CONVERSIONS = {"CAST", "QUANTIZE", "DEQUANTIZE"}


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
        dequantized = {op.Outputs(0): op.Inputs(0) for name, op in operators if name == "DEQUANTIZE"}
        layers = tuple(_layer(model, name, op, dequantized) for name, op in operators if name in _WEIGHTED)
        casts = sum(name in _CONVERSIONS and not model.is_constant(op.Inputs(0)) for name, op in operators)
        transposes = sum(name == "TRANSPOSE" for name, _ in operators)
        inputs = tuple(_spec(model, name, index) for name, index in model.inputs())
        outputs = tuple(_spec(model, name, index) for name, index in model.outputs())
        uncounted = tuple(f"{_name_of(model, op)} ({name})" for name, op in operators if name in _UNREAD)
    return Inspection(layers, casts, transposes, inputs, outputs, uncounted)


def _layer(model: TfliteModel, name: str, operator: Any, dequantized: dict[int, int]) -> Layer:
    source = operator.Inputs(2 if name == "TRANSPOSE_CONV" else 0)  # whose first input is the result's shape
    weight = operator.Inputs(_WEIGHTED[name])
    stored = dequantized.get(weight, weight)
    output = model.tensor(operator.Outputs(0))
    constant = model.is_constant(stored)
    bias = _bias(model, name, operator)
    operands = {_precision(model.tensor(index)) for index in (source, weight)}
    return Layer(
        _name_of(model, operator),
        math.prod(shape_of(model.tensor(stored))) if constant else 0,
        _macs(name, shape_of(model.tensor(source)), shape_of(model.tensor(stored)), shape_of(output)),
        _precision(model.tensor(stored)),
        operands.pop() if len(operands) == 1 else Precision.FP32,
        name,
        shape_of(output)[1:],
        0 if bias is None else math.prod(shape_of(bias)),
        4 if bias is None else _bias_bytes(bias),
    )


def _name_of(model: TfliteModel, operator: Any) -> str:
    """The name of its first output: operators have none."""
    return str(model.tensor(operator.Outputs(0)).Name().decode())


def _bias(model: TfliteModel, name: str, operator: Any) -> Any:
    """The tensor of its bias values; None without."""
    place = 3 if name == "TRANSPOSE_CONV" else 2
    if operator.InputsLength() <= place or operator.Inputs(place) < 0:
        return None
    index = operator.Inputs(place)
    return model.tensor(index) if model.is_constant(index) else None


def _bias_bytes(bias: Any) -> int:
    from ai_edge_litert.schema_py_generated import TensorType

    return {TensorType.FLOAT16: 2, TensorType.INT64: 8}.get(bias.Type(), 4)


def _macs(name: str, source: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...]) -> int:
    """Multiply-accumulates; convolution weights are (out, rows, columns, in), dense ones (out, in)."""
    if name == "DEPTHWISE_CONV_2D":
        return math.prod(result) * weight[1] * weight[2]
    if name == "TRANSPOSE_CONV":
        return math.prod(source) * math.prod(weight[:3])
    if name == "BATCH_MATMUL":
        return math.prod(result) * source[-1]
    return math.prod(result) * math.prod(weight[1:])


def _precision(tensor: Any) -> Precision:
    from ai_edge_litert.schema_py_generated import TensorType

    known = {TensorType.INT8: Precision.INT8, TensorType.FLOAT16: Precision.FP16}
    return known.get(tensor.Type(), Precision.FP32)


def _spec(model: TfliteModel, name: str, index: int) -> TensorSpec:
    from ai_edge_litert.schema_py_generated import TensorType

    tensor = model.tensor(index)
    dtype = {TensorType.FLOAT32: "float32", TensorType.INT8: "int8", TensorType.UINT8: "uint8"}
    found, quantization = tensor.Quantization(), None
    if found is not None and found.ScaleLength():
        quantization = Quantization(float(found.Scale(0)), int(found.ZeroPoint(0)))
    return TensorSpec(name, shape_of(tensor), dtype.get(tensor.Type(), str(tensor.Type())), quantization)
