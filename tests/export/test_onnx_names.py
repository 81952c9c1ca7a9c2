from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgepress.models.keras_import import import_keras
from edgepress.parity.golden_pictures import smooth_picture
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras

SIDE = 16


def _with_all_tensors(network: Any, path: Path) -> onnx.ModelProto:
    onnx_from_keras(Conversion(network))(path)
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    for node in model.graph.node:
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name not in known
        )
    return model


def test_a_tensor_with_the_name_of_a_layer_is_its_output(
    tmp_path: Path, draw_statistics: Callable[[Any], None]
) -> None:
    """Whatever is fused and folded: convolution, normalization and activation, in a nested model too."""
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 8)),
            layers.SeparableConv2D(8, 3, name="separable", use_bias=False),
            layers.BatchNormalization(name="norm"),
            layers.Activation("silu", name="swish"),
        ],
        name="inner",
    )
    images = keras.Input((SIDE, SIDE, 3))
    values = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(images)
    values = layers.BatchNormalization(name="norm")(values)
    values = layers.ReLU(name="relu")(values)
    values = inner(values)
    values = layers.Conv2D(4, 3, activation="gelu", name="fused")(values)
    values = layers.Conv2D(4, 1, name="biased")(values)
    values = layers.BatchNormalization(name="biased_norm")(values)
    values = layers.MaxPooling2D(name="pool")(values)
    values = layers.Flatten(name="flatten")(values)
    values = layers.Dense(6, activation="relu", name="hidden")(values)
    network = keras.Model(images, layers.Dense(5, name="scores")(values))
    draw_statistics(network)
    model = _with_all_tensors(network, tmp_path / "m.onnx")
    names = [output.name for output in model.graph.output]
    image = smooth_picture(SIDE, SIDE, 0)[np.newaxis].astype(np.float32) / 255
    found = dict(
        zip(
            names,
            onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": image}),
            strict=True,
        )
    )
    outer = {layer.name: layer.output for layer in network.layers[1:] if layer.name != "inner"}
    expected = dict(zip(outer, keras.Model(images, list(outer.values()))(image), strict=True))
    middle = keras.Model(images, network.get_layer("relu").output)(image)
    for layer in inner.layers:
        expected[f"inner/{layer.name}"] = middle = layer(middle, training=False)
    shared = found.keys() & expected.keys()
    assert shared == {
        *("norm", "relu", "inner/norm", "inner/swish", "fused", "biased_norm", "pool", "hidden"),
    }  # conv, inner/separable and biased are folded; Flatten has another order; scores are the logits
    for name in shared:
        wanted = np.asarray(expected[name])
        wanted = wanted.transpose(0, 3, 1, 2) if wanted.ndim == 4 else wanted
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)
    nodes = [node.name for node in model.graph.node]
    assert len(set(nodes)) == len(nodes)
    assert {"conv", "inner/separable", "inner/separable_2", "fused", "biased", "flatten", "hidden"} <= set(
        nodes
    )


def test_layers_whose_names_keras_numbered_are_told_apart(tmp_path: Path) -> None:
    """TensorFlow numbers scopes as well: the second scope "conv" and the first one "conv_1" look the same."""
    keras = import_keras()
    images = keras.Input((SIDE, SIDE, 3))
    shared = keras.layers.Conv2D(3, 1, name="conv")
    values = keras.layers.Conv2D(3, 5, name="conv_1")(images)
    values = shared(shared(values))
    values = keras.layers.Conv2D(3, 7, name="conv_2")(values)
    values = keras.layers.GlobalAveragePooling2D(name="mean")(values)
    network = keras.Model(images, values)
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    sizes = {
        node.name: next(a.ints[0] for a in node.attribute if a.name == "kernel_shape")
        for node in onnx.load(tmp_path / "m.onnx").graph.node
        if node.op_type == "Conv"
    }
    assert sizes == {"conv_1": 5, "conv": 1, "conv_3": 1, "conv_2": 7}
    assert [layer.name for layer in network.layers if "conv" in layer.name] == ["conv_1", "conv", "conv_2"]
