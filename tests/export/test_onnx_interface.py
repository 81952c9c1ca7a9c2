"""Every form of input and output that an ONNX file can be asked for."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgepress.interface import Activation, Interface, Layout, Pixels, Scores
from edgepress.metrics import logit_snr_db
from edgepress.models.keras_import import import_keras
from edgepress.parity import FP32_SNR_FLOOR_DB
from edgepress.parity.golden_pictures import smooth_picture
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.conversion import Conversion
from export.onnx_from_keras import OPSETS, onnx_from_keras

SIDE = 16
CAFFE = Preprocessing(PreprocessMode.CAFFE, SIDE, SIDE)
TORCH = Preprocessing(PreprocessMode.TORCH, SIDE, SIDE)


@pytest.fixture
def network(draw_statistics: Callable[[Any], None]) -> Any:
    """Padding, normalization, pooling, resizing, GELU, a Flatten whose order matters, small logits."""
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.ZeroPadding2D(((0, 1), (2, 1)), name="pad"),
            layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Activation("gelu", name="gelu"),
            layers.MaxPooling2D(name="pool"),
            layers.LayerNormalization(name="layer_norm"),
            layers.UpSampling2D(2, interpolation="bilinear", name="up"),
            layers.Flatten(name="flatten"),
            layers.Dense(5, name="scores"),
        ]
    )
    draw_statistics(network)
    return network


def _run(path: Path, conversion: Conversion, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(path))
    assert conversion.preprocessing is not None
    feed = conversion.interface.feed(pictures, conversion.preprocessing)
    return list(session.run(None, {"images": feed}))


def _pictures(count: int) -> NDArray[np.uint8]:
    return np.stack([smooth_picture(SIDE, SIDE, seed) for seed in range(count)])


def _require_same_scores(network: Any, conversion: Conversion, path: Path) -> onnx.GraphProto:
    interface = conversion.interface
    pictures = _pictures(interface.batch or 3)
    (scores,) = _run(path, conversion, pictures)
    assert conversion.preprocessing is not None
    wanted = np.asarray(network(conversion.preprocessing.normalize(pictures), training=False))
    if interface.scores is Scores.PROBABILITIES:
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
        scores, wanted = (values - values.mean(axis=1, keepdims=True) for values in (np.log(scores), wanted))
    assert logit_snr_db(wanted, scores) > FP32_SNR_FLOOR_DB
    onnx.checker.check_model(str(path), full_check=True)
    graph: onnx.GraphProto = onnx.load(path).graph
    return graph


@pytest.mark.parametrize(
    ("interface", "preprocessing", "opset"),
    [
        (Interface(), CAFFE, 17),
        (Interface(Layout.NCHW), CAFFE, 18),
        (Interface(Layout.NCHW, Pixels.RGB, Scores.PROBABILITIES, 2), CAFFE, 19),
        (Interface(Layout.NHWC, Pixels.RGB, Scores.LOGITS, 1), CAFFE, 20),
        (Interface(Layout.NHWC, Pixels.RGB, Scores.PROBABILITIES), TORCH, 21),
        (Interface(Layout.NHWC, Pixels.PREPROCESSED, Scores.PROBABILITIES, 3), TORCH, 17),
    ],
    ids=lambda value: str(getattr(value, "mode", value)),
)
def test_a_file_has_the_interface_and_opset_asked_for(
    interface: Interface,
    preprocessing: Preprocessing,
    opset: int,
    network: Any,
    tmp_path: Path,
    require_parsed_by_tensorrt: Callable[[Path], None],
) -> None:
    conversion = Conversion(network, interface, Activation.SOFTMAX, preprocessing, opset)
    onnx_from_keras(conversion)(tmp_path / "m.onnx")
    graph = _require_same_scores(network, conversion, tmp_path / "m.onnx")
    (images,), (scores,) = graph.input, graph.output
    shapes = [
        tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (images, scores)
    ]
    assert shapes == [interface.input_shape(SIDE, SIDE), (interface.batch, 5)]
    assert onnx.helper.tensor_dtype_to_np_dtype(images.type.tensor_type.elem_type) == interface.dtype
    assert scores.name == interface.scores.value
    model = onnx.load(tmp_path / "m.onnx")
    assert [(found.domain, found.version) for found in model.opset_import] == [("", opset)]
    operations = Counter(node.op_type for node in graph.node)
    assert operations["Transpose"] == (interface.layout is Layout.NHWC)
    assert operations["Cast"] == (interface.pixels is Pixels.RGB)
    assert operations["Softmax"] == (interface.scores is Scores.PROBABILITIES)
    assert not operations.keys() & {"Pad", "Gather", "Shape", "Identity"}
    require_parsed_by_tensorrt(tmp_path / "m.onnx")


def test_all_opsets_are_tried_above() -> None:
    assert list(OPSETS) == [17, 18, 19, 20, 21]


def test_channels_are_reversed_where_the_first_layer_is_no_convolution(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling([0.5, 1.0, 2.0]),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5),
        ]
    )
    for layout in Layout:
        conversion = Conversion(network, Interface(layout, Pixels.RGB), preprocessing=CAFFE)
        onnx_from_keras(conversion)(tmp_path / "m.onnx")
        graph = _require_same_scores(network, conversion, tmp_path / "m.onnx")
        operations = [node.op_type for node in graph.node]
        assert operations.count("Transpose") == (layout is Layout.NHWC)
        assert operations.count("Gather") == 1


def test_a_network_without_convolution_takes_either_layout(tmp_path: Path) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    for layout in Layout:
        conversion = Conversion(network, Interface(layout, Pixels.RGB), preprocessing=CAFFE)
        onnx_from_keras(conversion)(tmp_path / "m.onnx")
        graph = _require_same_scores(network, conversion, tmp_path / "m.onnx")
        assert "Transpose" not in [node.op_type for node in graph.node]


def test_outputs_keep_their_order_head_first(tmp_path: Path) -> None:
    keras = import_keras()
    images = keras.Input((SIDE, SIDE, 3))
    values = keras.layers.Conv2D(4, 3, name="zebra")(images)
    pooled = keras.layers.GlobalMaxPooling2D(name="pooled")(values)
    head = keras.layers.Dense(5, name="head")(pooled)
    more = keras.layers.Dense(3, name="a_second_head")(pooled)
    network = keras.Model(images, [head, values, more])
    conversion = Conversion(network, preprocessing=CAFFE)
    onnx_from_keras(conversion)(tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [output.name for output in graph.output] == list(conversion.output_names)
    assert conversion.output_names[0] == "logits"
    pictures = _pictures(2)
    wanted = network(CAFFE.normalize(pictures), training=False)
    for expected, found in zip(wanted, _run(tmp_path / "m.onnx", conversion, pictures), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
