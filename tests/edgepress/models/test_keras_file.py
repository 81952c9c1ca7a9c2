import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress.errors import InputError
from edgepress.models.keras_file import load_keras_file, read_keras_file, require_classifier
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


def _dense_head(images: Any, units: int = 5) -> Any:
    layers = import_keras().layers
    return layers.Dense(units)(layers.Flatten()(images))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((32,), r"Received: \(None, 32\)"),
        ((32, 32), r"Received: \(None, 32, 32\)"),
        ((None, 32, 3), r"Received: \(None, None, 32, 3\)"),
        ((3, 32, 32), r"Received: \(None, 3, 32, 32\)"),
        ((32, 32, 1), r"Received: \(None, 32, 32, 1\)"),
    ],
)
def test_require_classifier_refuses_another_input(shape: tuple[int | None, ...], words: str) -> None:
    keras = import_keras()
    images = keras.Input(shape)
    values = images if None not in shape else keras.layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, _dense_head(values))
    with pytest.raises(InputError, match=r"fixed height and width \(channels last\) is wanted. " + words):
        require_classifier(model, Path("m.keras"))


def test_require_classifier_refuses_two_inputs() -> None:
    keras = import_keras()
    one, two = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    model = keras.Model([one, two], _dense_head(keras.layers.Add()([one, two])))
    with pytest.raises(InputError, match=r"one input and one output are wanted. Received: 2 inputs"):
        require_classifier(model, Path("m.keras"))


def test_require_classifier_refuses_a_map_of_scores() -> None:
    keras = import_keras()
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.Conv2D(2, 3)(images))
    with pytest.raises(
        InputError, match=r"an output of shape \(batch, classes\).*Received: \(None, 30, 30, 2\)"
    ):
        require_classifier(model, Path("m.keras"))


def test_require_classifier_refuses_half_precision() -> None:
    keras = import_keras()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        images = keras.Input((32, 32, 3))
        model = keras.Model(images, _dense_head(images))
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(InputError, match=r"float32 computation are wanted.*computation float16"):
        require_classifier(model, Path("m.keras"))
