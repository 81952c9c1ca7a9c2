"""What export costs, beside the converters that it stands on, each in a fresh process."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from edgepress.models.vgg16 import VGG16, Architecture, Block, Kernels, Style, build
from edgepress.models.weights import draw_random
from tests.performance.whole_process import Cost, cost_of

VGG16_AT_32 = replace(VGG16, name="vgg16-32px", side_pixels=32)
"""37.7 M parameters: a VGG16 that `tf2onnx.convert.from_keras` can finish, in 10 GB."""
VGG19 = replace(
    VGG16,
    name="vgg19",
    blocks=tuple(
        replace(block, convolutions=n) for block, n in zip(VGG16.blocks, (2, 2, 4, 4, 4), strict=True)
    ),
)


class Form(Enum):
    """What `edgepress export --format` is given."""

    SAVED_MODEL = ("saved_model",)
    ONNX = ("onnx",)
    TFLITE = ("tflite",)
    ALL = ("saved_model", "onnx", "tflite")


class Alternative(Enum):
    """What a reader would write, with no edgepress in it. It gets a .keras file and the file to write."""

    FROM_KERAS = """
import sys, keras, tf2onnx
model = keras.saving.load_model(sys.argv[1], compile=False)
model.output_names = ["output"]  # tf2onnx 1.17 asks a Sequential of Keras 3 for it
import tensorflow as tf
signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32, name="images")]
tf2onnx.convert.from_keras(model, signature, opset=17, output_path=sys.argv[2])
"""
    TFLITE_FP32 = """
import sys, keras
import tensorflow as tf
model = keras.saving.load_model(sys.argv[1], compile=False)
open(sys.argv[2], "wb").write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
"""
    TFLITE_FP16 = """
import sys, keras
import tensorflow as tf
model = keras.saving.load_model(sys.argv[1], compile=False)
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.target_spec.supported_types = [tf.float16]
open(sys.argv[2], "wb").write(converter.convert())
"""
    TFLITE_DYNAMIC = """
import sys, keras
import tensorflow as tf
model = keras.saving.load_model(sys.argv[1], compile=False)
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
open(sys.argv[2], "wb").write(converter.convert())
"""


@dataclass(frozen=True)
class Model:
    """A `.keras` file with random weights.

    Attributes:
        path: Of the file.
        weights_bytes: In FP32.
    """

    path: Path
    weights_bytes: int


def scaled(width: float) -> Architecture:
    """VGG16 with every layer but the last a fraction as wide."""
    blocks = tuple(Block(b.convolutions, int(b.channels * width)) for b in VGG16.blocks)
    dense = tuple(int(units * width) for units in VGG16.dense)
    return replace(VGG16, name=f"vgg16-{width}", blocks=blocks, dense=dense)


def saved(architecture: Architecture, folder: Path) -> Model:
    """Build a network and save it."""
    model = build(architecture, Style.FUNCTIONAL, Kernels.UNWRITTEN)
    draw_random(model, 0)
    path = folder / f"{architecture.name}.keras"
    model.save(path)
    return Model(path, 4 * architecture.parameters)


def export_cost(source: Path | str, form: Form, folder: Path, *more: str) -> Cost:
    """`edgepress export` into `folder`/out, made anew; its one-picture proof included."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    arguments: Sequence[str | Path] = (
        *("-m", "edgepress.cli", "export", source, "--out", folder / "out"),
        *("--format", *form.value, *more),
    )
    return cost_of(arguments, folder)


def optimize_cost(recipe: str, folder: Path) -> Cost:
    """`edgepress optimize` of what the last `export_cost` left, with its proof."""
    out = folder / "optimized"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "out", out)
    return cost_of(("-m", "edgepress.cli", "optimize", out, "--recipe", recipe), folder)


def floor_cost(folder: Path) -> Cost:
    """What any of them spends before it begins."""
    return cost_of(("-c", "import keras"), folder)


def alternative_cost(alternative: Alternative, model: Model, folder: Path) -> Cost:
    """The converter alone: nothing is proven."""
    return cost_of(("-c", alternative.value, model.path, folder / "alternative"), folder)


def slope(points: Sequence[tuple[int, int]]) -> float:
    """Least-squares slope of y over x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)
