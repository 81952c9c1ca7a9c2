"""MACs and parameters of Keras layers, against counts by hand and published ones."""

from typing import Any

import pytest

from edgepress.artifact import Precision
from edgepress.errors import InputError
from edgepress.inspection.inspection_keras import inspect_keras
from edgepress.inspection.layer import Inspection
from edgepress.models.keras_import import import_keras

keras = import_keras()


def inspected(shape: tuple[int | None, ...], *stack: Any) -> Inspection:
    return inspect_keras(keras.Sequential([keras.Input(shape), *stack]))


@pytest.mark.parametrize(
    ("shape", "layer", "macs"),
    [
        ((8, 8, 3), lambda: keras.layers.Conv2D(4, 3, padding="same"), 64 * 9 * 3 * 4),
        ((8, 8, 3), lambda: keras.layers.Conv2D(4, 3, strides=2, padding="same"), 16 * 9 * 3 * 4),
        ((8, 8, 3), lambda: keras.layers.Conv2D(4, 3, dilation_rate=2), 16 * 9 * 3 * 4),
        ((8, 8, 6), lambda: keras.layers.Conv2D(4, 3, padding="same", groups=2), 64 * 9 * 3 * 4),
        ((3, 8, 8), lambda: keras.layers.Conv2D(4, 3, data_format="channels_first"), 36 * 9 * 3 * 4),
        ((8, 3), lambda: keras.layers.Conv1D(4, 3), 6 * 3 * 3 * 4),
        ((4, 4, 4, 2), lambda: keras.layers.Conv3D(3, 2), 27 * 8 * 2 * 3),
        ((8, 8, 3), lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 36 * 9 * 3 * 2),
        ((8, 8, 3), lambda: keras.layers.SeparableConv2D(5, 3, depth_multiplier=2), 36 * (9 * 6 + 6 * 5)),
        ((8, 8, 3), lambda: keras.layers.Conv2DTranspose(4, 3, strides=2), 64 * 9 * 3 * 4),
        ((7,), lambda: keras.layers.Dense(5), 35),
        ((6, 7), lambda: keras.layers.Dense(5), 6 * 35),
        ((6, 7), lambda: keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)), 6 * 35),
        ((6, 7), keras.layers.BatchNormalization, 0),
        ((6, 7), keras.layers.PReLU, 0),
    ],
)
def test_macs_of_one_layer(shape: tuple[int, ...], layer: Any, macs: int) -> None:
    found = inspected(shape, layer())
    assert found.macs == macs
    assert found.uncounted == ()


def test_parameters_of_a_layer_are_those_of_keras() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.SeparableConv2D(5, 3, depth_multiplier=2)])
    (layer,) = inspect_keras(model).layers
    assert layer.parameters + layer.biases == model.count_params()
    assert layer.biases == 5


def test_a_shared_layer_counts_its_parameters_once_and_its_macs_for_each_use() -> None:
    image = keras.Input((8, 8, 4))
    shared = keras.layers.Conv2D(4, 3, padding="same", name="shared")
    nested = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(4, 1, name="nested")])
    model = keras.Model(image, nested(nested(shared(shared(image)))))
    found = inspect_keras(model)
    assert found.parameters == model.count_params()
    assert {layer.name: layer.macs for layer in found.layers} == {
        "shared": 2 * 64 * 9 * 4 * 4,
        "nested": 2 * 64 * 4 * 4,
    }


def test_layers_whose_macs_cannot_be_told_are_named() -> None:
    image = keras.Input((6, 8))
    attended = keras.layers.MultiHeadAttention(2, 4, name="attention")(image, image)
    model = keras.Model(image, keras.layers.LSTM(3, name="lstm")(attended))
    found = inspect_keras(model)
    assert found.uncounted == ("attention (MultiHeadAttention)", "lstm (LSTM)")
    assert found.macs == 0
    assert found.parameters == model.count_params()


def test_a_picture_of_any_size_has_no_macs_that_could_be_told() -> None:
    found = inspected((None, None, 3), keras.layers.Conv2D(4, 3, name="conv"))
    assert (found.macs, found.uncounted) == (0, ("conv (Conv2D)",))


def test_half_precision_layers_are_stored_and_computed_in_fp16() -> None:
    (layer,) = inspected((7,), keras.layers.Dense(5, dtype="float16")).layers
    assert (layer.stored, layer.computed, layer.weight_bytes) == (Precision.FP16, Precision.FP16, 2 * 40)
    (layer,) = inspected((7,), keras.layers.Dense(5, dtype="mixed_float16")).layers
    assert (layer.stored, layer.computed, layer.weight_bytes) == (Precision.FP32, Precision.FP16, 4 * 40)


@pytest.mark.parametrize(
    ("name", "giga_macs"),  # published: Chollet 2017 table 3 (8.4), Sandler et al. 2018 table 4 (0.30)
    [("Xception", 8.36), ("MobileNetV2", 0.301)],
)
def test_published_networks(name: str, giga_macs: float) -> None:
    model = getattr(keras.applications, name)(weights=None)
    found = inspect_keras(model)
    assert found.parameters == model.count_params()
    assert found.macs / 1e9 == pytest.approx(giga_macs, rel=0.005)
    assert found.uncounted == ()


def test_a_model_that_was_never_built_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"is no graph of layers with known shapes\. Begin it with keras\.Input"
    ):
        inspect_keras(keras.Sequential([keras.layers.Dense(3)]))


def test_a_quantized_layer_is_stored_in_int8_with_its_scales() -> None:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(3)])
    model.quantize("int8")
    (layer,) = inspect_keras(model).layers
    assert (layer.stored, layer.computed) == (Precision.INT8, Precision.INT8)
    assert layer.weight_bytes == 16 * 3 + 4 * (3 + 3)  # kernel, its scale for each column, bias
