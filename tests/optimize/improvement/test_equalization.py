"""Equalized networks are the same function, and lose less to 8 bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.artifact import Device, Runtime
from edgepress.metrics import logit_snr_db
from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras
from export.tflite_from_keras import tflite_from_keras
from optimize.improvement.equalization import Equalization, equalize
from optimize.improvement.network import Layer, Link, Network
from optimize.improvement.onnx_network import onnx_network
from optimize.improvement.tflite_network import tflite_network
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from tests.optimize.ranges import ranges_of_onnx

SIDE = 12
MakeOnnx = Callable[..., Path]


def _chain(factors: np.ndarray) -> Network:
    """Two matrices, eight channels between them, spoilt by `factors`."""
    draws = np.random.default_rng(0)
    first = draws.normal(0, 1, (1, 8, 5, 3)).astype(np.float32)
    second = draws.normal(0, 1, (1, 6, 8, 2)).astype(np.float32)
    first *= factors[np.newaxis, :, np.newaxis, np.newaxis]
    second /= factors[np.newaxis, np.newaxis, :, np.newaxis]
    bias = draws.normal(0, 1, 8).astype(np.float32) * factors
    return Network(
        {"first": Layer(first, bias, "x"), "second": Layer(second, None, "y")}, (Link("first", "second"),)
    )


def _factors(count: int, seed: int = 0) -> np.ndarray:
    return np.exp2(np.random.default_rng(seed).uniform(-7, 7, count)).astype(np.float32)


def test_what_is_left_of_a_difference_is_at_most_a_factor_of_two() -> None:
    network = _chain(_factors(8))
    found = equalize(network)
    given = np.abs(network.layers["first"].kernel).max(axis=(2, 3)).ravel()
    taken = np.abs(network.layers["second"].kernel).max(axis=(1, 3)).ravel()
    assert np.all(np.abs(np.log2(given / taken)) <= 1)
    assert (found.links, found.channels) == (1, 8)
    assert found.spread_after <= 2 < found.spread_before
    assert 0 < found.scaled <= 8


def test_weights_and_bias_keep_their_mantissas_and_their_product() -> None:
    network, spoilt = _chain(_factors(8)), _chain(_factors(8))
    equalize(network)
    first, second = (network.layers[name] for name in ("first", "second"))
    for name, layer in network.layers.items():
        assert np.array_equal(np.frexp(layer.kernel)[0], np.frexp(spoilt.layers[name].kernel)[0])
    scale = first.kernel[0, :, 0, 0] / spoilt.layers["first"].kernel[0, :, 0, 0]
    assert first.bias is not None
    assert spoilt.layers["first"].bias is not None
    assert np.array_equal(first.bias, spoilt.layers["first"].bias * scale)
    assert np.array_equal(second.kernel, spoilt.layers["second"].kernel / scale[np.newaxis, :, np.newaxis])


def test_a_balanced_network_and_dead_channels_stay() -> None:
    factors = np.ones(8, np.float32)
    network, same = _chain(factors), _chain(factors)
    assert equalize(network).scaled == 0
    assert np.array_equal(network.layers["first"].kernel, same.layers["first"].kernel)
    network = _chain(_factors(8))
    network.layers["first"].kernel[0, 3] = 0
    dead = network.layers["second"].kernel[0, :, 3].copy()
    equalize(network)
    assert np.array_equal(network.layers["second"].kernel[0, :, 3], dead)
    assert np.all(np.isfinite(network.layers["first"].kernel))


def _network(spoilt: Callable[[Any], None] | None = None) -> Any:
    """Every kind of link: dense and depthwise convolutions, pooling, a flatten, dense layers."""
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise"),
            layers.Conv2D(12, 1, activation="relu", name="pointwise"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(8, 3, padding="same", groups=2, activation="relu", name="grouped"),
            layers.Flatten(name="flat"),
            layers.Dense(16, activation="relu", name="dense"),
            layers.Dense(5, name="scores"),
        ]
    )
    draw_random(network, 0)
    if spoilt:
        spoilt(network)
    return network


NAMES = ("conv", "depthwise", "pointwise", "grouped", "dense", "scores")


def _spoil(network: Any) -> None:
    """Scale what leaves three layers by 2^-7 to 2^7, and what reads it back."""
    kernels = {name: network.get_layer(name).get_weights() for name in NAMES}
    factors = {
        name: _factors(count, count) for name, count in (("conv", 8), ("pointwise", 12), ("dense", 16))
    }
    for name, factor in factors.items():
        kernels[name][0] *= factor
        kernels[name][1] *= factor
    kernels["depthwise"][0] /= factors["conv"][:, np.newaxis]
    kernels["grouped"][0][..., :4] /= factors["pointwise"][:6, np.newaxis]
    kernels["grouped"][0][..., 4:] /= factors["pointwise"][6:, np.newaxis]
    kernels["scores"][0] /= factors["dense"][:, np.newaxis]
    for name, weights in kernels.items():
        network.get_layer(name).set_weights(weights)


def _logits(path: Path, runtime: Runtime, images: np.ndarray) -> np.ndarray:
    with runner_for(runtime, Device.CPU)(path, 1) as runner:
        return np.concatenate([runner.infer(image[np.newaxis]) for image in images])


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a network as ONNX and TFLite."""
    folder = tmp_path_factory.mktemp("spoilt")
    conversion = Conversion(_network(_spoil))
    onnx_from_keras(conversion)(folder / "m.onnx")
    tflite_from_keras(conversion)(folder / "m.tflite")
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, (24, SIDE, SIDE, 3)).astype(np.float32)


