"""VGG16, configuration D of Simonyan & Zisserman 2014 (arXiv 1409.1556, table 1), from one table."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras

_KERNEL_SIDE = 3
_COLOURS = 3


class Style(str, Enum):
    """Which of Keras' two ways describes the network. The network is the same."""

    SEQUENTIAL = "sequential"
    FUNCTIONAL = "functional"


class Kernels(str, Enum):
    """What fills the kernels of a network that was just built."""

    HE_NORMAL = "he_normal"  # He et al. 2015, arXiv 1502.01852
    UNWRITTEN = "unwritten"  # quick and lean, where other values follow


@dataclass(frozen=True)
class Block:
    """3×3 convolutions of one width, followed by a 2×2 maximum pooling."""

    convolutions: int
    channels: int


CONFIGURATION_D = (Block(2, 64), Block(2, 128), Block(3, 256), Block(3, 512), Block(3, 512))


@dataclass(frozen=True)
class Architecture:
    """A network of configuration D's form.

    Attributes:
        name: As given to `edgepress export`.
        side_pixels: Height and width of the input.
        blocks: Convolutional part.
        dense: Widths of the hidden dense layers.
        classes: Width of the output.
    """

    name: str
    side_pixels: int
    blocks: tuple[Block, ...]
    dense: tuple[int, ...]
    classes: int

    @property
    def convolution_parameters(self) -> int:
        """Weights and biases of all convolutions: 14,714,688 for VGG16."""
        total, inputs = 0, _COLOURS
        for block in self.blocks:
            for _ in range(block.convolutions):
                total += (_KERNEL_SIDE**2 * inputs + 1) * block.channels
                inputs = block.channels
        return total

    @property
    def dense_parameters(self) -> int:
        """Weights and biases of all dense layers: 123,642,856 for VGG16."""
        total = 0
        inputs = (self.side_pixels >> len(self.blocks)) ** 2 * self.blocks[-1].channels
        for outputs in (*self.dense, self.classes):
            total += (inputs + 1) * outputs
            inputs = outputs
        return total

    @property
    def parameters(self) -> int:
        """All weights and biases: 138,357,544 for VGG16."""
        return self.convolution_parameters + self.dense_parameters


VGG16 = Architecture("vgg16", 224, CONFIGURATION_D, dense=(4096, 4096), classes=1000)
VGG16_DIGITS = Architecture(
    "vgg16-digits",
    32,
    tuple(replace(block, channels=block.channels // 4) for block in CONFIGURATION_D),
    dense=(128, 128),
    classes=10,
)


def build(architecture: Architecture, style: Style, kernels: Kernels = Kernels.HE_NORMAL) -> "keras.Model":
    """The network with zero biases, its layers named as in keras.applications.

    Input `images` (N, side, side, 3) float32, output (N, classes) float32 probabilities.
    """
    keras = import_keras()
    shape = (architecture.side_pixels, architecture.side_pixels, _COLOURS)
    images = keras.Input(shape, name="images")
    if style is Style.SEQUENTIAL:
        return _settled(keras.Sequential([images, *_layers(architecture, kernels)], name=architecture.name))
    values = images
    for layer in _layers(architecture, kernels):
        values = layer(values)
    return _settled(keras.Model(images, values, name=architecture.name))


def _settled(model: "keras.Model") -> "keras.Model":
    """The model, which knows nothing of `Kernels.UNWRITTEN`, so that it can be saved for others."""
    from edgepress.models.keras_memory import unwritten_zeros_class

    keras = import_keras()
    for layer in model.layers:
        if isinstance(getattr(layer, "kernel_initializer", None), unwritten_zeros_class()):
            layer.kernel_initializer = keras.initializers.Zeros()
    return model


def build_convolutions(architecture: Architecture) -> "keras.Model":
    """The convolutional part alone: (N, side, side, 3) float32 → the last pooling, (N, h, w, channels)."""
    keras = import_keras()
    images = keras.Input((architecture.side_pixels, architecture.side_pixels, _COLOURS), name="images")
    values = images
    for layer in _convolutional_layers(architecture, Kernels.HE_NORMAL):
        values = layer(values)
    return keras.Model(images, values, name=f"{architecture.name}-convolutions")


def _convolutional_layers(architecture: Architecture, kernels: Kernels) -> Iterator["keras.layers.Layer"]:
    layers = import_keras().layers
    for number, block in enumerate(architecture.blocks, start=1):
        for position in range(1, block.convolutions + 1):
            yield layers.Conv2D(
                block.channels,
                _KERNEL_SIDE,
                padding="same",
                activation="relu",
                kernel_initializer=_initializer(kernels),
                name=f"block{number}_conv{position}",
            )
        yield layers.MaxPooling2D(name=f"block{number}_pool")


def _layers(architecture: Architecture, kernels: Kernels) -> Iterator["keras.layers.Layer"]:
    layers = import_keras().layers
    yield from _convolutional_layers(architecture, kernels)
    yield layers.Flatten(name="flatten")
    for number, width in enumerate(architecture.dense, start=1):
        yield layers.Dense(
            width, activation="relu", kernel_initializer=_initializer(kernels), name=f"fc{number}"
        )
    scores = "glorot_uniform" if kernels is Kernels.HE_NORMAL else _initializer(kernels)
    yield layers.Dense(
        architecture.classes, activation="softmax", kernel_initializer=scores, name="predictions"
    )


def _initializer(kernels: Kernels) -> Any:
    from edgepress.models.keras_memory import (
        unwritten_zeros_class,  # the command line reads `Style` without numpy
    )

    return unwritten_zeros_class()() if kernels is Kernels.UNWRITTEN else kernels.value
