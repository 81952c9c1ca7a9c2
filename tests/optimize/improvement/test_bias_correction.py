"""Bias correction knows how each tool rounds, and brings the mean of each layer back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras
from optimize.improvement.bias_correction import correct_biases, mean_error, rounded
from optimize.improvement.network import FeatureOrder, Layer, Network
from optimize.improvement.onnx_network import onnx_network
from optimize.improvement.tflite_network import tflite_network
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.recipe import recipe_named
from optimize.tflite_int8_from_fp32 import tflite_int8_from_fp32
from tests.optimize.ranges import ranges_of_onnx, ranges_of_tflite

MakeOnnx = Callable[..., Path]


@pytest.mark.parametrize("positions", [1, 9])
def test_the_mean_of_a_rounded_layer_is_that_of_the_exact_one(positions: int) -> None:
    draws = np.random.default_rng(0)
    kernel = draws.normal(0, 1, (1, 300, 6, positions)).astype(np.float32)
    inputs = np.abs(draws.normal(0, 3, (5000, 6, positions))).astype(np.float32)
    mean = inputs.mean(axis=(0, 2))
    layer = Layer(kernel, np.zeros(300, np.float32), "x")
    exact, coarse = (np.einsum("nip,oip->no", inputs, k[0]) for k in (kernel, rounded(kernel, 7)))
    error = (coarse - exact).mean(axis=0)
    left = error - mean_error(layer, mean, 7)
    assert np.abs(left).max() < 0.1 * np.abs(error).max()


def test_a_dense_layer_behind_a_flatten_takes_a_mean_for_each_feature() -> None:
    draws = np.random.default_rng(1)
    kernel = draws.normal(0, 1, (1, 4, 6, 9)).astype(np.float32)
    mean = draws.normal(0, 1, (6, 9)).astype(np.float32)
    error = rounded(kernel, 127)[0] - kernel[0]
    expected = pytest.approx(np.einsum("oip,ip->o", error, mean), rel=1e-3, abs=1e-7)
    by_channel = Layer(kernel, None, "x", FeatureOrder.CHANNEL_BY_CHANNEL)
    assert mean_error(by_channel, mean.ravel(), 127) == expected
    by_position = Layer(kernel, None, "x", FeatureOrder.POSITION_BY_POSITION)
    assert mean_error(by_position, mean.T.ravel(), 127) == expected


def test_a_layer_without_bias_or_means_is_named_by_its_absence() -> None:
    kernel = np.random.default_rng(2).normal(0, 1, (1, 4, 3, 1)).astype(np.float32)
    bias = np.zeros(4, np.float32)
    layers = {
        "all": Layer(kernel, bias, "x"),
        "no bias": Layer(kernel, None, "x"),
        "no means": Layer(kernel, np.zeros(4, np.float32), "y"),
    }
    assert correct_biases(Network(layers, ()), {"x": np.ones(3, np.float32)}, 127) == ("all",)
    assert np.any(bias != 0)


@pytest.mark.parametrize(
    "recipe",
    ["onnx_static_wi8_au8", "onnx_static_wi7_au8", "onnx_static_wu8_au8", "tensorrt_static_wi8_ai8"],
)
def test_weights_are_rounded_as_in_the_onnx_file(
    make_onnx: MakeOnnx, pictures: list[np.ndarray], tmp_path: Path, recipe: str
) -> None:
    source, made = make_onnx(), tmp_path / "int8.onnx"
    ranges = ranges_of_onnx(source, pictures, len(pictures))
    if recipe.startswith("tensorrt"):
        onnx_tensorrt_qdq_from_fp32(source, made, ranges)
    else:
        onnx_qdq_from_fp32(recipe_named(recipe), source, made, ranges)
    graph = onnx.load(made).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    dequantized = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in tensors]
    with onnx_network(source, tmp_path / "copy.onnx") as network:
        for kernel in ("conv1_kernel", "conv2_kernel", "dense_kernel"):
            node = next(n for n in dequantized if n.input[0].startswith(kernel))
            stored, scales = tensors[node.input[0]].astype(np.float32), tensors[node.input[1]]
            if tensors[node.input[2]].dtype == np.uint8:
                assert np.all(tensors[node.input[2]] == 128)
                stored -= 128
            axis = 1 if kernel == "dense_kernel" else 0
            shape = [-1 if i == axis else 1 for i in range(stored.ndim)]
            found = stored * scales.reshape(shape)
            layer = network.layers[kernel.removesuffix("_kernel")]
            expected = rounded(layer.kernel, recipe_named(recipe).weights.levels)[0]
            found = found.T[..., np.newaxis] if axis else found.reshape(expected.shape)
            assert found == pytest.approx(expected, rel=1e-6), kernel


def test_weights_are_rounded_as_in_the_tflite_file(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(4, name="scores"),
        ]
    )
    draw_random(network, 0)
    source, made = tmp_path / "m.tflite", tmp_path / "int8.tflite"
    tflite_from_keras(Conversion(network))(source)
    inputs = [np.random.default_rng(i).normal(0, 1, (1, 8, 8, 3)).astype(np.float32) for i in range(4)]
    tflite_int8_from_fp32(
        recipe_named("tflite_static_wi8_ai8"), source, made, ranges_of_tflite(source, inputs, len(inputs))
    )
    interpreter = Interpreter(str(made))
    interpreter.allocate_tensors()
    weights = {}
    for detail in interpreter.get_tensor_details():
        scales = detail["quantization_parameters"]["scales"]
        if len(scales) > 1 and detail["dtype"] is np.int8:
            stored = interpreter.get_tensor(detail["index"]).astype(np.float32)
            weights[len(scales)] = stored * scales.reshape([-1] + [1] * (stored.ndim - 1))
    with tflite_network(source, tmp_path / "copy.tflite") as found:
        conv, dense = (rounded(found.layers[name].kernel, 127)[0] for name in ("conv", "scores"))
    assert weights[6].reshape(6, 9, 3).transpose(0, 2, 1) == pytest.approx(conv, rel=1e-6)
    assert weights[4].reshape(4, 36, 6).transpose(0, 2, 1) == pytest.approx(dense, rel=1e-6)
