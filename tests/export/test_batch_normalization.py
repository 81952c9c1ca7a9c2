"""Folding on the layers: the same logits with fewer layers, and nothing folded that is not ours to fold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgepress.models.keras_import import import_keras
from edgepress.models.keras_memory import view_of
from export.batch_normalization import Folded, without_batch_normalization

Network = Any
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


def _layers() -> Any:
    return import_keras().layers


def _randomised(model: Network) -> Network:
    """Weights and statistics as after training: nothing is 0 or 1."""
    generator = np.random.default_rng(1)
    for variable in model.variables:
        low, high = (0.5, 2) if "variance" in variable.name or variable.name == "gamma" else (-0.6, 0.6)
        variable.assign(generator.uniform(low, high, variable.shape))
    return model


def _of(*layers: Any) -> Network:
    keras = import_keras()
    return _randomised(keras.Sequential([keras.Input((8, 8, 3)), *layers]))


def _run(folded: Folded) -> Any:
    """The folded network with its changed variables put in, as the converters do it."""
    network = folded.network
    changed = {id(variable): read() for variable, read in folded.changed}
    values = [changed.get(id(v), view_of(v)) for v in network.variables]
    position = {id(v): i for i, v in enumerate(network.variables)}
    trainable = [values[position[id(v)]] for v in network.trainable_variables]
    others = [values[position[id(v)]] for v in network.non_trainable_variables]
    return _computed(lambda: network.stateless_call(trainable, others, IMAGES, training=False)[0])


def _outputs_of(model: Network) -> Any:
    return _computed(lambda: model(IMAGES, training=False))


def _computed(values: Callable[[], Any]) -> Any:
    """Values in a flat list, computed by XLA: TensorFlow itself has channels first only on some CPUs."""
    import tensorflow as tf

    return import_keras().tree.flatten(tf.function(values, jit_compile=True)())


def _normalizations(network: Network) -> int:
    kind = _layers().BatchNormalization
    flat = network._flatten_layers(include_self=False)
    return sum(type(layer) is kind for layer in flat)


FOLDABLE: dict[str, Callable[[], list[Any]]] = {
    "convolution": lambda: [_layers().Conv2D(5, 3), _layers().BatchNormalization()],
    "convolution without bias": lambda: [
        _layers().Conv2D(5, 3, use_bias=False),
        _layers().BatchNormalization(),
    ],
    "no scale": lambda: [_layers().Conv2D(5, 3), _layers().BatchNormalization(scale=False)],
    "no offset": lambda: [_layers().Conv2D(5, 3), _layers().BatchNormalization(center=False)],
    "depthwise, two kernels a channel": lambda: [
        _layers().DepthwiseConv2D(3, depth_multiplier=2),
        _layers().BatchNormalization(),
    ],
    "depthwise without bias": lambda: [
        _layers().DepthwiseConv2D(3, use_bias=False),
        _layers().BatchNormalization(epsilon=0.1),
    ],
    "separable": lambda: [_layers().SeparableConv2D(5, 3), _layers().BatchNormalization()],
    "grouped": lambda: [_layers().Conv2D(6, 3, groups=3), _layers().BatchNormalization()],
    "dense": lambda: [_layers().Flatten(), _layers().Dense(5), _layers().BatchNormalization()],
    "dense over an image": lambda: [_layers().Dense(5, use_bias=False), _layers().BatchNormalization(axis=3)],
    "transposed": lambda: [_layers().Conv2DTranspose(5, 3, strides=2), _layers().BatchNormalization()],
    "two in a row": lambda: [
        *(_layers().Conv2D(5, 3), _layers().BatchNormalization(), _layers().ReLU()),
        *(_layers().Conv2D(4, 3, use_bias=False), _layers().BatchNormalization()),
    ],
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_without_batch_normalization_keeps_the_outputs(name: str) -> None:
    model = _of(*FOLDABLE[name]())
    before = [view_of(v).copy() for v in model.variables]
    (found,) = _run(without_batch_normalization(model))
    np.testing.assert_allclose(found, model(IMAGES, training=False), rtol=2e-5, atol=2e-5)
    assert _normalizations(without_batch_normalization(model).network) == 0
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(view_of(variable), value)


def _shared_convolution() -> Network:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    shared = _layers().Conv2D(3, 3, padding="same")
    return keras.Model(images, _layers().BatchNormalization()(shared(shared(images))))


def _used_twice() -> Network:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    values = _layers().Conv2D(3, 3)(images)
    return keras.Model(images, _layers().Add()([_layers().BatchNormalization()(values), values]))


def _an_output_itself() -> Network:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    values = _layers().Conv2D(3, 3)(images)
    return keras.Model(images, [_layers().BatchNormalization()(values), values])


def _shared_normalization() -> Network:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    one, other = (_layers().Conv2D(3, 3)(images) for _ in range(2))
    shared = _layers().BatchNormalization()
    return keras.Model(images, _layers().Add()([shared(one), shared(other)]))


def _shared_by_two_models(only_outside: bool) -> Network:
    """A convolution with its normalization in one model, and without it in another place."""
    keras = import_keras()
    images, outer = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    convolution = _layers().Conv2D(4, 3)
    values = convolution(images)
    base = keras.Model(images, _layers().BatchNormalization()(values), name="base")
    other = convolution if only_outside else keras.Model(images, values, name="other")
    return keras.Model(outer, _layers().Add()([base(outer), other(outer)]))


def _normalization_of_two_models() -> Network:
    keras = import_keras()
    images, outer = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = _layers().BatchNormalization()
    base = keras.Model(images, shared(_layers().Conv2D(3, 3)(images)), name="base")
    return keras.Model(outer, shared(_layers().ReLU()(base(outer))))


def _channels_first(filters: int) -> Network:
    """Normalized over columns, of which there are 6."""
    layers = _layers()
    convolution = layers.Conv2D(filters, 3, data_format="channels_first")
    return _of(layers.Permute((3, 1, 2)), convolution, layers.BatchNormalization())


KEPT: dict[str, Callable[[], Network]] = {
    "at the input": lambda: _of(_layers().BatchNormalization(), _layers().Conv2D(4, 3)),
    "behind an activation": lambda: _of(
        _layers().Conv2D(4, 3, activation="relu"), _layers().BatchNormalization()
    ),
    "behind a pooling": lambda: _of(
        _layers().Conv2D(4, 3), _layers().MaxPooling2D(), _layers().BatchNormalization()
    ),
    "over rows": lambda: _of(_layers().Conv2D(6, 3), _layers().BatchNormalization(axis=1)),
    "a shared convolution": _shared_convolution,
    "a convolution with another reader": _used_twice,
    "a convolution that is an output itself": _an_output_itself,
    "a shared normalization": _shared_normalization,
    "a convolution of two nested models": lambda: _shared_by_two_models(only_outside=False),
    "a convolution of a nested model, called outside": lambda: _shared_by_two_models(only_outside=True),
    "a normalization of two models": _normalization_of_two_models,
    "over columns, behind channels first": lambda: _channels_first(5),
    "over columns, behind as many channels": lambda: _channels_first(6),
    "behind low-rank weights": lambda: _of(
        _layers().Conv2D(4, 3, lora_rank=2), _layers().BatchNormalization()
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_without_batch_normalization_leaves_what_it_must_not_fold(name: str) -> None:
    model = _randomised(KEPT[name]())
    folded = without_batch_normalization(model)
    assert _normalizations(folded.network) == _normalizations(model) == 1
    for found, value in zip(_run(folded), _outputs_of(model), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)


def test_without_batch_normalization_looks_into_nested_models_and_folds_only_what_it_can() -> None:
    keras = import_keras()
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), _layers().Conv2D(5, 3), _layers().BatchNormalization()], name="inner"
    )
    images = keras.Input((8, 8, 3))
    values = _layers().ReLU()(_layers().BatchNormalization()(_layers().Conv2D(4, 3)(images)))
    values = _layers().BatchNormalization(name="kept")(inner(values) * 2.0)
    model = _randomised(keras.Model(images, values))
    folded = without_batch_normalization(model)
    (found,) = _run(folded)
    np.testing.assert_allclose(found, model(IMAGES, training=False), rtol=2e-5, atol=2e-5)
    assert _normalizations(folded.network) == 1
    assert _normalizations(model) == 3
