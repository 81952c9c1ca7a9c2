"""The usual layers: each works, in a file that is clean, valid and exact."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress.artifact import Device, Runtime
from edgepress.models.keras_import import import_keras
from edgepress.parity import require_parity
from edgepress.parity.golden_pictures import smooth_picture
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras

SIDE = 12
Build = Callable[[], list[Any]]


def _layer(name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(import_keras().layers, name)(*arguments, **options)


def _conv(**options: Any) -> Any:
    return _layer("Conv2D", 8, 3, **options)


# Behind these comes a dense layer; each network ends flat.
NETWORKS: dict[str, Build] = {
    "separable": lambda: [_layer("SeparableConv2D", 8, 3), _layer("BatchNormalization"), _layer("Flatten")],
    "transposed": lambda: [
        *(_conv(), _layer("Conv2DTranspose", 6, 3, strides=2, padding="same")),
        *(_layer("BatchNormalization"), _layer("Flatten")),
    ],
    "grouped": lambda: [_conv(), _conv(groups=4), _layer("BatchNormalization"), _layer("Flatten")],
    "depthwise": lambda: [
        *(_layer("DepthwiseConv2D", 3, strides=2, depth_multiplier=2, padding="same", use_bias=False),),
        *(_layer("BatchNormalization"), _layer("Flatten")),
    ],
    "dilated": lambda: [_conv(dilation_rate=2, padding="same"), _layer("Flatten")],
    "leaky": lambda: [_conv(), _layer("LeakyReLU", 0.1), _layer("Flatten")],
    "prelu": lambda: [_conv(), _layer("PReLU"), _layer("Flatten")],
    "elu": lambda: [_conv(), _layer("ELU"), _layer("Flatten")],
    "gelu": lambda: [_conv(activation="gelu"), _layer("Flatten")],
    "swish": lambda: [_conv(activation="swish"), _layer("GlobalMaxPooling2D")],
    "hard swish": lambda: [_conv(activation="hard_swish"), _layer("Flatten")],
    "resizing": lambda: [_layer("Resizing", 20, 20), _conv(), _layer("Flatten")],
    "nearest": lambda: [_conv(), _layer("Resizing", 17, 17, interpolation="nearest"), _layer("Flatten")],
    "average": lambda: [_layer("AveragePooling2D", 3, strides=2, padding="same"), _layer("Flatten")],
    "layer normalization": lambda: [_conv(), _layer("LayerNormalization"), _layer("Flatten")],
    "rescaling": lambda: [_layer("Rescaling", 2.0, -1.0), _conv(), _layer("Flatten")],
    "normalization": lambda: [
        *(_layer("Normalization", mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 4.0]), _conv()),
        _layer("GlobalAveragePooling2D"),
    ],
    "padding": lambda: [_layer("ZeroPadding2D", ((1, 0), (2, 1))), _conv(padding="same"), _layer("Flatten")],
    "cropping": lambda: [_conv(), _layer("Cropping2D", ((1, 2), (0, 3))), _layer("Flatten")],
    "dropout": lambda: [_conv(), _layer("Dropout", 0.5), _layer("Flatten"), _layer("GaussianNoise", 0.1)],
    "flat normalization": lambda: [_conv(), _layer("Flatten"), _layer("BatchNormalization"), _layer("ReLU")],
    "pixelwise dense": lambda: [_conv(), _layer("Dense", 6, activation="relu"), _layer("Flatten")],
    "reshape": lambda: [_conv(), _layer("Reshape", (5, 20, 8)), _conv(), _layer("Flatten")],
    "permute": lambda: [_conv(), _layer("Permute", (2, 1, 3)), _conv(), _layer("Flatten")],
    "upsampling": lambda: [_conv(), _layer("UpSampling2D", 2), _conv(), _layer("Flatten")],
}
# Where Keras' order of axes is part of what a layer does, or TensorFlow's of how it does it.
MORE_TRANSPOSES = {"pixelwise dense": 1, "reshape": 2, "permute": 1, "upsampling": 2}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_usual_layer_is_clean_and_exact(
    name: str,
    tmp_path: Path,
    draw_statistics: Callable[[Any], None],
    require_parsed_by_tensorrt: Callable[[Path], None],
) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *NETWORKS[name](), keras.layers.Dense(5)])
    draw_statistics(network)
    _require_clean(network, tmp_path / "m.onnx", 1 + MORE_TRANSPOSES.get(name, 0))
    require_parsed_by_tensorrt(tmp_path / "m.onnx")


def _require_clean(network: Any, path: Path, transposes: int) -> None:
    onnx_from_keras(Conversion(network))(path)
    images = np.stack([smooth_picture(SIDE, SIDE, seed) for seed in range(3)]).astype(np.float32) / 127.5 - 1
    with runner_for(Runtime.ONNXRUNTIME, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(images, training=False)), runner.infer(images), path.name)
    onnx.checker.check_model(str(path), full_check=True)
    operations = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operations["Transpose"] == transposes
    assert not operations.keys() & {"Shape", "Gather", "Cast", "Identity", "Pad", "MatMul"}


def test_branches_meet_in_one_layout(tmp_path: Path, draw_statistics: Callable[[Any], None]) -> None:
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((SIDE, SIDE, 3))
    branches = [layers.Conv2D(4, 3, padding="same", activation=a)(images) for a in ("gelu", "relu")]
    values = layers.Concatenate()(branches)
    values = layers.Multiply()([values, layers.Conv2D(8, 1, activation="sigmoid")(values)])
    values = layers.Add()([values, layers.Conv2D(8, 1)(values)])
    values = layers.Maximum()([values, layers.Average()([values, layers.Conv2D(8, 1)(values)])])
    flat = layers.Dense(4)(layers.Flatten()(values))
    values = layers.Concatenate()([flat, layers.GlobalAveragePooling2D()(values)])
    network = keras.Model(images, layers.Dense(5)(values))
    draw_statistics(network)
    _require_clean(network, tmp_path / "m.onnx", 1)


def test_a_flatten_that_is_an_output_keeps_keras_order(tmp_path: Path) -> None:
    """And with it one whose values go elsewhere than into a dense layer."""
    keras = import_keras()
    network = keras.Sequential([keras.Input((SIDE, SIDE, 3)), _conv(), keras.layers.Flatten()])
    _require_clean(network, tmp_path / "m.onnx", 2)
    images = keras.Input((SIDE, SIDE, 3))
    flat = keras.layers.Flatten()(_conv()(images))
    network = keras.Model(images, keras.layers.Concatenate()([keras.layers.Dense(5)(flat), flat]))
    _require_clean(network, tmp_path / "m.onnx", 2)
