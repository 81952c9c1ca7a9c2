from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.models import keras_classifier
from edgepress.models.keras_classifier import require_classifier, require_finite
from edgepress.models.keras_import import import_keras

PATH = Path("m.keras")
SHAPE = (32, 32, 3)


def _dense_head(images: Any, units: int = 5, **more: Any) -> Any:
    layers = import_keras().layers
    return layers.Dense(units, **more)(layers.Flatten()(images))


def _model(outputs_of: Callable[[Any], Any], **of_input: Any) -> Any:
    keras = import_keras()
    images = keras.Input(**{"shape": SHAPE, **of_input})
    return keras.Model(images, outputs_of(images))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((32,), r"Received: \(None, 32\)"),
        ((32, 32), r"Received: \(None, 32, 32\)"),
        ((None, 32, 3), r"Received: \(None, None, 32, 3\)"),
        ((3, 32, 32), r"Received: \(None, 3, 32, 32\)"),
        ((32, 32, 1), r"Received: \(None, 32, 32, 1\)"),
        ((32, 32, 4), r"Received: \(None, 32, 32, 4\)"),
    ],
)
def test_require_classifier_refuses_another_input(shape: tuple[int | None, ...], words: str) -> None:
    keras = import_keras()
    images = keras.Input(shape)
    values = images if None not in shape else keras.layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, _dense_head(values))
    with pytest.raises(InputError, match=r"fixed height and width \(channels last\) is wanted. " + words):
        require_classifier(model, PATH)


@pytest.mark.parametrize(
    ("of_input", "words"),
    [
        ({"batch_size": 4}, "Received: batch 4, input float32"),
        ({"dtype": "uint8"}, "Received: batch free, input uint8"),
    ],
)
def test_require_classifier_refuses_a_fixed_batch_and_integers(of_input: dict[str, Any], words: str) -> None:
    layers = import_keras().layers
    model = _model(lambda images: _dense_head(layers.Rescaling(1 / 255)(images)), **of_input)
    with pytest.raises(InputError, match=f"a float32 input with a free batch is wanted. {words}"):
        require_classifier(model, PATH)


def test_require_classifier_refuses_two_inputs() -> None:
    keras = import_keras()
    one, two = keras.Input(SHAPE), keras.Input(SHAPE)
    model = keras.Model([one, two], _dense_head(keras.layers.Add()([one, two])))
    with pytest.raises(InputError, match=r"one input is wanted. Received: 2 inputs"):
        require_classifier(model, PATH)


def _map(images: Any) -> Any:
    return import_keras().layers.Conv2D(2, 3, name="map")(images)


@pytest.mark.parametrize(
    ("outputs_of", "words"),
    [
        (_map, r"Received: \(None, 30, 30, 2\)\. Put the output that classifies first"),
        (lambda x: [_map(x), _dense_head(x)], r"Received: \(None, 30, 30, 2\), \(None, 5\)\. Put the output"),
        (lambda x: _dense_head(x, 1), r"at least 2 classes is wanted. Received: \(None, 1\)"),
        (
            lambda x: {"main": _dense_head(x), "aux": _dense_head(x)},
            r"the classifying one first\. Received: a dict of main, aux, which Keras orders by its keys",
        ),
        (
            lambda x: [_dense_head(x), import_keras().ops.sum(x)],
            r"a row for each picture and a fixed shape are wanted. Received: \(\)",
        ),
    ],
)
def test_require_classifier_refuses_outputs_whose_first_does_not_classify(
    outputs_of: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        require_classifier(_model(outputs_of), PATH)


@pytest.mark.parametrize(
    "outputs_of",
    [
        lambda x: [_dense_head(x), _map(x)],
        lambda x: {"main": _dense_head(x)},
        lambda x: [_dense_head(x), {"b": _map(x), "a": x}],
    ],
)
def test_require_classifier_takes_more_outputs_behind_the_first(outputs_of: Callable[[Any], Any]) -> None:
    require_classifier(_model(outputs_of), PATH)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16", "bfloat16", "float64"])
@pytest.mark.parametrize("nested", [False, True])
def test_require_classifier_refuses_one_layer_in_another_precision(policy: str, nested: bool) -> None:
    keras = import_keras()
    layer = keras.layers.Dense(5, dtype=policy, name="odd")
    stack = [keras.layers.GlobalAveragePooling2D(), layer, keras.layers.Dense(5)]
    inner = keras.Sequential([keras.Input(SHAPE), *stack])
    model = keras.Sequential([keras.Input(SHAPE), inner]) if nested else inner
    with pytest.raises(
        InputError, match=f"float32 layers are wanted. Received: 'odd' of the policy {policy}"
    ):
        require_classifier(model, PATH)


def test_require_classifier_refuses_half_precision_throughout() -> None:
    keras = import_keras()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = _model(_dense_head)
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(InputError, match=r"of the policy mixed_float16. Rebuild the model with keras.config"):
        require_classifier(model, PATH)


def test_require_classifier_refuses_what_keras_has_quantized() -> None:
    model = _model(lambda images: _dense_head(images, name="small"))
    model.quantize("int8")
    with pytest.raises(
        InputError, match=r"'small', quantized by Keras \(int8_from_float32\). Save the model before"
    ):
        require_classifier(model, PATH)


def test_require_classifier_refuses_a_name_that_no_graph_can_have() -> None:
    with pytest.raises(InputError, match="since TensorFlow takes no others. Received: 'my head'"):
        require_classifier(_model(lambda images: _dense_head(images, name="my head")), PATH)


def test_require_finite_counts_in_pieces_and_names_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_classifier, "_PIECE", 7)
    model = _model(lambda images: _dense_head(images, name="head"))
    require_finite(model, PATH)
    kernel, bias = model.get_layer("head").get_weights()
    kernel[0, 0], kernel[-1, -1], kernel[5, 2] = np.nan, np.inf, -np.inf
    model.get_layer("head").set_weights([kernel, bias])
    with pytest.raises(
        InputError, match=r"Received: NaN or infinity in 1 of them, 3 times in \S*head/kernel\. Give"
    ):
        require_finite(model, PATH)
    model.get_layer("head").set_weights([kernel, np.full_like(bias, np.nan)])
    with pytest.raises(InputError, match=r"NaN or infinity in 2 of them, 3 times in \S*head/kernel"):
        require_finite(model, PATH)
