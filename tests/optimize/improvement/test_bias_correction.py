"""Bias correction knows how each tool rounds, and brings the mean of each layer back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras
from optimize.improvement.bias_correction import correct_biases, mean_error, rounded
from optimize.improvement.network import FeatureOrder, Layer, Network
from optimize.improvement.onnx_biases import with_biases
from optimize.improvement.onnx_network import onnx_network
from optimize.improvement.tflite_network import tflite_network
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.recipe import recipe_named
from optimize.stage import OptimizeRequest, optimize_folder
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


def _without_biases(path: Path) -> None:
    """Take the biases of both convolutions of the small classifier away: one is absent, one has no name."""
    model = onnx.load(path)
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    del first.input[2:]
    second.input[2] = ""
    for tensor in [t for t in model.graph.initializer if t.name in {"conv1_bias", "conv2_bias"}]:
        model.graph.initializer.remove(tensor)
    onnx.save(model, path)


def _logits(path: Path, pictures: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


@pytest.mark.parametrize("layers", [None, frozenset({"conv2", "dense"})])
def test_layers_without_a_bias_get_one_of_zeros(
    make_onnx: MakeOnnx, pictures: list[np.ndarray], tmp_path: Path, layers: frozenset[str] | None
) -> None:
    source, biased = make_onnx(), tmp_path / "biased.onnx"
    assert with_biases(source, biased) == ()
    assert not biased.exists()  # nothing was missing
    _without_biases(source)
    expected = ("conv1", "conv2") if layers is None else ("conv2",)
    assert with_biases(source, biased, layers) == expected
    onnx.checker.check_model(str(biased), full_check=True)
    np.testing.assert_allclose(_logits(source, pictures), _logits(biased, pictures), rtol=1e-4, atol=1e-5)
    with onnx_network(biased, tmp_path / "copy.onnx") as network:
        found = {name: layer.bias for name, layer in network.layers.items()}
    assert {name for name, bias in found.items() if bias is not None} == {*expected, "dense"}
    assert found["conv2"] is not None
    assert found["conv2"].shape == (16,)
    assert with_biases(biased, tmp_path / "again.onnx", layers) == ()


@pytest.mark.parametrize(
    ("attributes", "size"), [({}, (3, 5)), ({"transB": 1}, (5, 3)), ({"beta": 0.5}, None)]
)
def test_a_gemm_gets_a_bias_as_long_as_its_outputs(
    attributes: dict[str, Any], size: tuple[int, int] | None, tmp_path: Path
) -> None:
    source, biased = tmp_path / "gemm.onnx", tmp_path / "biased.onnx"
    weight, taken = np.ones(size or (3, 5), np.float32), np.ones(1, np.float32)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w"], ["y"], "fc", **attributes)],
        "gemm",
        [value("x", onnx.TensorProto.FLOAT, [1, 3])],
        [value("y", onnx.TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(taken, "fc/bias")],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), source
    )
    if size is None:  # a bias would be halved
        assert with_biases(source, biased) == ()
        return
    assert with_biases(source, biased) == ("fc",)
    made = onnx.load(biased).graph
    assert list(made.node[0].input) == ["x", "w", "fc/bias_"]
    assert next(list(t.dims) for t in made.initializer if t.name == "fc/bias_") == [5]


@pytest.mark.parametrize("recipe", ["onnx_static_wi8_au8", "tensorrt_static_wi8_ai8"])
def test_layers_without_a_bias_are_corrected_in_optimize(folder: Path, npz: Path, recipe: str) -> None:
    manifest = Manifest.load(folder)
    artifact = manifest.get("onnx-fp32")
    _without_biases(manifest.path_of(artifact))
    sha256 = sha256_of_path(manifest.path_of(artifact))
    manifest.with_artifact(replace(artifact, sha256=sha256)).save()
    request = OptimizeRequest(folder, "linux-x64-vnni", (recipe,), str(npz), 12)
    made = optimize_folder(request).get(recipe.replace("_", "-", 1))
    assert made.provenance["added_biases"] == ["conv1", "conv2"]
    assert made.provenance["bias_corrected_layers"] == ["conv1", "conv2", "dense"]
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / made.path).graph.initializer}
    biases = [array for name, array in tensors.items() if name.startswith("conv1/bias")]
    assert any(np.any(array != 0) for array in biases if array.shape == (8,))
    assert not list(folder.glob(".scratch*"))
