"""Each rule of the lint, broken on purpose in a file that passes, and what TensorRT's parser says to it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.engine_card import BatchRange
from edgepress.errors import ProofError
from edgepress.target import ComputeCapability
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.qdq_lint import lint_qdq
from optimize.recipe import NumberFormat
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]
Mutation = Callable[[onnx.ModelProto], None]

needs_parser = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)


@pytest.fixture
def good(make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path) -> onnx.ModelProto:
    source = make_onnx()
    onnx_tensorrt_qdq_from_fp32(source, tmp_path / "q.onnx", ranges_of_onnx(source, pictures, 12))
    return onnx.load(tmp_path / "q.onnx")


@pytest.fixture
def half(make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path) -> onnx.ModelProto:
    """INT8 in an FP16 graph."""
    source, ranges = make_onnx(), ranges_of_onnx(make_onnx(), pictures, 12)
    onnx_tensorrt_qdq_from_fp32(source, tmp_path / "h.onnx", ranges, rest=NumberFormat.F16)
    return onnx.load(tmp_path / "h.onnx")


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.name == name)
    return found


def replace(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


def foreign_operator(model: onnx.ModelProto) -> None:
    node(model, "pool").domain = "com.microsoft"


def qlinear_operator(model: onnx.ModelProto) -> None:
    node(model, "pool").op_type = "QLinearMaxPool"


def shifted_zero_point(model: onnx.ModelProto) -> None:
    replace(model, "nchw_zero_point", np.array(3, np.int8))


def unsigned_zero_point(model: onnx.ModelProto) -> None:
    replace(model, "nchw_zero_point", np.array(0, np.uint8))


def computed_zero_point(model: onnx.ModelProto) -> None:
    node(model, "nchw_quantize").input[2] = "images"


def int32_stored(model: onnx.ModelProto) -> None:
    replace(model, "conv1_kernel", np.zeros((8, 3, 3, 3), np.int32))


def zero_scale(model: onnx.ModelProto) -> None:
    replace(model, "conv1_kernel_scale", np.zeros(8, np.float32))


def infinite_scale(model: onnx.ModelProto) -> None:
    replace(model, "nchw_scale", np.array(np.inf, np.float32))


def computed_scale(model: onnx.ModelProto) -> None:
    node(model, "nchw_quantize").input[1] = "images"


def activation_per_channel(model: onnx.ModelProto) -> None:
    replace(model, "pool_scale", np.ones(8, np.float32))
    replace(model, "pool_zero_point", np.zeros(8, np.int8))


def float_activation(model: onnx.ModelProto) -> None:
    node(model, "conv2").input[0] = "pool"


def float_weight(model: onnx.ModelProto) -> None:
    node(model, "dense").input[1] = "dense_kernel"


def wrong_axis(model: onnx.ModelProto) -> None:
    attribute = next(a for a in node(model, "conv2_kernel_dequantize").attribute if a.name == "axis")
    attribute.i = 1


def weights_per_input_channel(model: onnx.ModelProto) -> None:
    replace(model, "conv2_kernel_scale", np.full(8, 0.01, np.float32))
    replace(model, "conv2_kernel_zero_point", np.zeros(8, np.int8))
    wrong_axis(model)


def quantized_before_relu(model: onnx.ModelProto) -> None:
    make = onnx.helper.make_node
    parameters = ["nchw_scale", "nchw_zero_point"]
    model.graph.node.append(make("QuantizeLinear", ["conv1", *parameters], ["conv1_q"], "extra_q"))
    model.graph.node.append(make("DequantizeLinear", ["conv1_q", *parameters], ["conv1_dq"], "extra_dq"))
    node(model, "relu1").input[0] = "conv1_dq"


def no_layers(model: onnx.ModelProto) -> None:
    for name in ("conv1", "conv2", "dense"):
        model.graph.node.remove(node(model, name))


def quantized_before_relu_behind_the_bias(model: onnx.ModelProto) -> None:
    make, conv = onnx.helper.make_node, node(model, "conv1")
    bias = numpy_helper.from_array(np.ones((8, 1, 1), np.float32), "apart")
    model.graph.initializer.append(bias)
    del conv.input[2]
    conv.output[0] = "before_bias"
    model.graph.node.append(make("Add", ["before_bias", "apart"], ["conv1"], "bias_add"))
    quantized_before_relu(model)


def unsigned_weights(model: onnx.ModelProto) -> None:
    replace(model, "conv1_kernel", np.full((8, 3, 3, 3), 100, np.uint8))
    replace(model, "conv1_kernel_zero_point", np.zeros(8, np.uint8))


def unsigned_activation(model: onnx.ModelProto) -> None:
    replace(model, "nchw_zero_point", np.array(128, np.uint8))


def int32_bias(model: onnx.ModelProto) -> None:
    replace(model, "conv1_bias", np.full(8, 100, np.int32))
    scale = numpy_helper.from_array(np.full(8, 0.001, np.float32), "bias_scale")
    model.graph.initializer.append(scale)
    inputs = ["conv1_bias", "bias_scale"]
    made = onnx.helper.make_node("DequantizeLinear", inputs, ["bias"], "bias_dequantize", axis=0)
    model.graph.node.insert(0, made)
    node(model, "conv1").input[2] = "bias"


def zero_activation_scale(model: onnx.ModelProto) -> None:
    replace(model, "nchw_scale", np.array(0, np.float32))


def negative_scale(model: onnx.ModelProto) -> None:
    replace(model, "conv1_kernel_scale", np.full(8, -0.1, np.float32))


def weights_only(model: onnx.ModelProto) -> None:
    for name, source in (("conv1", "nchw"), ("conv2", "pool"), ("dense", "flat")):
        node(model, name).input[0] = source
    for name in ("nchw", "pool", "flat"):
        for kind in ("quantize", "dequantize"):
            model.graph.node.remove(node(model, f"{name}_{kind}"))


def activations_only(model: onnx.ModelProto) -> None:
    for name, layer in (("conv1_kernel", "conv1"), ("conv2_kernel", "conv2"), ("dense_kernel", "dense")):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        replace(model, name, numpy_helper.to_array(tensor).astype(np.float32) * 0.01)
        node(model, layer).input[1] = name
        model.graph.node.remove(node(model, f"{name}_dequantize"))


def unequal_pair(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.float32), "other_scale"))
    node(model, "nchw_dequantize").input[1] = "other_scale"


def quantized_output(model: onnx.ModelProto) -> None:
    make, last = onnx.helper.make_node, node(model, "dense_add")
    last.output[0] = "before"
    parameters = ["flat_scale", "flat_zero_point"]
    model.graph.node.append(make("QuantizeLinear", ["before", *parameters], ["q"], "out_q"))
    model.graph.node.append(make("DequantizeLinear", ["q", *parameters], ["logits"], "out_dq"))


def qlinear_conv(model: onnx.ModelProto) -> None:
    conv = node(model, "conv1")
    parameters = ["nchw_scale", "nchw_zero_point"]
    kernel = ["conv1_kernel", "conv1_kernel_scale", "conv1_kernel_zero_point"]
    inputs = ["nchw_quantized", *parameters, *kernel, *parameters]
    made = onnx.helper.make_node("QLinearConv", inputs, ["conv1_8"], "conv1_8", pads=[1, 1, 1, 1])
    back = onnx.helper.make_node("DequantizeLinear", ["conv1_8", *parameters], ["conv1"], "conv1_back")
    place = list(model.graph.node).index(conv)
    model.graph.node.remove(conv)
    model.graph.node.insert(place, made)
    model.graph.node.insert(place + 1, back)


def qgemm(model: onnx.ModelProto) -> None:
    dense = node(model, "dense")
    kernel = ["dense_kernel", "dense_kernel_scale", "dense_kernel_zero_point"]
    del dense.input[:]
    dense.input.extend(["flat_quantized", "flat_scale", "flat_zero_point", *kernel])
    dense.op_type, dense.domain = "QGemm", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def single_scales(model: onnx.ModelProto) -> None:
    """FP32 scales in an FP16 graph."""
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale"):
            replace(model, tensor.name, numpy_helper.to_array(tensor).astype(np.float32))


def single_weight(model: onnx.ModelProto) -> None:
    """An FP32 weight beside an FP16 input."""
    weight = numpy_helper.from_array(np.ones((16, 8, 3, 3), np.float32), "single")
    model.graph.initializer.append(weight)
    node(model, "conv2").input[1] = "single"


def subnormal_scale(model: onnx.ModelProto) -> None:
    replace(model, "nchw_scale", np.array(3e-5, np.float16))


def opset_before_half_scales(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


# TensorRT's parser refuses the first kind itself, with a poorer message, and takes the second in silence.
REFUSED = [
    (qlinear_operator, "QLinearMaxPool is unknown to TensorRT"),
    (qlinear_conv, "ai.onnx:QLinearConv is unknown to TensorRT"),
    (qgemm, "com.microsoft:QGemm is unknown to TensorRT"),
    (shifted_zero_point, "zero point is not 0"),
    (unsigned_activation, "zero point is uint8, wanted int8"),
    (computed_zero_point, "zero point is no constant"),
    (unsigned_weights, "stored as uint8, wanted int8"),
    (int32_stored, "stored as int32, wanted int8"),
    (int32_bias, "stored as int32, wanted int8; conv1: bias is quantized, wanted floating point"),
    (zero_scale, "a scale is not positive and finite"),
    (zero_activation_scale, "a scale is not positive and finite"),
    (negative_scale, "a scale is not positive and finite"),
    (wrong_axis, "conv2: weight .* has 16 scales on axis 1, wanted axis 0"),
    (no_layers, "no weighted layer"),
]
TAKEN = [
    (foreign_operator, "com.microsoft:MaxPool is unknown to TensorRT"),  # the parser skips the domain
    (old_opset, "opset is 12, wanted ≥ 13"),
    (unsigned_zero_point, "zero point is uint8, wanted int8"),
    (activation_per_channel, "activation has 8 scales, wanted 1"),
    (float_activation, "conv2: activation is not quantized"),
    (weights_only, "conv1: activation is not quantized; conv2: activation is not quantized"),
    (activations_only, "conv1: weight is not quantized; conv2: weight is not quantized"),
    (weights_per_input_channel, "conv2: weight .* has 8 scales on axis 1, wanted axis 0"),
    (quantized_before_relu, "conv1: Q/DQ stands between it and its Relu"),
    (quantized_before_relu_behind_the_bias, "conv1: Q/DQ stands between it and its Relu"),
    (unequal_pair, "its scale is not that of the Q before it"),
    (quantized_output, "out_q: Q/DQ stands before no weighted layer"),
]
UNKNOWN = [
    (infinite_scale, "a scale is not positive and finite"),
    (computed_scale, "scale is no constant"),
    (float_weight, "dense: weight is not quantized"),
]
HALF_REFUSED = [
    (single_scales, "input and scale are FLOAT and FLOAT16, wanted one type"),
    (single_weight, "conv2: operands are FLOAT and FLOAT16, wanted one type"),
]
HALF_TAKEN = [
    (foreign_operator, "com.microsoft:MaxPool is unknown to TensorRT"),  # the parser skips the domain
    (subnormal_scale, "an FP16 scale is below"),
    (opset_before_half_scales, "opset is 17, wanted ≥ 19 for FP16 scales"),
]


def parses(model: onnx.ModelProto) -> bool:
    trt = tensorrt_rtx()
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(log).create_network(0)
    parser = trt.OnnxParser(network, log)
    return bool(parser.parse(model.SerializeToString()))


def test_lint_qdq_accepts_our_conversions(good: onnx.ModelProto, half: onnx.ModelProto) -> None:
    lint_qdq(good)
    lint_qdq(half)


@pytest.mark.parametrize(("mutate", "message"), [*REFUSED, *TAKEN, *UNKNOWN])
def test_lint_qdq_refuses(good: onnx.ModelProto, mutate: Mutation, message: str) -> None:
    mutate(good)
    with pytest.raises(ProofError, match=message):
        lint_qdq(good)


@pytest.mark.parametrize(("mutate", "message"), [*HALF_REFUSED, *HALF_TAKEN])
def test_lint_qdq_refuses_in_an_fp16_graph(half: onnx.ModelProto, mutate: Mutation, message: str) -> None:
    mutate(half)
    with pytest.raises(ProofError, match=message):
        lint_qdq(half)


@needs_parser
@pytest.mark.parametrize("mutate", [mutate for mutate, _ in REFUSED])
def test_tensorrt_refuses_it_too(good: onnx.ModelProto, mutate: Mutation) -> None:
    assert parses(good)
    mutate(good)
    assert not parses(good)


@needs_parser
@pytest.mark.parametrize("mutate", [mutate for mutate, _ in HALF_REFUSED])
def test_tensorrt_refuses_it_in_an_fp16_graph_too(half: onnx.ModelProto, mutate: Mutation) -> None:
    assert parses(half)
    mutate(half)
    assert not parses(half)


@needs_parser
@pytest.mark.parametrize("mutate", [mutate for mutate, _ in TAKEN])
def test_tensorrt_takes_it_in_silence(good: onnx.ModelProto, mutate: Mutation) -> None:
    """So the lint is the only one to say it."""
    mutate(good)
    assert parses(good)


@needs_parser
@pytest.mark.parametrize("mutate", [mutate for mutate, _ in HALF_TAKEN])
def test_tensorrt_takes_it_in_an_fp16_graph_in_silence(half: onnx.ModelProto, mutate: Mutation) -> None:
    mutate(half)
    assert parses(half)


def test_lint_qdq_knows_the_layers_left_in_float(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, ranges = make_onnx(), ranges_of_onnx(make_onnx(), pictures, 12)
    chosen = frozenset({"conv1", "conv2"})
    onnx_tensorrt_qdq_from_fp32(source, tmp_path / "some.onnx", ranges, layers=chosen)
    model = onnx.load(tmp_path / "some.onnx")
    lint_qdq(model, left_in_float=frozenset({"dense"}))
    with pytest.raises(ProofError, match="2 of .*dense: activation is not quantized; dense: weight is not"):
        lint_qdq(model)
    with pytest.raises(ProofError, match="conv2: activation is quantized, but the layer is left in float"):
        lint_qdq(model, left_in_float=frozenset({"dense", "conv2"}))


@needs_parser
def test_a_dynamic_batch_needs_the_profile_that_the_builder_is_given(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    trt = tensorrt_rtx()
    assert good.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    lint_qdq(good)
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(good.SerializeToString())
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    made = engine_from_onnx(trt, tmp_path / "q.onnx", tmp_path / "x.plan", ComputeCapability.SM86)
    assert made.batch == BatchRange(1, 1, 1)
