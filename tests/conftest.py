"""Fixtures that several rooms share: the embedded model, exported and optimized once per test session."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16_DIGITS, Architecture
from edgepress.preprocessing import Preprocessing

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

# As at the front door: before any framework is imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--alone", action="store_true", help="only tests marked `serial`, which run alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side (--numprocesses), what measures is left out: it is for a run with --alone.

    Files with slow or long tests go first, so that short ones fill the end.
    """
    alone, is_worker = config.getoption("--alone"), hasattr(config, "workerinput")
    if alone or is_worker:
        chosen = [item for item in items if ("serial" in item.keywords) == alone]
        config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
        first = {item.path for item in chosen if {"slow", "long"} & set(item.keywords)}
        items[:] = sorted(chosen, key=lambda item: item.path not in first)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of trained weights for these tests only: nothing of the user's is read or written.

    Processes that test side by side share it where EDGEPRESS_TEST_CACHE names one.
    """
    shared = os.environ.get("EDGEPRESS_TEST_CACHE")
    return Path(shared) if shared else tmp_path_factory.mktemp("cache")


def _run(cache: Path, *arguments: str | Path, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "edgepress.cli", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="session")
def cli(session_cache: Path) -> Cli:
    """Runs `edgepress …` in a process of its own and gives its exit code and output."""

    def run(*arguments: str | Path, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        return _run(session_cache, *arguments, timeout=timeout)

    return run


def _succeed(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def digits_folder(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vgg16-digits, trained and exported in three formats. Read-only: see `copy_of`."""
    folder = tmp_path_factory.mktemp("digits") / "exported"
    _succeed(cli("export", "vgg16-digits", "--out", folder))
    return folder


@pytest.fixture(scope="session")
def digits_optimized(cli: Cli, digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with every recipe for this machine applied. Read-only: see `copy_of`."""
    folder = tmp_path_factory.mktemp("digits") / "optimized"
    shutil.copytree(digits_folder, folder)
    _succeed(cli("optimize", folder))
    return folder


@pytest.fixture(scope="session")
def vgg16_folder(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full-size VGG16 with random weights (seed 0), exported in three formats. Tests that use it are slow."""
    folder = tmp_path_factory.mktemp("full") / "vgg16"
    _succeed(cli("export", "vgg16", "--weights", "random", "--out", folder))
    return folder


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Gives a copy of a read-only folder that the test may change."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copy


@pytest.fixture(scope="session")
def photos_folder() -> Path:
    """Real photos (class/*.jpg), where EDGEPRESS_PHOTOS names them."""
    folder = os.environ.get("EDGEPRESS_PHOTOS")
    if not folder:
        pytest.skip("EDGEPRESS_PHOTOS is not set: no folder of real photos")
    return Path(folder)


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Folder of reference_vgg16.keras, calibration/ and evaluation/, where EDGEPRESS_REFERENCE names it."""
    folder = os.environ.get("EDGEPRESS_REFERENCE")
    if not folder:
        pytest.skip("EDGEPRESS_REFERENCE is not set: no full-size VGG16 with real weights")
    return Path(folder)


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of crops of scikit-learn's two sample photos: china/*.png and flower/*.png, 224×224."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("photos")
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir()
        for i, left in enumerate(range(0, 416, 60)):
            crop = photo[100:324, left : left + 224]
            Image.fromarray(crop).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def small_vgg16() -> Architecture:
    """Configuration D at 64×64: small, but with a flatten of 2×2 positions whose order matters."""
    return replace(VGG16_DIGITS, name="small", side_pixels=64)


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
