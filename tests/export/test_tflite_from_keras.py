import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime, TensorSpec
from edgepress.errors import InputError
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.tflite_graph import tflite_model
from edgepress.interface import Activation, Interface, Pixels, Scores
from edgepress.models.keras_import import import_keras
from edgepress.parity import require_parity
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras


def test_tflite_from_keras_has_one_picture_in_and_no_shape_arithmetic(
    tiny_layers: Callable[[], list[Any]], tmp_path: Path, batch_of_photos: NDArray[np.float32]
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    keras = import_keras()
    *body, last = tiny_layers()
    last.activation = keras.activations.linear
    network = keras.Sequential([keras.Input((32, 32, 3)), *body, last])
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(network))(path)
    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    (signature,) = interpreter.get_signature_list().values()
    assert signature == {"inputs": ["images"], "outputs": ["logits"]}
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 32, 32, 3]
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert {"CONV_2D", "FULLY_CONNECTED"} <= operations
    assert not operations & {"SHAPE", "PACK", "STRIDED_SLICE", "BATCH_MATMUL"}
    with runner_for(Runtime.LITERT, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(batch_of_photos)), runner.infer(batch_of_photos), "tflite")


def test_tflite_from_keras_names_the_operations_that_would_need_flex() -> None:
    keras = import_keras()
    images = keras.Input((3, 3, 1))
    bent = keras.ops.erfinv(images) * keras.ops.reshape(keras.ops.logdet(images[..., 0]), (-1, 1, 1, 1))
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(bent))
    wanted = r"TFLite has no built-in operation for: Cholesky, Erfinv, MatrixDiagPartV3\. Replace the layer"
    with pytest.raises(InputError, match=wanted):
        tflite_from_keras(Conversion(network))  # and not only when it is written


def _randomized(network: Any) -> Any:
    """Random statistics, scales and biases: what a conversion leaves out must show."""
    draw = np.random.default_rng(0)
    for variable in network.weights:
        role = variable.path.rsplit("/", 1)[-1]
        if role in {"moving_variance", "gamma"}:
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(draw.normal(0, 0.2, variable.shape))
    return network


def _pictures(count: int, side: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def _operations(path: Path) -> Counter[str]:
    with tflite_model(path) as model:
        return Counter(name for name, _ in model.operators())


def _require_kerass_logits(network: Any, path: Path, images: NDArray[np.float32]) -> None:
    outputs = import_keras().tree.flatten(network(images, training=False))
    with runner_for(Runtime.LITERT, Device.CPU)(path, 0) as runner:
        assert runner.evidence.startswith("XNNPACK delegate")
        require_parity(np.asarray(outputs[0]), runner.infer(images), "tflite")


def _usual_layers() -> Any:
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(0.5, offset=0.1)(images)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x)
    x = layers.ZeroPadding2D(2)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="swish")(x)
    x = layers.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, activation="gelu")(x)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, depth_multiplier=2, activation="hard_swish")(x)
    x = layers.Conv2D(8, 3, groups=4, activation="elu")(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, output_padding=1, activation="relu")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.LayerNormalization()(layers.Cropping2D(1)(x))
    x = layers.Resizing(12, 12)(layers.UpSampling2D(interpolation="bilinear")(x))
    a, b = layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(x)
    x = layers.Concatenate()([layers.Add()([a, b]), layers.Multiply()([a, b])])
    x = layers.Conv1D(4, 3, activation="relu")(layers.Reshape((36, 16))(x))
    x = layers.Permute((2, 1))(x)
    x = layers.Dense(6, activation="relu", use_bias=False)(x)
    x = layers.Dense(7, activation="relu6", use_bias=False)(layers.Flatten()(x))
    return _randomized(keras.Model(images, layers.Dense(5)(x)))


def test_tflite_from_keras_converts_the_usual_layers(tmp_path: Path) -> None:
    path, network = tmp_path / "m.tflite", _usual_layers()
    tflite_from_keras(Conversion(network))(path)
    _require_kerass_logits(network, path, _pictures(2, 32))
    operations = _operations(path)
    assert {"PRELU", "TRANSPOSE_CONV", "GELU", "HARD_SWISH", "LEAKY_RELU"} <= operations.keys()
    assert operations["TRANSPOSE"] == 1  # the Permute
    assert operations["FULLY_CONNECTED"] == 3
    assert "BATCH_MATMUL" not in operations


