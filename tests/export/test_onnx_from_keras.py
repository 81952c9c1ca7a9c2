from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.errors import InputError, ProofError
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import Architecture, Style, build
from edgepress.models.weights import draw_random
from edgepress.parity import require_parity
from edgepress.runners.runner import runner_for
from export import onnx_from_keras as module
from export.onnx_folding import fold
from export.onnx_from_keras import onnx_from_keras

Photos = NDArray[np.float32]


def _require_same(network: Any, path: Path, images: Photos) -> None:
    with runner_for(Runtime.ONNXRUNTIME, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(images, training=False)), runner.infer(images), path.name)


def _operations(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(params=Style)
def vgg16_network(request: pytest.FixtureRequest, small_vgg16: Architecture) -> Any:
    """The small VGG16 with a linear output, so that it needs no rebuilding."""
    model = build(small_vgg16, request.param)
    draw_random(model, 1)
    model.layers[-1].activation = import_keras().activations.linear
    return model


def test_onnx_from_keras_gives_a_clean_vgg16(vgg16_network: Any, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.onnx"
    onnx_from_keras(vgg16_network, path)
    assert _operations(path) == {
        "Transpose": 2,
        "Conv": 13,
        "Relu": 15,
        "MaxPool": 5,
        "Reshape": 1,
        "Gemm": 3,
    }
    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    graph = model.graph
    (images,), (logits,) = graph.input, graph.output
    assert (images.name, logits.name) == ("images", "logits")
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == ["batch", 64, 64, 3]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 10]
    layers = [
        layer.name for layer in vgg16_network.layers if "input" not in layer.name and layer.name != "images"
    ]
    assert [node.name for node in graph.node if node.name in layers] == layers
    assert {"fc1/kernel", "fc1/bias", "block1_conv1/kernel", "block5_conv3/bias"} <= {
        tensor.name for tensor in graph.initializer
    }
    assert sum(np.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == 1) == (
        vgg16_network.count_params()
    )


def test_onnx_from_keras_keeps_the_logits_for_any_batch(
    small_vgg16: Architecture, vgg16_network: Any, tmp_path: Path, crops_of_photos: Callable[..., Photos]
) -> None:
    from edgepress.preprocessing import Preprocessing, PreprocessMode

    images = crops_of_photos(Preprocessing(PreprocessMode.CAFFE, 64, 64))
    onnx_from_keras(vgg16_network, tmp_path / "m.onnx")
    for batch in (images, images[:1]):
        _require_same(vgg16_network, tmp_path / "m.onnx", batch)


def test_onnx_from_keras_absorbs_batch_normalization(
    tiny_layers: Callable[[], list[Any]], tmp_path: Path, batch_of_photos: Photos
) -> None:
    keras = import_keras()
    *body, last = tiny_layers()
    last.activation = keras.activations.linear
    network = keras.Sequential([keras.Input((32, 32, 3)), *body, last])
    onnx_from_keras(network, tmp_path / "m.onnx")
    assert _operations(tmp_path / "m.onnx") == {
        "Transpose": 2, "Conv": 1, "Relu": 1, "MaxPool": 1, "Reshape": 1, "Gemm": 1
    }  # fmt: skip
    _require_same(network, tmp_path / "m.onnx", batch_of_photos)


def _residual() -> Any:
    """Branches, depthwise and strided convolutions, a shared layer, two poolings, a nested model."""
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((32, 32, 3))
    values = layers.Rescaling(0.5, name="half")(images)
    values = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(values)
    values = layers.BatchNormalization(gamma_initializer="random_uniform", name="stem_norm")(values)
    shared = layers.Conv2D(8, 3, padding="same", activation="relu6", name="shared")
    values = layers.Add(name="sum")([values, shared(shared(values))])
    values = layers.DepthwiseConv2D(3, bias_initializer="normal", name="depthwise")(values)
    values = layers.AveragePooling2D(2, name="average")(values)
    inner = keras.Sequential(
        [
            keras.Input(values.shape[1:]),
            layers.SeparableConv2D(8, 3, activation="silu", name="separable"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dropout(0.5),
            layers.Dense(5, use_bias=False, name="scores"),
        ],
        name="inner",
    )
    return keras.Model(images, inner(values))


def test_onnx_from_keras_keeps_the_logits_of_a_branched_nested_network(
    tmp_path: Path, batch_of_photos: Photos
) -> None:
    network = _residual()
    onnx_from_keras(network, tmp_path / "m.onnx")
    _require_same(network, tmp_path / "m.onnx", batch_of_photos)
    operations = _operations(tmp_path / "m.onnx")
    assert not {"Cast", "Shape", "MatMul"} & set(operations)
    names = [node.name for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert len(set(names)) == len(names)
    assert {"stem", "inner/scores"} <= set(names)


def test_onnx_from_keras_refuses_a_model_beyond_the_limit_of_protobuf(
    vgg16_network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROTOBUF_LIMIT_BYTES", 4 * vgg16_network.count_params())
    with pytest.raises(InputError, match=r"GB of weights, and one ONNX file holds less than 2\.1 GB"):
        onnx_from_keras(vgg16_network, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_from_keras_names_an_operation_that_it_cannot_convert(tmp_path: Path) -> None:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    values = keras.ops.lgamma(images) if hasattr(keras.ops, "lgamma") else keras.ops.erfinv(images)
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(values))
    with pytest.raises((InputError, ProofError), match=r"(?i)erfinv|ndtri|lgamma"):
        onnx_from_keras(network, tmp_path / "m.onnx")


def _graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 2, 2, 3])
    kernel = onnx.helper.make_tensor_value_info("weight_0", onnx.TensorProto.FLOAT, [2, 3])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(list(nodes), "g", [images, kernel], [logits])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_fold_computes_what_depends_on_weights_alone() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    model = _graph(
        onnx.helper.make_node("Transpose", ["weight_0"], ["turned"], "a/turn"),
        onnx.helper.make_node("Neg", ["turned"], ["negative"], "a/neg"),
        onnx.helper.make_node("MatMul", ["images", "negative"], ["logits"], "a/MatMul"),
    )
    fold(model, {"weight_0": lambda: kernel}, frozenset({"a"}))
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (tensor,) = model.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), -kernel.T)
    assert [value.name for value in model.graph.input] == ["images"]


def test_fold_names_an_operation_on_weights_that_it_cannot_compute() -> None:
    model = _graph(
        onnx.helper.make_node("Unheard", ["weight_0"], ["x"], "a/strange", domain="private"),
        onnx.helper.make_node("MatMul", ["images", "x"], ["logits"], "a/MatMul"),
    )
    model.opset_import.append(onnx.helper.make_opsetid("private", 1))
    with pytest.raises(ProofError, match=r"The operation Unheard \(a/strange\) works on weights alone"):
        fold(model, {"weight_0": lambda: np.zeros((2, 3), np.float32)}, frozenset())


def test_require_standard_names_a_foreign_domain() -> None:
    model = _graph(onnx.helper.make_node("Gelu", ["images"], ["logits"], "a", domain="com.microsoft"))
    with pytest.raises(
        ProofError, match=r"outside of ONNX' standard domain would be left: com\.microsoft\.Gelu"
    ):
        module._require_standard(model)
