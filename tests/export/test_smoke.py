from pathlib import Path

import numpy as np
import pytest

from edgepress.artifact import Runtime
from edgepress.errors import ProofError
from edgepress.interface import PLAIN, Activation
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16_DIGITS, Style, build
from edgepress.models.weights import draw_random
from edgepress.parity import floor_db
from edgepress.parity.golden_pictures import smooth_picture
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.conversion import Conversion
from export.logits import logits_model
from export.onnx_from_keras import onnx_from_keras
from export.smoke import Promise, smoke_check

TF = Preprocessing(PreprocessMode.TF, 32, 32)
PROMISE = Promise(PLAIN, Activation.NONE, TF)
PICTURES = smooth_picture(32, 32, seed=0)[np.newaxis]


def test_smooth_picture_is_seeded_smooth_and_unlike_its_mirror_images() -> None:
    picture = smooth_picture(32, 48, seed=1).astype(int)
    assert picture.shape == (32, 48, 3)
    np.testing.assert_array_equal(picture, smooth_picture(32, 48, seed=1))
    assert (picture.min(), picture.max()) == (0, 255)
    assert np.abs(np.diff(picture, axis=0)).max() < 64
    for other in (picture[::-1], picture[:, ::-1], picture[..., ::-1]):
        assert np.abs(picture - other).mean() > 10


def test_smoke_check_passes_the_genuine_file_and_no_other(tmp_path: Path) -> None:
    network = build(VGG16_DIGITS, Style.SEQUENTIAL)
    draw_random(network, 1)
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    reference = np.asarray(network(TF.normalize(PICTURES)))
    found = smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, PROMISE, PICTURES, reference)
    assert found.snr_db > 100
    with pytest.raises(ProofError, match=r"m\.onnx does not give the logits of its reference: SNR"):
        smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, PROMISE, PICTURES[:, ::-1], reference)


def test_floor_db_is_100_for_a_network_whose_classes_differ() -> None:
    network = build(VGG16_DIGITS, Style.SEQUENTIAL)
    draw_random(network, 1)
    assert floor_db(np.asarray(logits_model(network).network(TF.normalize(PICTURES)))) == 100
    assert floor_db(np.zeros((1, 3), np.float32)) == 100  # nothing to be granted


def test_floor_db_is_lower_where_classes_hardly_differ_and_still_tells_a_wrong_file(tmp_path: Path) -> None:
    """Two logits that differ by a thousandth of themselves cannot be computed to 100 dB in FP32."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = (layers.Conv2D(16, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(2))
    network = keras.Sequential([keras.Input((32, 32, 3)), *stack])
    kernel, _ = network.layers[-1].get_weights()
    network.layers[-1].set_weights([np.repeat(kernel[:, :1], 2, axis=1) * (1, 1.001), np.zeros(2)])
    reference = np.asarray(network(TF.normalize(PICTURES)))
    least_db = floor_db(reference)
    assert 45 < least_db < 55
    onnx_from_keras(Conversion(network))(tmp_path / "m.onnx")
    found = smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, PROMISE, PICTURES, reference)
    assert found.snr_db >= least_db
    kernel, bias = network.layers[0].get_weights()
    network.layers[0].set_weights([0.98 * kernel, bias])  # a layer whose scale is off by 2 %
    onnx_from_keras(Conversion(network))(tmp_path / "wrong.onnx")
    with pytest.raises(ProofError, match=rf"wanted {least_db:.0f} dB"):
        smoke_check(tmp_path / "wrong.onnx", Runtime.ONNXRUNTIME, PROMISE, PICTURES, reference)
