from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.files import size_bytes
from edgepress.models.vgg16 import VGG16_DIGITS, Style, build
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.saved_model_from_keras import saved_model_from_keras


def test_saved_model_from_keras_serves_any_batch_and_stores_weights_once(
    tmp_path: Path, batch_of_photos: NDArray[np.float32]
) -> None:
    network = build(VGG16_DIGITS, Style.SEQUENTIAL)
    saved_model_from_keras(Conversion(network))(tmp_path / "m")
    with runner_for(Runtime.TENSORFLOW, Device.CPU)(tmp_path / "m", 0) as runner:
        for images in (batch_of_photos, batch_of_photos[:1]):
            np.testing.assert_allclose(
                runner.infer(images), np.asarray(network(images)), rtol=1e-6, atol=1e-7
            )
    assert size_bytes(tmp_path / "m") < 1.1 * 4 * VGG16_DIGITS.parameters
