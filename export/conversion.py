"""What is converted, and the network as a function of its own weights.

The converters copy a graph many times, weights and all. So they get the architecture alone, the kernels being
inputs of the function; the kernels are read where the file is written, one at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.interface import PLAIN, Activation, Interface, Pixels, Scores
from edgepress.models.keras_import import import_keras
from edgepress.models.keras_memory import view_of
from edgepress.preprocessing import Preprocessing
from export.batch_normalization import without_batch_normalization
from export.further_outputs import further_names

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
ReadWeight = Callable[[], Array]
"""Gives a weight's value: a view where that is possible, never a copy that outlives its use."""

Write = Callable[[Path], None]
"""Writes the file. What can be refused has been refused before."""

IMAGES = "images"
WEIGHT = "weight_{}"


@dataclass(frozen=True)
class Conversion:
    """What is converted, and into which form.

    Attributes:
        network: Its first output is (N, classes) logits; others stay as they are. Unchanged by a conversion.
        interface: Of the file.
        activation: From logits to probabilities; used where the file gives probabilities.
        preprocessing: Used where the file takes RGB pixels.
        opset: Of ONNX.
    """

    network: "keras.Model"
    interface: Interface = PLAIN
    activation: Activation = Activation.NONE
    preprocessing: Preprocessing | None = None
    opset: int = 17

    def __post_init__(self) -> None:
        """Refuse probabilities of a network that has none, and outputs whose names a file cannot have."""
        self.output_names  # noqa: B018 # refuses
        if self.interface.scores is Scores.PROBABILITIES and self.activation is Activation.NONE:
            raise InputError(
                f"{self.network.name} ends without softmax or sigmoid, so it has no probabilities to give. "
                "Leave --scores out, or save the model with its last activation."
            )

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Of the file: the head is called after its scores, others as Keras calls their layers.

        They stay, even if a converter gives layers other names for a while.
        """
        return (self.interface.scores.value, *further_names(self.network))


@dataclass(frozen=True)
class WeightedFunction:
    """A network whose kernels (rank ≥ 2) are inputs; vectors (biases, statistics) are constants in it.

    Attributes:
        call: A `tf.function` of (images NHWC, *kernels), giving {output name: values}.
        signature: `tf.TensorSpec`s of its inputs, named `images`, `weight_0`, ….
        weights: Reads each kernel by its input's name.
        outputs: Names of the outputs, the head first.
        network: Whose layers it calls, batch normalization folded.
        folded: See `export.batch_normalization.Folded`.
    """

    call: Any
    signature: tuple[Any, ...]
    weights: Mapping[str, ReadWeight]
    outputs: tuple[str, ...]
    network: "keras.Model"
    folded: Mapping[str, str]


def weighted_function(
    conversion: Conversion, can_be_input: Callable[["keras.Variable"], bool] | None = None
) -> WeightedFunction:
    """The network of a conversion as a function of its kernels, batch normalization folded into them.

    Args:
        conversion: What is converted.
        can_be_input: Which variables of rank ≥ 2 are inputs (all, by default); the rest are constants.
    """
    import tensorflow as tf

    folded = without_batch_normalization(conversion.network)
    network = folded.network
    position = {id(variable): i for i, variable in enumerate(network.variables)}
    reads = [reader(variable) for variable in network.variables]
    for variable, read in folded.changed:
        reads[position[id(variable)]] = read
    large = [
        i
        for i, variable in enumerate(network.variables)
        if len(variable.shape) > 1 and (can_be_input is None or can_be_input(variable))
    ]
    vectors = {i: read() for i, read in enumerate(reads) if i not in large}
    trainable = [position[id(variable)] for variable in network.trainable_variables]
    fixed = [position[id(variable)] for variable in network.non_trainable_variables]

    def call(images: Any, *kernels: Any) -> dict[str, Any]:
        given = {i: tf.constant(vector) for i, vector in vectors.items()}
        for i, kernel in zip(large, kernels, strict=True):
            kernel.set_shape(network.variables[i].shape)  # which Keras checks
            given[i] = kernel
        outputs, _ = network.stateless_call(
            [given[i] for i in trainable],
            [given[i] for i in fixed],
            preprocessed(conversion, images),
            training=False,
        )
        return named_outputs(conversion, outputs)

    kernels = [
        tf.TensorSpec(_shape_for_tracing(network.variables[i]), tf.float32, name=WEIGHT.format(i))
        for i in large
    ]
    signature = (images_spec(conversion), *kernels)
    return WeightedFunction(
        tf.function(call, input_signature=signature, autograph=False),
        signature,
        {WEIGHT.format(i): reads[i] for i in large},
        conversion.output_names,
        network,
        folded.names,
    )


def _shape_for_tracing(kernel: "keras.Variable") -> tuple[int | None, ...]:
    """A matrix leaves its rows open.

    TensorFlow's graph optimizer makes a tensor of zeros for each input of known shape (a dimension that is
    open counts as 1), and dense layers hold nine tenths of VGG16.
    """
    shape = tuple(kernel.shape)
    return (None, *shape[1:]) if len(shape) == 2 else shape


def images_spec(conversion: Conversion) -> Any:
    """`tf.TensorSpec` of the pictures, NHWC whatever the file's layout will be."""
    import tensorflow as tf

    interface = conversion.interface
    shape = [interface.batch, *conversion.network.inputs[0].shape[1:]]
    return tf.TensorSpec(shape, tf.as_dtype(interface.dtype), name=IMAGES)


def named_outputs(conversion: Conversion, outputs: Any) -> dict[str, Any]:
    """A network's outputs by the names of the file, the head as logits or probabilities."""
    import tensorflow as tf

    head, *others = import_keras().tree.flatten(outputs)
    if conversion.interface.scores is Scores.PROBABILITIES:
        head = tf.nn.softmax(head) if conversion.activation is Activation.SOFTMAX else tf.sigmoid(head)
    return {
        name: tf.identity(value, name=name)
        for name, value in zip(conversion.output_names, (head, *others), strict=True)
    }


def preprocessed(conversion: Conversion, images: Any) -> Any:
    """TensorFlow's operations that bring the file's pictures into the form that the network takes."""
    import tensorflow as tf

    if conversion.interface.pixels is Pixels.PREPROCESSED:
        return images
    if conversion.preprocessing is None:
        raise ValueError("RGB pixels need a preprocessing")
    found = conversion.preprocessing.affine
    values = tf.cast(images, tf.float32)
    if found.scale != (1.0, 1.0, 1.0):
        values *= np.asarray(found.scale, np.float32)
    if found.offset != (0.0, 0.0, 0.0):
        values += np.asarray(found.offset, np.float32)
    return tf.gather(values, [2, 1, 0], axis=-1) if found.reverses_channels else values


def reader(variable: "keras.Variable") -> ReadWeight:
    """Reads a Keras variable as a view, without a copy."""
    return lambda: view_of(variable)