_MOBILE = {"CONV_2D": 35, "DEPTHWISE_CONV_2D": 17, "ADD": 10, "MEAN": 1, "FULLY_CONNECTED": 1}
_RESIDUAL = {"CONV_2D": 53, "ADD": 16, "PAD": 2, "MAX_POOL_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
_INCEPTION = {"CONV_2D": 94, "CONCATENATION": 15, "AVERAGE_POOL_2D": 9, "MAX_POOL_2D": 4}
# 49 swishes and 16 squeezes multiply; so does the Rescaling in front.
_EFFICIENT = {"CONV_2D": 65, "DEPTHWISE_CONV_2D": 16, "LOGISTIC": 65, "MUL": 66, "MEAN": 17, "ADD": 9}
# The 62 normalizations behind a concatenation or in front of a ReLU of their own stay.
_DENSE = {"CONV_2D": 120, "MUL": 62, "ADD": 62, "CONCATENATION": 58, "AVERAGE_POOL_2D": 3, "PAD": 2}
_HEAD = {"MEAN": 1, "FULLY_CONNECTED": 1}


@pytest.mark.parametrize(
    ("name", "side", "operations"),
    [
        pytest.param("MobileNetV2", 64, _MOBILE),
        pytest.param("VGG19", 64, None, marks=pytest.mark.slow),
        pytest.param("ResNet50", 64, _RESIDUAL, marks=pytest.mark.slow),
        pytest.param("EfficientNetB0", 64, {**_EFFICIENT, "FULLY_CONNECTED": 1}, marks=pytest.mark.slow),
        pytest.param("InceptionV3", 75, {**_INCEPTION, **_HEAD}, marks=pytest.mark.slow),
        pytest.param("DenseNet121", 64, {**_DENSE, **_HEAD, "MAX_POOL_2D": 1}, marks=pytest.mark.slow),
    ],
)
def test_tflite_from_keras_leaves_nothing_of_what_can_be_folded(
    name: str, side: int, operations: dict[str, int] | None, tmp_path: Path
) -> None:
    applications = import_keras().applications
    network = getattr(applications, name)(
        weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None
    )
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(_randomized(network)))(path)
    _require_kerass_logits(network, path, _pictures(1, side))
    wanted = {"CONV_2D": 16, "MAX_POOL_2D": 5, "RESHAPE": 1, "FULLY_CONNECTED": 3}
    assert _operations(path) == (operations or wanted)


def test_tflite_from_keras_names_what_a_layer_gives_after_the_layer(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    keras = import_keras()
    layers = keras.layers
    images = keras.Input((12, 12, 3))
    # Names that differ in a number only, called in another order.
    first, second, third = (
        layers.Conv2D(n, 3, name=name, activation=activation)
        for n, name, activation in ((4, "conv2d_1", "relu"), (5, "conv2d", "gelu"), (6, "conv2d_1_1", None))
    )
    inner = keras.Sequential([keras.Input((6, 6, 6)), layers.Conv2D(4, 3, name="conv2d")], name="inner")
    normalized = layers.BatchNormalization(name="norm")(third(second(first(images))))
    nested = inner(normalized)
    x = layers.Activation("swish", name="swish")(nested)
    network = _randomized(keras.Model(images, layers.Dense(5, name="scores")(layers.Flatten()(x))))
    path, pictures = tmp_path / "m.tflite", _pictures(1, 12)
    tflite_from_keras(Conversion(network))(path)
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pictures)
    interpreter.invoke()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    values = {"conv2d_1": first.output, "conv2d": second.output, "norm": normalized}
    values |= {"inner/conv2d": nested, "swish": x}
    values |= {"logits": network.outputs[0]}
    wanted = keras.Model(images, list(values.values()))(pictures)
    for name, value in zip(values, wanted, strict=True):
        np.testing.assert_allclose(interpreter.get_tensor(index[name]), value, atol=1e-5, err_msg=name)
    constants = {"conv2d_1/kernel", "conv2d_1/bias", "inner/conv2d/kernel", "scores/kernel", "scores/bias"}
    assert constants | {"images", "swish/LOGISTIC", "conv2d/CONV_2D", "conv2d_1_1/kernel"} <= index.keys()
    assert not {"conv2d_1_1", "conv2d_2"} & index.keys()  # its output is the normalization's


