"""Batch normalization folded into the layer before it, on the values of the weights.

At inference it is a scale and an offset for each channel (Ioffe & Szegedy 2015, arXiv 1502.03167,
section 3.1). Behind a linear layer both belong to that layer's kernel and bias (Jacob et al. 2018, arXiv
1712.05877, section 3.2). Done on layers, whose meaning is known, it holds for every format in the same way.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
Change = tuple[Any, Callable[[], Array]]
"""A Keras variable and what reads the value that it has in the folded network."""


@dataclass(frozen=True)
class Folded:
    """A network that computes the same with fewer layers, once `changed` is put in.

    Attributes:
        network: Shares its layers with the original one, whose variables keep their values.
        changed: Variables of `network` that have other values there.
        names: Path of each layer folded into ("inner/conv") → path of its normalization, whose output it
            gives.
    """

    network: "keras.Model"
    changed: tuple[Change, ...]
    names: Mapping[str, str]


@dataclass(frozen=True)
class _Pair:
    """A linear layer and the batch normalization that alone takes its output, in the model of a path."""

    linear: Any
    normalization: Any
    scope: str


def without_batch_normalization(network: "keras.Model") -> Folded:
    """Fold each batch normalization that directly follows a convolution or dense layer.

    One that follows something else (a concatenation, say), or a layer that is used twice, has an activation
    of its own, puts channels first or has LoRA weights, stays. The layer in its place has its name, and adds
    what the layer before has no bias for.
    """
    keras = import_keras()
    pairs = {pair.normalization: pair for pair in _pairs(network)}
    if not pairs:
        return Folded(network, (), {})
    changed: list[Change] = []
    places: dict[Any, Any] = {}
    for normalization, pair in pairs.items():
        places[normalization] = _in_place_of(pair, changed)
    clone = keras.models.clone_model(
        network, clone_function=lambda layer: places.get(layer, layer), recursive=True
    )
    for normalization, place in places.items():
        if place.weights:
            _, shift = _scale_and_shift(normalization)
            changed.append((place.weights[0], _known(shift)))
    names = {pair.scope + pair.linear.name: pair.scope + pair.normalization.name for pair in pairs.values()}
    return Folded(clone, tuple(changed), names)


def merged_layers(network: "keras.Model") -> dict[str, str]:
    """Name of each batch normalization that is folded → name of the layer that it is folded into.

    Names inside nested models are "outer/inner".
    """
    return {
        f"{pair.scope}{pair.normalization.name}": f"{pair.scope}{pair.linear.name}"
        for pair in _pairs(network)
    }


def _known(value: Array) -> Callable[[], Array]:
    return lambda: value


def _pairs(network: "keras.Model") -> Iterator[_Pair]:
    """Foldable pairs, those inside nested models included.

    Who calls a layer and who takes its output is counted over all models, since they may share layers.
    """
    graphs = dict(_graphs(network, ""))
    nodes = {id(node): node for graph in graphs for node in _nodes(graph)}.values()
    calls = Counter(id(node.operation) for node in nodes)
    takers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    takers.update(id(tensor) for graph in graphs for tensor in graph.outputs)
    makers = {id(tensor): node.operation for node in nodes for tensor in node.output_tensors}
    kind = import_keras().layers.BatchNormalization
    for graph, (scope, models) in graphs.items():
        if any(calls[id(model)] > 1 for model in models):
            continue
        for node in _nodes(graph):
            layer = node.operation
            if type(layer) is not kind or calls[id(layer)] > 1:
                continue
            source = node.input_tensors[0]
            linear = makers.get(id(source))
            if (
                takers[id(source)] == 1
                and calls[id(linear)] == 1
                and _is_linear(linear)
                and layer.axis in {-1, len(source.shape) - 1}
            ):
                yield _Pair(linear, layer, scope)


def _graphs(model: Any, scope: str, models: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[str, Any]]]:
    """Each Functional model with its scope and the nested models that it is in, itself included."""
    functional = getattr(model, "_functional", None) or model
    yield functional, (scope, models)
    for node in _nodes(functional):
        layer = node.operation
        if isinstance(layer, import_keras().Model):
            yield from _graphs(layer, f"{scope}{layer.name}/", (*models, layer))


def _nodes(functional: Any) -> list[Any]:
    # Keras keeps who feeds whom in private nodes; its own cloning walks the same ones.
    return [node for depth in functional._nodes_by_depth.values() for node in depth]


def _is_linear(layer: Any) -> bool:
    keras = import_keras()
    layers = keras.layers
    kinds = (
        *(layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D),
        *(layers.SeparableConv2D, layers.Dense),
    )
    if type(layer) not in kinds or layer.activation is not keras.activations.linear:
        return False
    channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return channels_last and not getattr(layer, "lora_enabled", False)  # else its kernel is a sum


def _in_place_of(pair: _Pair, changed: list[Change]) -> "keras.layers.Layer":
    """Note the new kernel (and bias) of the linear layer; what is left of the normalization."""
    scale, shift = _scale_and_shift(pair.normalization)
    kernel, by_channel = _kernel_and_scale(pair.linear, scale)
    changed.append((kernel, lambda: _value(kernel) * by_channel))
    name = pair.normalization.name
    if pair.linear.use_bias:
        changed.append((pair.linear.bias, _known(_value(pair.linear.bias) * scale + shift)))
        return _passing_layer(name)
    return _shifting_layer(name)


def _kernel_and_scale(layer: Any, scale: Array) -> tuple[Any, Array]:
    """The kernel, and the scale in the shape that it is multiplied by."""
    layers = import_keras().layers
    if type(layer) is layers.DepthwiseConv2D:
        return layer.kernel, scale.reshape(layer.kernel.shape[-2:])
    if type(layer) is layers.SeparableConv2D:
        return layer.pointwise_kernel, scale
    if type(layer) is layers.Conv2DTranspose:  # (height, width, out, in)
        return layer.kernel, scale[:, np.newaxis]
    return layer.kernel, scale


def _scale_and_shift(layer: Any) -> tuple[Array, Array]:
    """(C,) float32 each: what the normalization multiplies by and adds."""
    mean, variance = _value(layer.moving_mean), _value(layer.moving_variance)
    scale = 1 / np.sqrt(variance.astype(np.float64) + layer.epsilon)
    if layer.scale:
        scale = scale * _value(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _value(layer.beta)
    return scale.astype(np.float32), shift.astype(np.float32)


def _value(variable: Any) -> Array:
    value: Array = np.asarray(variable.value.numpy())
    return value


def _passing_layer(name: str) -> "keras.layers.Layer":
    keras = import_keras()

    class Passing(keras.layers.Layer):  # type: ignore[name-defined, misc] # keras has no types
        """Passes its input on; unlike Identity it takes the mask that a normalization is called with."""

        def call(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002
            return inputs

    return Passing(name=name)


def _shifting_layer(name: str) -> "keras.layers.Layer":
    keras = import_keras()

    class Shift(keras.layers.Layer):  # type: ignore[name-defined, misc] # keras has no types
        """Adds a value to each channel."""

        def build(self, input_shape: Any) -> None:
            self.shift = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="shift")

        def call(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002
            import tensorflow as tf

            return tf.nn.bias_add(inputs, self.shift)

    return Shift(name=name)
