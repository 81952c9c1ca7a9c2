"""The networks of a training: convolutions that are there, a head that is new, and both as one classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.errors import InputError, unknown_choice
from edgepress.models.digits import PREPROCESSING as DIGITS_PREPROCESSING
from edgepress.models.digits import TrainingSettings, trained_digits
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS, Architecture, Style, build_convolutions
from edgepress.models.weights import IMAGENET, RANDOM, draw_random, load_convolutions, load_imagenet
from edgepress.preprocessing import Preprocessing, PreprocessMode
from train.pooling import Pooling

if TYPE_CHECKING:
    import keras

TRAINED = "trained"
ARCHITECTURES = {architecture.name: architecture for architecture in (VGG16, VGG16_DIGITS)}


@dataclass(frozen=True)
class Head:
    """The layers that are trained from scratch.

    Attributes:
        pooling: Before them.
        hidden: Width of a dense layer with ReLU; 0 for none.
        dropout: Share in [0, 1) of its outputs that is dropped while training.
    """

    pooling: Pooling = Pooling.AVERAGE
    hidden: int = 256
    dropout: float = 0.5


@dataclass(frozen=True)
class Networks:
    """Three views of the same layers.

    Attributes:
        convolutions: Pictures → feature vectors, pooled.
        head: Feature vectors → probabilities.
        classifier: Pictures → probabilities.
    """

    convolutions: "keras.Model"
    head: "keras.Model"
    classifier: "keras.Model"


def architecture_named(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        InputError: There is none.
    """
    if name not in ARCHITECTURES:
        raise unknown_choice("model", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def preprocessing_of(architecture: Architecture) -> Preprocessing:
    """What the convolutions of an architecture were trained on."""
    if architecture is VGG16_DIGITS:
        return DIGITS_PREPROCESSING
    return Preprocessing(PreprocessMode.CAFFE, architecture.side_pixels, architecture.side_pixels)


def build_networks(
    architecture: Architecture, weights: str, head: Head, classes: int, seed: int, cache: Path
) -> Networks:
    """Convolutions with their weights, under a new head.

    Args:
        architecture: Whose convolutions.
        weights: "imagenet", "random", "trained" (for the embedded digits network) or a file.
        head: What comes after them.
        classes: Width of the output.
        seed: Of the new weights.
        cache: Folder for the trained weights of the digits network.

    Raises:
        InputError: Weights that are not there or do not fit.
    """
    keras = import_keras()
    base = build_convolutions(architecture)
    _fill(base, architecture, weights, seed, cache)
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    pool = {
        Pooling.AVERAGE: layers.GlobalAveragePooling2D,
        Pooling.MAX: layers.GlobalMaxPooling2D,
        Pooling.FLATTEN: layers.Flatten,
    }[head.pooling](name="flatten" if head.pooling is Pooling.FLATTEN else "pool")
    images = base.inputs[0]
    features = pool(base.outputs[0])
    stack = []
    if head.hidden:
        stack.append(layers.Dense(head.hidden, "relu", kernel_initializer="he_normal", name="fc1"))
    if head.dropout:
        stack.append(layers.Dropout(head.dropout, seed=seed, name="dropout"))
    stack.append(layers.Dense(classes, "softmax", name="predictions"))
    vectors = keras.Input(features.shape[1:], name="features")
    from_vectors, from_images = vectors, features
    for layer in stack:
        from_vectors, from_images = layer(from_vectors), layer(from_images)
    return Networks(
        keras.Model(images, features),
        keras.Model(vectors, from_vectors),
        keras.Model(images, from_images, name=architecture.name),
    )


def _fill(base: "keras.Model", architecture: Architecture, weights: str, seed: int, cache: Path) -> None:
    if weights == RANDOM:
        draw_random(base, seed)
    elif weights == IMAGENET:
        if architecture is not VGG16:
            raise InputError(
                f"There are no imagenet weights for {architecture.name}. Leave --weights out, or pass a FILE "
                "or random."
            )
        load_imagenet(base, include_top=False)
    elif weights == TRAINED:
        trained = trained_digits(Style.FUNCTIONAL, TrainingSettings(), cache).model
        for layer in base.layers:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    else:
        load_convolutions(base, Path(weights))


def freeze(networks: Networks, architecture: Architecture, trainable_blocks: int) -> None:
    """Leave only the last `trainable_blocks` blocks of the convolutions, and the head, to be trained."""
    first = len(architecture.blocks) - trainable_blocks + 1
    for layer in networks.convolutions.layers:
        if layer.name.startswith("block"):
            layer.trainable = int(layer.name[len("block") :].partition("_")[0]) >= first