@pytest.mark.parametrize("padded", [False, True])
def test_tflite_from_keras_takes_pixels_and_gives_probabilities(padded: bool, tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(1)(images) if padded else images
    x = layers.Conv2D(4, 3, activation="relu")(x)
    network = _randomized(keras.Model(images, layers.Dense(5)(layers.Flatten()(x))))
    preprocessing = Preprocessing(PreprocessMode.CAFFE, 16, 16)
    interface = Interface(pixels=Pixels.RGB, scores=Scores.PROBABILITIES, batch=3)
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(network, interface, Activation.SOFTMAX, preprocessing))(path)
    pictures = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), np.uint8)
    wanted = keras.ops.softmax(network(preprocessing.normalize(pictures)))
    with runner_for(Runtime.LITERT, Device.CPU)(path, 0) as runner:
        np.testing.assert_allclose(runner.infer(pictures), wanted, atol=1e-5)
    inspection = inspect_tflite(path)
    assert inspection.inputs == (TensorSpec("images", (3, 16, 16, 3), "uint8"),)
    assert inspection.outputs == (TensorSpec("probabilities", (3, 5), "float32"),)
    assert "GATHER" not in _operations(path)  # BGR is in the kernel


def test_tflite_from_keras_keeps_an_order_of_channels_that_others_see_too(tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((8, 8, 3))
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(images), images])
    network = _randomized(keras.Model(images, layers.Dense(5)(layers.Flatten()(x))))
    preprocessing = Preprocessing(PreprocessMode.CAFFE, 8, 8)
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(network, Interface(pixels=Pixels.RGB), preprocessing=preprocessing))(path)
    pictures = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), np.uint8)
    with runner_for(Runtime.LITERT, Device.CPU)(path, 0) as runner:
        logits = runner.infer(pictures)
    require_parity(np.asarray(network(preprocessing.normalize(pictures))), logits, "tflite")
    assert _operations(path)["GATHER"] == 1


def test_tflite_from_keras_gives_the_head_first_of_several_outputs(tmp_path: Path) -> None:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(images)
    heads = [keras.layers.Dense(n, name=name)(flat) for n, name in ((5, "scores"), (3, "age"), (2, "zoom"))]
    network = _randomized(keras.Model(images, heads))
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(network))(path)
    _require_kerass_logits(network, path, _pictures(2, 8))
    outputs = inspect_tflite(path).outputs
    assert [(spec.name, spec.shape) for spec in outputs] == [
        ("logits", (1, 5)),
        ("age", (1, 3)),
        ("zoom", (1, 2)),
    ]


_WRITE = """
from pathlib import Path
from edgepress.models.keras_import import import_keras
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras

keras = import_keras()
keras.utils.set_random_seed(0)
layers = keras.layers
network = keras.Sequential([layers.Input((16, 16, 3))])
for i in range(6):
    network.add(layers.Conv2D(4 + i, 3, activation="swish", bias_initializer="normal", name=f"c{i}"))
network.add(layers.Flatten(name="flat"))
network.add(layers.Dense(5, name="fc"))
tflite_from_keras(Conversion(network))(Path(__file__).with_name(f"{__name__}.tflite"))
"""


def test_tflite_from_keras_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(_WRITE)
    runpy.run_path(str(script), run_name="here")
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, str(script)], check=True, env=environment, capture_output=True)
    here, there = ((tmp_path / f"{name}.tflite").read_bytes() for name in ("here", "__main__"))
    assert here == there
    assert b"MLIR" not in here


def test_tflite_from_keras_refuses_more_than_one_file_holds(tmp_path: Path) -> None:
    class Huge:
        name = "huge"
        outputs: tuple[Any, ...] = ()

        def count_params(self) -> int:
            return 2**29

    with pytest.raises(InputError, match=r"One TFLite file holds less than 2\.1 GB"):
        tflite_from_keras(Conversion(Huge()))


def test_tflite_from_keras_numbers_the_calls_of_a_shared_layer(tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    images, shared = (
        keras.Input((8, 8, 3)),
        layers.Conv2D(3, 3, padding="same", activation="relu", name="conv"),
    )
    head = layers.Dense(5, use_bias=False)  # the place of its bias is tensor -1
    network = keras.Model(images, head(layers.Flatten()(shared(shared(images)))))
    path = tmp_path / "m.tflite"
    tflite_from_keras(Conversion(network))(path)
    with tflite_model(path) as model:
        made = [model.tensor(op.Outputs(0)).Name().decode() for _, op in model.operators()]
    assert (*made[:2], made[-1]) == ("conv", "conv_2", "logits")
    assert inspect_tflite(path).layers[1].parameters == 0  # stored once
