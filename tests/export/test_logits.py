from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.interface import Activation
from edgepress.models.keras_import import import_keras
from export.logits import logits_model

Photos = NDArray[np.float32]


def _body() -> list[Any]:
    layers = import_keras().layers
    return [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]


def _sequential(*tail: Any) -> Any:
    keras = import_keras()
    return keras.Sequential([keras.Input((32, 32, 3)), *_body(), *tail])


def _functional(*tail: Any) -> Any:
    keras = import_keras()
    values = images = keras.Input((32, 32, 3))
    for layer in (*_body(), *tail):
        values = layer(values)
    return keras.Model(images, values)


def _nested(*tail: Any) -> Any:
    keras = import_keras()
    images = keras.Input((32, 32, 3))
    return keras.Model(images, _sequential(*tail)(keras.layers.Rescaling(0.5)(images)))


def _softmax(logits: Photos) -> Photos:
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("form", [_sequential, _functional, _nested])
@pytest.mark.parametrize("head", ["argument", "Activation", "Softmax"])
def test_logits_model_leaves_out_the_softmax(
    form: Callable[..., Any], head: str, batch_of_photos: Photos
) -> None:
    layers = import_keras().layers
    tail = {
        "argument": [layers.Dense(5, activation="softmax")],
        "Activation": [layers.Dense(5), layers.Activation("softmax")],
        "Softmax": [layers.Dense(5), layers.Softmax()],
    }[head]
    classifier = form(*tail)
    found = logits_model(classifier)
    assert found.activation is Activation.SOFTMAX
    logits = np.asarray(found.network(batch_of_photos, training=False))
    probabilities = np.asarray(classifier(batch_of_photos, training=False))
    assert np.abs(logits.sum(axis=1) - 1).max() > 0.01
    np.testing.assert_allclose(_softmax(logits), probabilities, atol=1e-6)


def test_logits_model_leaves_out_the_sigmoid(batch_of_photos: Photos) -> None:
    classifier = _sequential(import_keras().layers.Dense(5, activation="sigmoid"))
    found = logits_model(classifier)
    assert found.activation is Activation.SIGMOID
    logits = np.asarray(found.network(batch_of_photos))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), np.asarray(classifier(batch_of_photos)), atol=1e-6)


def test_logits_model_is_the_classifier_when_it_gives_logits_already() -> None:
    classifier = _sequential(import_keras().layers.Dense(5))
    found = logits_model(classifier)
    assert found.activation is Activation.NONE
    assert found.network is classifier


def test_logits_model_shares_all_weights_but_those_of_the_last_layer() -> None:
    classifier = _nested(import_keras().layers.Dense(5, activation="softmax"))
    shared = [
        any(weight is other for other in classifier.weights)
        for weight in logits_model(classifier).network.weights
    ]
    assert shared == [True, True, False, False]


def test_logits_model_refuses_a_bare_operation_at_the_end() -> None:
    keras = import_keras()
    body = _functional(keras.layers.Dense(5))
    classifier = keras.Model(body.input, keras.ops.softmax(body.output))
    with pytest.raises(InputError, match=r"ends in the bare operation Softmax, and a layer was wanted"):
        logits_model(classifier)


def _two_heads() -> Any:
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((32, 32, 3))
    values = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    heads = [layers.Dense(units, activation="softmax")(values) for units in (5, 3)]
    return keras.Model(images, heads)


def test_logits_model_leaves_the_activation_of_other_outputs(batch_of_photos: Photos) -> None:
    classifier = _two_heads()
    found = logits_model(classifier)
    logits, other = (np.asarray(value) for value in found.network(batch_of_photos))
    scores, auxiliary = (np.asarray(value) for value in classifier(batch_of_photos))
    np.testing.assert_allclose(_softmax(logits), scores, atol=1e-6)
    assert np.abs(logits.sum(axis=1) - 1).max() > 0.01
    np.testing.assert_allclose(other, auxiliary, atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
def test_logits_model_finds_the_head_among_the_outputs_of_a_nested_model(
    order: tuple[int, ...], batch_of_photos: Photos
) -> None:
    keras = import_keras()
    inner = _two_heads()
    images = keras.Input((32, 32, 3))
    made = inner(images)
    classifier = keras.Model(images, [made[i] for i in order])
    network = logits_model(classifier).network
    before = keras.tree.flatten(classifier(batch_of_photos))
    logits, *others = (np.asarray(value) for value in keras.tree.flatten(network(batch_of_photos)))
    assert np.abs(logits.sum(axis=1) - 1).max() > 0.01
    np.testing.assert_allclose(_softmax(logits), np.asarray(before[0]), atol=1e-6)
    for value, expected in zip(others, before[1:], strict=True):
        np.testing.assert_allclose(value, np.asarray(expected), atol=1e-6)


def _argmax_of_the_head(images: Any, head: Any) -> list[Any]:
    scores = head(images)
    return [scores, import_keras().ops.max(scores, axis=1)]


def _head_twice(images: Any, head: Any) -> list[Any]:
    return [head(images), head(images * 2)]


def _same_tensor_twice(images: Any, head: Any) -> list[Any]:
    scores = head(images)
    return [scores, scores]


@pytest.mark.parametrize("outputs_of", [_argmax_of_the_head, _head_twice, _same_tensor_twice])
@pytest.mark.parametrize("nested", [False, True])
def test_logits_model_refuses_to_change_another_output(outputs_of: Callable[..., Any], nested: bool) -> None:
    keras = import_keras()
    head = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax", name="top"),
        ]
    )
    if not nested:
        flatten, dense = head.layers

        def head(images: Any) -> Any:
            return dense(flatten(images))

    images = keras.Input((32, 32, 3))
    with pytest.raises(
        InputError, match=r"whose activation is left out, and another output or layer uses it, too"
    ):
        logits_model(keras.Model(images, outputs_of(images, head)))
