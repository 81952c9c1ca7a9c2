"""Small Keras models for the export room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.keras_import import import_keras
from export.stage import FORMATS, ExportRequest
from export.vgg16 import VGG16_DIGITS, Architecture, Style


@pytest.fixture(scope="session")
def small_vgg16() -> Architecture:
    """Configuration D at 64×64: small, but with a flatten of 2×2 positions whose order matters."""
    return replace(VGG16_DIGITS, name="small", side_pixels=64)


@pytest.fixture(scope="session")
def crops_of_photos() -> Callable[[Preprocessing], NDArray[np.float32]]:
    """Gives several crops of scikit-learn's two sample photos as inputs of a model."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    def crops(preprocessing: Preprocessing) -> NDArray[np.float32]:
        windows = [
            Image.fromarray(photo[40:400, left : left + 360])
            for photo in load_sample_images().images
            for left in (0, 130, 260)
        ]
        return preprocessing.normalize(np.stack([preprocessing.crop(window) for window in windows]))

    return crops


@pytest.fixture
def batch_of_photos(crops_of_photos: Callable[[Preprocessing], NDArray[np.float32]]) -> NDArray[np.float32]:
    """(6, 32, 32, 3) inputs scaled to [-1, 1]."""
    return crops_of_photos(Preprocessing(PreprocessMode.TF, 32, 32))


@pytest.fixture
def tiny_layers() -> Callable[[], list[Any]]:
    """Gives the layers of a small CNN with a batch normalization, 32×32 → 5 classes, anew each time."""

    def layers() -> list[Any]:
        keras = import_keras()
        return [
            keras.layers.Conv2D(4, 3, use_bias=False, name="conv"),
            keras.layers.BatchNormalization(
                name="norm",
                beta_initializer="normal",
                gamma_initializer=keras.initializers.RandomUniform(0.5, 2.0, seed=1),
                moving_mean_initializer="normal",
                moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2.0, seed=2),
            ),
            keras.layers.ReLU(name="relu"),
            keras.layers.MaxPooling2D(name="pool"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(5, activation="softmax", bias_initializer="normal", name="scores"),
        ]

    return layers


@pytest.fixture
def tiny_file(tiny_layers: Callable[[], list[Any]], tmp_path: Path) -> Path:
    """A user's classifier without normalization of its own."""
    keras = import_keras()
    path = tmp_path / "tiny.keras"
    keras.Sequential([keras.Input((32, 32, 3)), *tiny_layers()]).save(path)
    return path


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., ExportRequest]:
    """Gives a request for a model, with everything else as it is by default, or as given."""

    def request(model: str | Path, **changes: Any) -> ExportRequest:
        default = ExportRequest(
            str(model),
            tmp_path / "out",
            None,
            Style.SEQUENTIAL,
            FORMATS,
            None,
            None,
            None,
            0,
            tmp_path / "cache",
        )
        return replace(default, **changes)

    return request
