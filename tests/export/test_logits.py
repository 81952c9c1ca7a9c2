from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.manifest import Activation
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
