"""From a Keras classifier to the network that gives its logits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError
from edgepress.manifest import Activation
from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class LogitsModel:
    """A classifier without its final activation.

    Attributes:
        network: Gives (N, classes) logits. Shares its layers with the classifier, except for the last.
        activation: What was left out.
    """

    network: "keras.Model"
    activation: Activation


def logits_model(classifier: "keras.Model") -> LogitsModel:
    """Leave out the final softmax or sigmoid: an argument of the last layer, or a layer of its own.

    Works for Sequential, Functional and nested models. The classifier stays as it is; its layers and
    their weights are shared, and only the last layer is made anew with a copy of its weights.

    Raises:
        InputError: The model ends in a bare operation (`keras.ops.softmax`) instead of a layer.
    """
    keras = import_keras()
    last = _last_layer(classifier)
    activation = _activation_of(last)
    if activation is Activation.NONE:
        return LogitsModel(classifier, activation)
    bare = _without_activation(last)

    network = keras.models.clone_model(
        classifier, clone_function=lambda layer: bare if layer is last else layer, recursive=True
    )
    bare.set_weights(last.get_weights())
    return LogitsModel(network, activation)


def _last_layer(model: "keras.Model") -> "keras.layers.Layer":
    """The layer that makes the output, looked up inside nested models."""
    keras = import_keras()
    # The only record of which layer made a tensor; Keras' own cloning reads it as well.
    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.Model):
        return _last_layer(last)
    if not isinstance(last, keras.Layer):
        raise InputError(
            f"The model ends in the bare operation {type(last).__name__}, and a layer was wanted. End it in "
            "a Dense, Activation or Softmax layer and save it again."
        )
    return last


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
    return type(layer).from_config({**layer.get_config(), "activation": "linear"})
