"""INT8 ONNX for ONNX Runtime's CPU kernels, from our calibration table.

ONNX Runtime's own quantizer places Q/DQ, because its kernels decide what fuses: inputs *and* outputs
of each operator are quantized, the bias is int32, and a Relu disappears into the output's range. The
session then runs QLinearConv, QGemm and an 8-bit MaxPool.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import InputError
from edgepress.inspection.onnx_graph import consumers, inferred, load, producers, without_weights
from optimize.calibration import CALIBRATION, Ranges
from optimize.layer_subset import between, chosen_layers, float_layers, name_nodes, split_shared_weights
from optimize.onnx_float_boundary import keep_float_layers_in_float
from optimize.recipe import NumberFormat, Recipe

if TYPE_CHECKING:
    import onnx


def onnx_qdq_from_fp32(
    recipe: Recipe,
    source: Path,
    destination: Path,
    ranges: Ranges,
    *,
    layers: frozenset[str] | None = None,
) -> Mapping[str, Any]:
    """Write the INT8 version of an FP32 ONNX file for ONNX Runtime.

    Args:
        recipe: Says the format of weights (I8, U8, I7) and activations (I8, U8).
        source: FP32 ONNX file; unchanged.
        destination: New file.
        ranges: Activation ranges of `source`.
        layers: Names of the weighted layers to quantize; the others stay in FP32. None for all.

    Returns:
        Provenance: nothing beyond the recipe; `float_layers` where `layers` is given.

    Raises:
        InputError: A tensor that is to be quantized has no range, or a layer is unknown; nothing is written.
    """
    import onnx

    model = load(source)
    # The quantizer needs the types of all tensors; letting it infer them would write the model to disk.
    types = inferred(without_weights(model)).graph.value_info
    del model.graph.value_info[:]
    model.graph.value_info.extend(types)
    _merge_bias(model.graph)
    name_nodes(model.graph)
    chosen = chosen_layers(model.graph, layers)
    if chosen:
        model = _quantized(recipe, model, ranges, layers)
    onnx.save(model, destination)
    return {} if layers is None else {"float_layers": float_layers(model.graph, layers)}


def _quantized(
    recipe: Recipe, model: "onnx.ModelProto", ranges: Ranges, layers: frozenset[str] | None
) -> "onnx.ModelProto":
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    onnx.helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
    data = {
        name: TensorData(lowest=np.float32(r.lowest), highest=np.float32(r.highest))
        for name, r in ranges.items()
    }
    operators = _operators()
    in_8_bits: frozenset[str] = frozenset()  # as nodes to quantize: all of them
    if layers is not None:
        in_8_bits = layers | between(model.graph, layers, frozenset(operators))
        split_shared_weights(model.graph, in_8_bits)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=recipe.weights is NumberFormat.I7,
        weight_qType=QuantType.QUInt8 if recipe.weights is NumberFormat.U8 else QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if recipe.activations is NumberFormat.U8 else QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=sorted(in_8_bits),
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        extra_options={"WeightSymmetric": True},  # unsigned ones have 128 as zero point
    )
    try:
        quantizer.quantize_model()
    except ValueError as error:
        raise InputError(
            f"{recipe.name}: no range for a tensor of the model ({error}). "
            f"Calibrate again: remove {CALIBRATION}."
        ) from error
    result: onnx.ModelProto = quantizer.model.model
    _keep_logits_in_float(result.graph)
    if layers is not None:
        keep_float_layers_in_float(result.graph, in_8_bits)
    quantizer.model.topological_sort()
    del result.metadata_props[:]
    return result


def _operators() -> list[str]:
    """All operators with an 8-bit CPU kernel, as quantize_static takes them by default."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    # Softmax and the normalizations lose more in 8 bits than they save.
    return sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax", "LayerNormalization"})


def _merge_bias(graph: "onnx.GraphProto") -> None:
    """MatMul + Add of a constant vector becomes Gemm: otherwise the bias is rounded to 8 bits.

    Done in place, and only where both sides are matrices.
    """
    import onnx

    initializers = {tensor.name: tensor for tensor in graph.initializer}
    readers, makers = consumers(graph), producers(graph)
    for add in [node for node in graph.node if node.op_type == "Add"]:
        bias = next((name for name in add.input if name in initializers), None)
        other = next((name for name in add.input if name != bias), None)
        product = makers.get(other or "")
        if (
            bias is None
            or product is None
            or product.op_type != "MatMul"
            or len(readers[product.output[0]]) != 1
        ):
            continue
        weight = initializers.get(product.input[1])
        if weight is None or len(weight.dims) != 2 or list(initializers[bias].dims) != [weight.dims[1]]:
            continue
        if not _is_matrix(graph, product.input[0]):
            continue
        gemm = onnx.helper.make_node(
            "Gemm", [*product.input, bias], list(add.output), product.name or add.name
        )
        add.CopyFrom(gemm)
        graph.node.remove(product)


def _is_matrix(graph: "onnx.GraphProto", name: str) -> bool:
    value = next((v for v in graph.value_info if v.name == name), None)
    return value is not None and len(value.type.tensor_type.shape.dim) == 2


def _keep_logits_in_float(graph: "onnx.GraphProto") -> None:
    """Take the Q/DQ pair off the graph's output: 256 steps would blur near-equal logits for nothing."""
    makers = producers(graph)
    for value in graph.output:
        dequantize = makers[value.name]
        quantize = makers.get(dequantize.input[0]) if dequantize.op_type == "DequantizeLinear" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        layer = makers[quantize.input[0]]
        for i, name in enumerate(layer.output):
            if name == quantize.input[0]:
                layer.output[i] = value.name
        graph.node.remove(dequantize)
        graph.node.remove(quantize)
