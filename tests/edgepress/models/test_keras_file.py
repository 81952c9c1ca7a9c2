import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress.errors import InputError
from edgepress.models.keras_classifier import require_classifier
from edgepress.models.keras_file import load_keras_file, read_keras_file
from edgepress.models.keras_import import import_keras
from edgepress.preprocessing import PreprocessMode

Layers = Callable[[], list[Any]]


def test_read_keras_file_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No model file at .*absent\.keras\. Check the path"):
        read_keras_file(tmp_path / "absent.keras")


@pytest.mark.parametrize("kept_bytes", [0, 100, 5_000])
def test_read_keras_file_refuses_a_truncated_file(tiny_file: Path, kept_bytes: int) -> None:
    tiny_file.write_bytes(tiny_file.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match=r"is no \.keras model or is truncated"):
        read_keras_file(tiny_file)


def test_read_keras_file_refuses_a_zip_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(InputError, match=r"it lacks config\.json, model\.weights\.h5"):
        read_keras_file(path)


def test_read_keras_file_refuses_a_lambda(tiny_layers: Layers, tmp_path: Path) -> None:
    keras = import_keras()
    path = tmp_path / "lambda.keras"
    keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Lambda(lambda values: values * 2), *tiny_layers()]
    ).save(path)
    with pytest.raises(InputError, match=r"has a Lambda layer, which carries code that loading would run"):
        read_keras_file(path)


@pytest.mark.parametrize("registered", [True, False])
def test_read_keras_file_refuses_a_custom_object_and_names_it(
    tiny_layers: Layers, tmp_path: Path, registered: bool
) -> None:
    keras = import_keras()

    class Doubling(keras.layers.Layer):  # type: ignore[name-defined, misc] # keras has no types
        def call(self, values: Any) -> Any:
            return values * 2

    layer = keras.saving.register_keras_serializable("mine")(Doubling) if registered else Doubling
    path = tmp_path / "custom.keras"
    keras.Sequential([keras.Input((32, 32, 3)), layer(), *tiny_layers()]).save(path)
    with pytest.raises(InputError, match=r"needs the custom object 'Doubling'"):
        read_keras_file(path)


def test_load_keras_file_refuses_truncated_weights(tiny_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(tiny_file) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:2_000] if name == "model.weights.h5" else content)
    with pytest.raises(InputError, match=r"Keras cannot load .*damaged\.keras: ") as caught:
        load_keras_file(read_keras_file(damaged))
    assert "\n" not in str(caught.value)


def test_load_keras_file_refuses_an_unknown_function(tiny_file: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.keras"
    with zipfile.ZipFile(tiny_file) as source, zipfile.ZipFile(strange, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = content.replace(b'"softmax"', b'"sharpmax"')
                json.loads(content)
            target.writestr(name, content)
    with pytest.raises(InputError, match=r"Keras cannot load .*sharpmax"):
        load_keras_file(read_keras_file(strange))


def test_preprocess_mode_is_demanded_when_nothing_normalizes(tiny_file: Path) -> None:
    file = read_keras_file(tiny_file)
    with pytest.raises(InputError, match=r"Say it with --preprocess caffe\|tf\|torch\|none"):
        file.preprocess_mode(None)
    assert file.preprocess_mode(PreprocessMode.TORCH) is PreprocessMode.TORCH


@pytest.mark.parametrize("layer", ["Rescaling", "Normalization"])
def test_preprocess_mode_is_none_when_the_model_normalizes(
    layer: str, tiny_layers: Layers, tmp_path: Path
) -> None:
    keras = import_keras()
    normalizing = (
        keras.layers.Rescaling(1 / 255)
        if layer == "Rescaling"
        else keras.layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 2, 3])
    )
    inner = keras.Sequential([keras.Input((32, 32, 3)), normalizing, *tiny_layers()])
    path = tmp_path / "own.keras"
    keras.Sequential([keras.Input((32, 32, 3)), inner]).save(path)
    file = read_keras_file(path)
    assert file.preprocess_mode(None) is PreprocessMode.NONE
    require_classifier(load_keras_file(file), path)


def _rewritten(file: Path, member: str, old: str, new: str) -> Path:
    """A copy of a `.keras` file with another text in its description."""
    path = file.with_name("rewritten.keras")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == member:
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            target.writestr(name, content)
    return path


def test_load_keras_file_warns_of_a_newer_keras(tiny_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    installed = import_keras().__version__
    path = _rewritten(tiny_file, "metadata.json", f'"{installed}"', '"99.1"')
    with caplog.at_level(logging.WARNING):
        load_keras_file(read_keras_file(tiny_file))
        assert not caplog.messages
        load_keras_file(read_keras_file(path))
    assert caplog.messages == [f"{path} was saved by Keras 99.1, and this is {installed}"]


def test_load_keras_file_says_both_versions_when_it_cannot_load_that_of_a_newer_keras(
    tiny_file: Path,
) -> None:
    installed = import_keras().__version__
    newer = _rewritten(tiny_file, "metadata.json", f'"{installed}"', '"99.1"')
    path = _rewritten(
        newer.rename(newer.with_name("newer.keras")), "config.json", '"MaxPooling2D"', '"MaxPooling9D"'
    )
    with pytest.raises(
        InputError, match=rf"Keras {installed} cannot load .*, which Keras 99\.1 saved: .*MaxPooling9D"
    ):
        load_keras_file(read_keras_file(path))


@pytest.mark.parametrize("version", ["null", '"nightly"', "7"])
def test_load_keras_file_takes_a_version_that_is_none(tiny_file: Path, version: str) -> None:
    path = _rewritten(tiny_file, "metadata.json", f'"{import_keras().__version__}"', version)
    load_keras_file(read_keras_file(path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"units": 5', '"units": 0', r"expected a positive integer\. Received: units=0"),
        ('"filters": 4', '"filters": 0', r"Expected a strictly positive value\. Received filters=0"),
        ('"pool_size": [2, 2]', '"pool_size": [40, 40]', r"Computed output size would be zero or negative"),
    ],
)
def test_load_keras_file_refuses_a_layer_of_no_size_in_one_plain_line(
    tiny_file: Path, old: str, new: str, words: str
) -> None:
    path = _rewritten(tiny_file, "config.json", old, new)
    with pytest.raises(InputError, match=words) as caught:
        load_keras_file(read_keras_file(path))
    assert str(caught.value).isprintable()
