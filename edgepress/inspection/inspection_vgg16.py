"""The layers of VGG16 from its block table: no framework, no file."""

from collections.abc import Iterator

from edgepress.artifact import Precision, TensorSpec
from edgepress.inspection.layer import Inspection, Layer
from edgepress.models.vgg16 import Architecture

_KERNEL_SIDE = 3
_COLOURS = 3


def inspect_architecture(architecture: Architecture) -> Inspection:
    """Layers of a network of configuration D's form, in FP32."""
    side, classes = architecture.side_pixels, architecture.classes
    return Inspection(
        tuple(_layers(architecture)),
        0,
        0,
        (TensorSpec("images", (None, side, side, _COLOURS), "float32"),),
        (TensorSpec("predictions", (None, classes), "float32"),),
    )


def _layers(architecture: Architecture) -> Iterator[Layer]:
    side, inputs = architecture.side_pixels, _COLOURS
    for number, block in enumerate(architecture.blocks, start=1):
        for position in range(1, block.convolutions + 1):
            weights = _KERNEL_SIDE**2 * inputs * block.channels
            name, shape = f"block{number}_conv{position}", (side, side, block.channels)
            yield _layer(name, "Conv2D", weights, weights * side * side, shape)
            inputs = block.channels
        side //= 2
    inputs *= side * side
    names = [f"fc{i}" for i in range(1, len(architecture.dense) + 1)]
    for name, width in zip([*names, "predictions"], [*architecture.dense, architecture.classes], strict=True):
        yield _layer(name, "Dense", inputs * width, inputs * width, (width,))
        inputs = width


def _layer(name: str, kind: str, weights: int, macs: int, shape: tuple[int, ...]) -> Layer:
    fp32, biases = Precision.FP32, shape[-1]
    return Layer(name, weights, macs, fp32, fp32, kind, shape, biases, 4 * (weights + biases))
