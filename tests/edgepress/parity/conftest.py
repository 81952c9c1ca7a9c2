"""A small network in all three formats, and files of it in which something is wrong."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.artifact import Format
from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras
from edgepress.preprocessing import PreprocessMode
from export.conversion import Conversion
from export.logits import logits_model
from export.saved_model_from_keras import saved_model_from_keras
from export.stage import ExportRequest, export_model

Array = NDArray[np.float32]
Change = Callable[[Array], Array]

SIDE = 24
MAP = (6, 6, 16)  # in front of the Flatten


def build() -> Any:
    """Two convolutions (one in a nested model) and two dense layers, all with biases: 24×24 → 5 classes."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)

    def bias() -> dict[str, Any]:
        return {"bias_initializer": keras.initializers.RandomNormal(stddev=0.1)}

    body = keras.Sequential(
        [
            keras.Input((SIDE // 2, SIDE // 2, 8)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2", **bias()),
            layers.MaxPooling2D(name="pool2"),
        ],
        name="body",
    )
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1", **bias()),
            layers.MaxPooling2D(name="pool1"),
            body,
            layers.Flatten(name="flatten"),
            layers.Dense(16, activation="relu", name="fc", **bias()),
            layers.Dense(5, activation="softmax", name="scores", **bias()),
        ],
        name="small",
    )


@dataclass(frozen=True)
class Mutation:
    """What is wrong with one weight.

    Attributes:
        variable: Path of the Keras variable, e.g. "fc/kernel".
        change: Keras' value → the wrong one.
        layer: That must be named.
    """

    variable: str
    change: Change
    layer: str


def flattened_channels_first(kernel: Array) -> Array:
    """The rows of a dense kernel as if the map before it were flattened channels first."""
    rows = np.arange(len(kernel)).reshape(MAP).transpose(2, 0, 1).reshape(-1)
    return np.ascontiguousarray(kernel[rows])


MUTATIONS = {
    "flatten order": Mutation("fc/kernel", flattened_channels_first, "fc"),
    "BGR for RGB": Mutation("conv1/kernel", lambda kernel: kernel[:, :, ::-1].copy(), "conv1"),
    "bias dropped": Mutation("conv2/bias", np.zeros_like, "body/conv2"),
    "scale off by 2 %": Mutation("conv2/kernel", lambda kernel: kernel * np.float32(1.02), "body/conv2"),
    "last bias dropped": Mutation("scores/bias", np.zeros_like, "scores"),
}


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a user's file."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    build().save(path)
    return path


@pytest.fixture(scope="session")
def small_folder(small_file: Path) -> Path:
    """It, exported in three formats. Read-only: see `copy_of`."""
    folder = small_file.parent / "exported"
    request = ExportRequest(str(small_file), folder, folder, preprocess=PreprocessMode.TF)
    export_model(request)
    return folder


@pytest.fixture
def mutated(copy_of: Callable[[Path], Path], small_folder: Path) -> Callable[[Format, Mutation], Path]:
    """Gives a copy of the folder in which one artifact is wrong, and the manifest knows no better."""

    def mutate(artifact_format: Format, mutation: Mutation) -> Path:
        folder = copy_of(small_folder)
        manifest = Manifest.load(folder)
        (artifact,) = (a for a in manifest.artifacts if a.format is artifact_format)
        path = manifest.path_of(artifact)
        model = build()
        (variable,) = (v for v in model.variables if v.path.endswith(mutation.variable))
        right = np.asarray(variable)
        wrong = np.asarray(mutation.change(right), np.float32)
        if artifact_format is Format.SAVED_MODEL:
            variable.assign(wrong)
            found = logits_model(model)
            shutil.rmtree(path)
            saved_model_from_keras(Conversion(found.network))(path)
        else:
            _replace_weight(path, right, wrong)
        manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()
        return folder

    return mutate


def _replace_weight(path: Path, right: Array, wrong: Array) -> None:
    """Overwrite a weight's bytes in a file, in whichever order of axes the file has it."""
    content = path.read_bytes()
    is_behind_flatten = right.shape[0] == np.prod(MAP)  # a file may have another order of its own
    orders: list[Change] = [np.array, flattened_channels_first] if is_behind_flatten else [np.array]
    for order, axes in itertools.product(orders, itertools.permutations(range(right.ndim))):
        stored = np.ascontiguousarray(order(right).transpose(axes)).tobytes()
        if content.count(stored) == 1:
            changed = np.ascontiguousarray(order(wrong).transpose(axes)).tobytes()
            path.write_bytes(content.replace(stored, changed))
            return
    raise AssertionError(f"{path.name} does not hold this weight")
