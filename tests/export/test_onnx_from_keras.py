import os
import subprocess
import sys
import tracemalloc
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
from export.conversion import Conversion
from export.onnx_draft import Draft
from export.onnx_folding import compute_constants
from export.onnx_from_keras import onnx_from_keras
from export.onnx_operations import require_standard

Photos = NDArray[np.float32]


def _require_same(network: Any, path: Path, images: Photos) -> None:
    with runner_for(Runtime.ONNXRUNTIME, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(images, training=False)), runner.infer(images), path.name)


def _linear(layers: list[Any]) -> Any:
    keras = import_keras()
    layers[-1].activation = keras.activations.linear
    return keras.Sequential([keras.Input((32, 32, 3)), *layers])


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
    onnx_from_keras(Conversion(vgg16_network))(path)
    assert _operations(path) == {
        "Transpose": 1,
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
    onnx_from_keras(Conversion(vgg16_network))(tmp_path / "m.onnx")
    for batch in (images, images[:1]):
        _require_same(vgg16_network, tmp_path / "m.onnx", batch)


def test_onnx_from_keras_absorbs_batch_normalization(
    tiny_layers: Callable[[], list[Any]], tmp_path: Path, batch_of_photos: Photos
) -> None:
    network = _linear(tiny_layers())
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    assert _operations(tmp_path / "m.onnx") == {
        "Transpose": 1, "Conv": 1, "Relu": 1, "MaxPool": 1, "Reshape": 1, "Gemm": 1
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
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    _require_same(network, tmp_path / "m.onnx", batch_of_photos)
    operations = _operations(tmp_path / "m.onnx")
    assert not {"Cast", "Shape", "MatMul"} & set(operations)
    names = [node.name for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert len(set(names)) == len(names)
    assert {"stem", "inner/scores"} <= set(names)


def test_onnx_from_keras_copies_no_large_kernel(tmp_path: Path) -> None:
    """Of 67 MB, whose rows change their order behind the Flatten, at most a few megabytes are there twice."""
    keras = import_keras()
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(16, 3, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(1024, kernel_initializer="ones"),
        ]
    )
    kernel_bytes = 4 * network.layers[-1].kernel.numpy().size
    tracemalloc.start()
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "m.onnx").stat().st_size > kernel_bytes > 6 * peak_bytes


_TWICE = """
import hashlib, sys
from pathlib import Path
import keras
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras
keras.utils.set_random_seed(0)
layers = keras.layers
images = keras.Input((16, 16, 3), name="images")
kinds = ("gelu", "relu6", "silu")
branches = [layers.Conv2D(4, 3, padding="same", activation=a, name=a)(images) for a in kinds]
values = layers.Concatenate(name="all")(branches)
values = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 1, name="conv")(values))
heads = [layers.Dense(5, name=n)(layers.Flatten(name=f"{n}_flat")(values)) for n in ("first", "second")]
path = Path(sys.argv[1])
onnx_from_keras(Conversion(keras.Model(images, heads, name="net"), opset=18))(path)
"""


def test_the_same_model_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _TWICE, tmp_path / f"{seed}.onnx"],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait() for process in running] == [0, 0]
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second


def test_onnx_from_keras_writes_a_model_beyond_the_limit_of_protobuf_into_a_folder(
    tiny_layers: Callable[[], list[Any]],
    tmp_path: Path,
    batch_of_photos: Photos,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _linear(tiny_layers())
    monkeypatch.setattr(module, "_PROTOBUF_LIMIT_BYTES", module._GRAPH_BYTES + 4 * network.count_params())
    onnx_from_keras(Conversion(network))(tmp_path / "onnx-fp32")
    assert sorted(path.name for path in (tmp_path / "onnx-fp32").iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]
    onnx.checker.check_model(str(tmp_path / "onnx-fp32" / "model.onnx"), full_check=True)
    _require_same(network, tmp_path / "onnx-fp32", batch_of_photos)


@pytest.mark.parametrize("opset", [16, 22])
def test_onnx_from_keras_refuses_an_opset_that_it_was_not_tried_with(
    opset: int, tiny_layers: Callable[[], list[Any]]
) -> None:
    with pytest.raises(InputError, match=rf"ONNX opset {opset}: wanted 17 to 21\. Give another --opset\."):
        onnx_from_keras(Conversion(_linear(tiny_layers()), opset=opset))


def _operation(name: str) -> Any:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    if name == "lstm":
        values = keras.layers.LSTM(4, name="memory")(keras.layers.Reshape((8, 24))(images))
    else:
        values = keras.layers.GlobalAveragePooling2D()(
            keras.layers.Lambda(keras.ops.erfinv, name="strange")(images)
        )
    return keras.Model(images, values)


@pytest.mark.parametrize(
    ("name", "layer", "operation"), [("erfinv", "strange", "Erfinv"), ("lstm", "memory", "Loop")]
)
def test_onnx_from_keras_names_layer_and_operation_that_it_cannot_convert(
    name: str, layer: str, operation: str
) -> None:
    with pytest.raises(
        InputError, match=rf"layer '{layer}' needs {operation}, which cannot be converted\. Rep"
    ):
        onnx_from_keras(Conversion(_operation(name)))


def _graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 2, 2, 3])
    kernel = onnx.helper.make_tensor_value_info("weight_0", onnx.TensorProto.FLOAT, [2, 3])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(list(nodes), "g", [images, kernel], [logits])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_what_depends_on_weights_alone_is_computed_and_kernels_stay_views() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    draft = Draft.of(
        _graph(
            onnx.helper.make_node("Transpose", ["weight_0"], ["turned"], "turn"),
            onnx.helper.make_node("Neg", ["turned"], ["negative"], "neg"),
            onnx.helper.make_node("MatMul", ["images", "negative"], ["logits"], "product"),
        ),
        {"weight_0": lambda: kernel},
    )
    compute_constants(draft)
    assert [node.op_type for node in draft.graph.node] == ["MatMul"]
    np.testing.assert_array_equal(draft.constants["negative"].value(), -kernel.T)
    assert np.shares_memory(draft.constants["turned"].value(), kernel)


def test_an_operation_on_weights_that_cannot_be_computed_is_named() -> None:
    model = _graph(
        onnx.helper.make_node("Unheard", ["weight_0"], ["x"], "a/strange", domain="private"),
        onnx.helper.make_node("MatMul", ["images", "x"], ["logits"], "a/MatMul"),
    )
    model.opset_import.append(onnx.helper.make_opsetid("private", 1))
    draft = Draft.of(model, {"weight_0": lambda: np.zeros((2, 3), np.float32)})
    with pytest.raises(ProofError, match=r"The operation Unheard \(a/strange\) works on weights alone"):
        compute_constants(draft)


def test_require_standard_names_a_foreign_domain() -> None:
    model = _graph(onnx.helper.make_node("Gelu", ["images"], ["logits"], "act./Gelu", domain="com.microsoft"))
    with pytest.raises(InputError, match=r"net: layer 'act' needs com\.microsoft\.Gelu, which cannot"):
        require_standard(model, "net")


def test_a_graph_that_breaks_the_specification_is_not_written() -> None:
    model = _graph(onnx.helper.make_node("Relu", ["nothing"], ["logits"], "a"))
    with pytest.raises(ProofError, match=r"The ONNX graph of net is not valid \(Field 'shape'"):
        module._require_valid(model, {}, "net")
