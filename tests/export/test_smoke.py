from pathlib import Path

import numpy as np
import pytest

from edgepress.artifact import Runtime
from edgepress.errors import ProofError
from edgepress.models.vgg16 import VGG16_DIGITS, Style, build
from edgepress.models.weights import draw_random
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.onnx_from_keras import onnx_from_keras
from export.smoke import smoke_check, smoke_input, smooth_picture


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
    onnx_from_keras(network, tmp_path / "m.onnx")
    images = smoke_input(Preprocessing(PreprocessMode.TF, 32, 32), seed=0)
    reference = np.asarray(network(images))
    assert smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, images, reference).snr_db > 100
    with pytest.raises(ProofError, match=r"m\.onnx does not give the logits of its reference: SNR"):
        smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, images[:, ::-1].copy(), reference)
