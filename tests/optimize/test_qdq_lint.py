"""Each rule of the lint, broken on purpose in a file that passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.errors import ProofError
from optimize.calibration.onnx_calibration import ranges_of_onnx
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.qdq_lint import lint_qdq

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]


@pytest.fixture
def good(make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path) -> onnx.ModelProto:
    source = make_onnx()
    onnx_tensorrt_qdq_from_fp32(source, tmp_path / "q.onnx", ranges_of_onnx(source, pictures, 12))
    return onnx.load(tmp_path / "q.onnx")


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


def tiny_half_scale(model: onnx.ModelProto) -> None:
    replace(model, "nchw_scale", np.array(1e-6, np.float16))


def computed_scale(model: onnx.ModelProto) -> None:
    node(model, "nchw_quantize").input[1] = "images"


def activation_per_channel(model: onnx.ModelProto) -> None:
    replace(model, "pool_scale", np.ones(8, np.float32))


def float_activation(model: onnx.ModelProto) -> None:
    node(model, "conv2").input[0] = "pool"


def float_weight(model: onnx.ModelProto) -> None:
    node(model, "dense").input[1] = "dense_kernel"


def wrong_axis(model: onnx.ModelProto) -> None:
    attribute = next(a for a in node(model, "conv2_kernel_dequantize").attribute if a.name == "axis")
    attribute.i = 1


def quantized_before_relu(model: onnx.ModelProto) -> None:
    make = onnx.helper.make_node
    parameters = ["nchw_scale", "nchw_zero_point"]
    model.graph.node.append(make("QuantizeLinear", ["conv1", *parameters], ["conv1_q"], "extra_q"))
    model.graph.node.append(make("DequantizeLinear", ["conv1_q", *parameters], ["conv1_dq"], "extra_dq"))
    node(model, "relu1").input[0] = "conv1_dq"


def no_layers(model: onnx.ModelProto) -> None:
    for name in ("conv1", "conv2", "dense"):
        model.graph.node.remove(node(model, name))


def test_lint_qdq_accepts_our_conversion(good: onnx.ModelProto) -> None:
    lint_qdq(good)


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (old_opset, "opset is 12, wanted ≥ 13"),
        (foreign_operator, "com.microsoft:MaxPool is unknown to TensorRT"),
        (qlinear_operator, "QLinearMaxPool is unknown to TensorRT"),
        (shifted_zero_point, "zero point is not 0"),
        (unsigned_zero_point, "zero point is uint8, wanted int8"),
        (computed_zero_point, "zero point is no constant"),
        (int32_stored, "stored as int32, wanted int8"),
        (zero_scale, "a scale is not positive and finite"),
        (infinite_scale, "a scale is not positive and finite"),
        (tiny_half_scale, "an FP16 scale is below"),
        (computed_scale, "scale is no constant"),
        (activation_per_channel, "activation has 8 scales, wanted 1"),
        (float_activation, "conv2: activation is not quantized"),
        (float_weight, "dense: weight is not quantized"),
        (wrong_axis, "conv2: weight .* has 16 scales on axis 1, wanted axis 0"),
        (quantized_before_relu, "conv1: Q/DQ stands between it and its Relu"),
        (no_layers, "no weighted layer"),
    ],
)
def test_lint_qdq_refuses(
    good: onnx.ModelProto, mutate: Callable[[onnx.ModelProto], None], message: str
) -> None:
    mutate(good)
    with pytest.raises(ProofError, match=message):
        lint_qdq(good)
