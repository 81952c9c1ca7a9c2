"""Reads out of a TFLite file in what precision its weighted layers really are."""

from pathlib import Path
from typing import Any

import numpy as np

from edgepress.artifact import Precision, Quantization, TensorSpec
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
_CONVERSIONS = {"CAST", "QUANTIZE", "DEQUANTIZE"}


def inspect_tflite(path: Path) -> Inspection:
    """Layers, leftovers and signature of a TFLite file. MACs are those of one picture.

    Raises:
        InputError: `path` is no TFLite file.
    """
    with tflite_model(path) as model:
        operators = list(model.operators())
        dequantized = {op.Outputs(0): op.Inputs(0) for name, op in operators if name == "DEQUANTIZE"}
        layers = tuple(_layer(model, name, op, dequantized) for name, op in operators if name in _WEIGHTED)
        casts = sum(name in _CONVERSIONS and not model.is_constant(op.Inputs(0)) for name, op in operators)
        transposes = sum(name == "TRANSPOSE" for name, _ in operators)
        signature = model.signature()
        inputs = tuple(_spec(model, signature.Inputs(i)) for i in range(signature.InputsLength()))
        outputs = tuple(_spec(model, signature.Outputs(i)) for i in range(signature.OutputsLength()))
    return Inspection(layers, casts, transposes, inputs, outputs)


def _layer(model: TfliteModel, name: str, operator: Any, dequantized: dict[int, int]) -> Layer:
    source, weight = operator.Inputs(0), operator.Inputs(_WEIGHTED[name])
    stored = dequantized.get(weight, weight)
    output = model.tensor(operator.Outputs(0))
    constant = model.is_constant(stored)
    operands = {_precision(model.tensor(index)) for index in (source, weight)}
    return Layer(
        output.Name().decode(),
        int(np.prod(shape_of(model.tensor(stored)))) if constant else 0,
        _macs(name, shape_of(model.tensor(source)), shape_of(model.tensor(stored)), shape_of(output)),
        _precision(model.tensor(stored)),
        operands.pop() if len(operands) == 1 else Precision.FP32,
        name,
        shape_of(output)[1:],
        _biases(model, operator),
    )


def _biases(model: TfliteModel, operator: Any) -> int:
    if operator.InputsLength() < 3 or operator.Inputs(2) < 0 or not model.is_constant(operator.Inputs(2)):
        return 0
    return int(np.prod(shape_of(model.tensor(operator.Inputs(2)))))


def _macs(name: str, source: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...]) -> int:
    """Multiply-accumulates; convolution weights are (out, rows, columns, in), dense ones (out, in)."""
    if name == "DEPTHWISE_CONV_2D":
        return int(np.prod(result)) * weight[1] * weight[2]
    if name == "TRANSPOSE_CONV":
        return int(np.prod(source)) * int(np.prod(weight[:3]))
    if name == "BATCH_MATMUL":
        return int(np.prod(result)) * source[-1]
    return int(np.prod(result)) * int(np.prod(weight[1:]))


def _precision(tensor: Any) -> Precision:
    from ai_edge_litert.schema_py_generated import TensorType

    known = {TensorType.INT8: Precision.INT8, TensorType.FLOAT16: Precision.FP16}
    return known.get(tensor.Type(), Precision.FP32)


def _spec(model: TfliteModel, mapping: Any) -> TensorSpec:
    from ai_edge_litert.schema_py_generated import TensorType

    tensor = model.tensor(mapping.TensorIndex())
    dtype = {TensorType.FLOAT32: "float32", TensorType.INT8: "int8", TensorType.UINT8: "uint8"}
    found, quantization = tensor.Quantization(), None
    if found is not None and found.ScaleLength():
        quantization = Quantization(float(found.Scale(0)), int(found.ZeroPoint(0)))
    return TensorSpec(
        mapping.Name().decode(), shape_of(tensor), dtype.get(tensor.Type(), str(tensor.Type())), quantization
    )