def _equalized(
    folder: Path, tmp_path: Path
) -> tuple[Equalization, Equalization, list[dict[str, np.ndarray]]]:
    with onnx_network(folder / "m.onnx", tmp_path / "m.onnx") as onnx_layers:
        of_onnx = equalize(onnx_layers)
    with tflite_network(folder / "m.tflite", tmp_path / "m.tflite") as tflite_layers:
        of_tflite = equalize(tflite_layers)
    kernels = [{n: np.array(x.kernel) for n, x in net.layers.items()} for net in (onnx_layers, tflite_layers)]
    return of_onnx, of_tflite, kernels


def test_both_formats_get_the_same_factors_and_the_same_logits_bit_for_bit(
    spoilt: Path, tmp_path: Path, images: np.ndarray
) -> None:
    of_onnx, of_tflite, (first, second) = _equalized(spoilt, tmp_path)
    assert of_onnx == of_tflite
    assert (of_onnx.links, of_onnx.channels) == (5, 8 + 16 + 12 + 8 + 16)
    assert list(first) == list(NAMES)
    for kernel, other in zip(first.values(), second.values(), strict=True):
        assert np.array_equal(np.squeeze(kernel), np.squeeze(other))
    for name, runtime in (("m.onnx", Runtime.ONNXRUNTIME), ("m.tflite", Runtime.LITERT)):
        before, after = (_logits(folder / name, runtime, images) for folder in (spoilt, tmp_path))
        assert np.array_equal(before, after), name
    assert (tmp_path / "m.onnx").read_bytes() != (spoilt / "m.onnx").read_bytes()


def test_a_global_pooling_is_passed_in_both_formats(tmp_path: Path, images: np.ndarray) -> None:
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="means"),
            layers.Dense(5, name="scores"),
        ]
    )
    draw_random(network, 0)
    (kernel, bias), (rows, offset) = (network.get_layer(name).get_weights() for name in ("conv", "scores"))
    factors = _factors(8)
    network.get_layer("conv").set_weights([kernel * factors, bias * factors])
    network.get_layer("scores").set_weights([rows / factors[:, np.newaxis], offset])
    folder = tmp_path / "exported"
    folder.mkdir()
    conversion = Conversion(network)
    onnx_from_keras(conversion)(folder / "m.onnx")
    tflite_from_keras(conversion)(folder / "m.tflite")
    of_onnx, of_tflite, _ = _equalized(folder, tmp_path)
    assert of_onnx == of_tflite
    assert (of_onnx.links, of_onnx.channels) == (1, 8)
    assert of_onnx.scaled > 0
    for name, runtime in (("m.onnx", Runtime.ONNXRUNTIME), ("m.tflite", Runtime.LITERT)):
        before, after = (_logits(place / name, runtime, images) for place in (folder, tmp_path))
        assert np.array_equal(before, after), name


def test_eight_bits_lose_less_of_an_equalized_network(
    spoilt: Path, tmp_path: Path, images: np.ndarray
) -> None:
    _equalized(spoilt, tmp_path)
    exact = _logits(spoilt / "m.onnx", Runtime.ONNXRUNTIME, images)
    found = []
    for folder in (spoilt, tmp_path):
        ranges = ranges_of_onnx(folder / "m.onnx", (image[np.newaxis] for image in images), len(images))
        onnx_tensorrt_qdq_from_fp32(folder / "m.onnx", tmp_path / "int8.onnx", ranges)
        quantized = _logits(tmp_path / "int8.onnx", Runtime.ONNXRUNTIME_EMULATION, images)
        found.append(logit_snr_db(exact, quantized))
    plain, equalized = found
    assert plain < 20
    assert equalized > plain + 10


@pytest.mark.parametrize("kind", ["relu6", "residual", "two readers"])
def test_what_no_factor_passes_ends_a_chain(tmp_path: Path, kind: str) -> None:
    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((SIDE, SIDE, 3))
    values = layers.Conv2D(4, 3, padding="same", activation="relu6" if kind == "relu6" else "relu")(inputs)
    if kind == "residual":
        values = layers.add([values, layers.Conv2D(4, 1)(inputs)])
    after = layers.Conv2D(4, 3, name="after")(values)
    if kind == "two readers":
        after = layers.concatenate([after, layers.Conv2D(4, 3, name="other")(values)])
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(after)))
    network = keras.Model(inputs, outputs)
    draw_random(network, 0)
    conversion = Conversion(network)
    onnx_from_keras(conversion)(tmp_path / "m.onnx")
    tflite_from_keras(conversion)(tmp_path / "m.tflite")
    with onnx_network(tmp_path / "m.onnx", tmp_path / "e.onnx") as found:
        assert found.links == ()
        assert equalize(found).scaled == 0
    with tflite_network(tmp_path / "m.tflite", tmp_path / "e.tflite") as found:
        assert found.links == ()
    for suffix in ("onnx", "tflite"):
        assert (tmp_path / f"m.{suffix}").read_bytes() == (tmp_path / f"e.{suffix}").read_bytes()


def test_a_transpose_before_the_flatten_ends_a_chain(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    source = make_onnx()
    with onnx_network(source, tmp_path / "e.onnx") as network:
        assert network.links == (Link("conv1", "conv2"),)
        assert network.layers["dense"].bias is not None  # of the Add behind the MatMul
        network.layers["dense"].bias[:] = 7
    tensors = {tensor.name: tensor for tensor in onnx.load(tmp_path / "e.onnx").graph.initializer}
    assert np.all(numpy_helper.to_array(tensors["dense_bias"]) == 7)
