"""From a Keras classifier to the network that gives its logits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError
from edgepress.interface import Activation
from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LogitsModel:
    """A classifier without its final activation.

    Attributes:
        network: Gives (N, classes) logits as its first output; others are the classifier's. Shares its layers
            with the classifier, except for the one that gives the scores.
        activation: What was left out.
    """

    network: "keras.Model"
    activation: Activation


def logits_model(classifier: "keras.Model") -> LogitsModel:
    """Leave out the softmax or sigmoid of the first output: an argument of its layer, or one of its own.

    Works for Sequential, Functional and nested models. The classifier stays as it is; its layers and
    their weights are shared, and only the last layer is made anew with a copy of its weights.

    Raises:
        InputError: The first output comes from a bare operation (`keras.ops.softmax`) instead of a layer, or
            another output is computed from its probabilities.
    """
    keras = import_keras()
    last = _last_layer(classifier)
    activation = _activation_of(last)
    if activation is Activation.NONE:
        return LogitsModel(classifier, activation)
    _require_sole_use(classifier)
    bare = _without_activation(last)

    network = keras.models.clone_model(
        classifier, clone_function=lambda layer: bare if layer is last else layer, recursive=True
    )
    bare.set_weights(last.get_weights())
    return LogitsModel(network, activation)


def _last_layer(model: "keras.Model", index: int = 0) -> "keras.layers.Layer":
    """The layer that makes an output, looked up inside nested models."""
    keras = import_keras()
    # The only record of which layer made a tensor; Keras' own cloning reads it as well.
    history = model.outputs[index]._keras_history
    last = history.operation
    if isinstance(last, keras.Model):
        return _last_layer(last, history.tensor_index)
    if not isinstance(last, keras.Layer):
        raise InputError(
            f"The model ends in the bare operation {type(last).__name__}, and a layer was wanted. End it in "
            "a Dense, Activation or Softmax layer and save it again."
        )
    return last


def _require_sole_use(model: "keras.Model", index: int = 0) -> None:
    """Check that nothing else would change with an output: its layer is called once, and feeds nothing."""
    keras = import_keras()
    functional = getattr(model, "_functional", None) or model
    head = functional.outputs[index]
    history = head._keras_history
    last = history.operation
    # Keras keeps who feeds whom in private nodes; its own cloning walks the same ones.
    nodes = [node for depth in functional._nodes_by_depth.values() for node in depth]
    calls = sum(node.operation is last for node in nodes)
    uses = [*functional.outputs, *(tensor for node in nodes for tensor in node.input_tensors)]
    if calls > 1 or sum(tensor is head for tensor in uses) > 1:
        raise InputError(
            f"The layer {last.name!r} gives the scores of the classes, whose activation is left out, and "
            "another output or layer uses it, too. Give the first output a layer of its own, and save again."
        )
    if isinstance(last, keras.Model):
        _require_sole_use(last, history.tensor_index)


def _activation_of(layer: "keras.layers.Layer") -> Activation:
    keras = import_keras()
    if isinstance(layer, keras.layers.Softmax):
        return Activation.SOFTMAX
    function = getattr(layer, "activation", None)
    if function is keras.activations.softmax:
        return Activation.SOFTMAX
    if function is keras.activations.sigmoid:
        return Activation.SIGMOID
    return Activation.NONE


def _without_activation(layer: "keras.layers.Layer") -> "keras.layers.Layer":
    keras = import_keras()
    if isinstance(layer, keras.layers.Softmax):

        class Bare(keras.layers.Layer):  # type: ignore[name-defined, misc] # keras has no types
            """Passes its input on; unlike Activation it takes the mask that Softmax is called with."""

            def call(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002
                return inputs

        return Bare(name=layer.name)
    config = {**layer.get_config(), "activation": "linear"}
    initial = {name: "zeros" for name in config if name.endswith("_initializer")}
    return type(layer).from_config({**config, **initial})
