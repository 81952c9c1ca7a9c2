"""Model files that cannot be pressed, and odd ones that can: what `edgepress export` makes of them."""

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.artifact import Format
from edgepress.cli.main import main
from edgepress.models.keras_import import import_keras
from edgepress.preprocessing import PreprocessMode
from export.stage import ExportRequest, export_model

SIDE = 8


def _save(path: Path, outputs_of: Callable[[Any], Any], **of_input: Any) -> Path:
    keras = import_keras()
    images = keras.Input(**{"shape": (SIDE, SIDE, 3), **of_input})
    keras.Model(images, outputs_of(images), name="net").save(path)
    return path


def _dense(values: Any, **more: Any) -> Any:
    layers = import_keras().layers
    return layers.Dense(2, name="scores", **more)(layers.Flatten(name="flat")(values))


def _erfinv(images: Any) -> Any:
    return _dense(import_keras().ops.erfinv(images * 0.5))


def _averaged(images: Any) -> Any:
    return import_keras().layers.GlobalAveragePooling2D()(images)


def _nan(images: Any) -> Any:
    return _dense(images, kernel_initializer=import_keras().initializers.Constant(np.nan))


def _overflowing(images: Any) -> Any:
    """Weights that are numbers, and scores that are none."""
    scaled = import_keras().layers.Rescaling(3e38, name="huge")(images)
    return _dense(scaled, kernel_initializer="ones")


def _words(images: Any) -> Any:
    return _dense(import_keras().layers.StringLookup(vocabulary=["a"])(images))


def _hashed(images: Any) -> Any:
    layers = import_keras().layers
    return layers.Dense(2)(layers.Rescaling(1.0)(layers.Hashing(3, name="hashed")(layers.Flatten()(images))))


def _recurrent(images: Any) -> Any:
    layers = import_keras().layers
    return layers.Dense(2)(layers.GRU(4, name="gru")(layers.Reshape((SIDE, 3 * SIDE))(images)))


def _one_half(images: Any) -> Any:
    layers = import_keras().layers
    return _dense(layers.Conv2D(4, 3, dtype="mixed_float16", name="half")(images))


BAD: list[tuple[str, Callable[[Any], Any], dict[str, Any], str]] = [
    ("no converter", _erfinv, {}, "or leave ONNX out with --format"),
    (
        "dynamic",
        _averaged,
        {"shape": (None, None, 3)},
        "fixed height",
    ),
    ("gray", _dense, {"shape": (SIDE, SIDE, 1)}, "Received: (None, 8, 8, 1)"),
    (
        "integers",
        lambda x: _dense(import_keras().layers.Rescaling(1 / 255)(x)),
        {"dtype": "uint8"},
        "input uint8",
    ),
    ("batch", _dense, {"batch_size": 4}, "Received: batch 4"),
    ("NaN", _nan, {}, "NaN or infinity in 1 of them, 384 times in scores/kernel"),
    ("overflow", _overflowing, {}, "net gives NaN or infinity in Keras already"),
    ("words", _words, {}, "net cannot be run on a picture by Keras itself"),
    ("hashes", _hashed, {}, "'hashed', a Hashing that gives int64. Leave that step out of the network"),
    ("recurrent", _recurrent, {}, "layer 'gru' needs Loop, which cannot be converted"),
    ("half", _one_half, {}, "'half' of the policy mixed_float16"),
    ("map", lambda x: x * 2, {}, "Put the output that classifies first"),
    (
        "dict",
        lambda x: {"b": _dense(x), "a": x},
        {},
        "Received: a dict of b, a, which Keras orders by its keys",
    ),
    (
        "name",
        lambda x: [_dense(x), import_keras().layers.ReLU(name="logits")(x)],
        {},
        "an output of the name 'logits'",
    ),
]


@pytest.mark.parametrize(
    ("outputs_of", "of_input", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_export_refuses_in_one_line_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outputs_of: Callable[[Any], Any],
    of_input: dict[str, Any],
    words: str,
) -> None:
    model, out = _save(tmp_path / "m.keras", outputs_of, **of_input), tmp_path / "out"
    capsys.readouterr()
    assert main(["export", str(model), "--preprocess", "tf", "--out", str(out)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgepress: ")]
    assert len(said) == 1
    assert words in said[0]
    assert said[0].isprintable()
    assert not list(out.glob("[!.]*"))


def test_export_refuses_what_tflite_lacks_before_other_formats_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = _save(tmp_path / "m.keras", _erfinv), tmp_path / "out"
    arguments = ["--preprocess", "tf", "--format", "saved_model", "tflite", "--out", str(out)]
    assert main(["export", str(model), *arguments]) == 2
    assert "TFLite has no built-in operation for: Erfinv. Replace the layer" in capsys.readouterr().err
    assert not list(out.glob("[!.]*"))


def test_export_refuses_what_keras_has_quantized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keras = import_keras()
    images = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(images, _dense(images))
    model.quantize("int8")
    model.save(tmp_path / "m.keras")
    assert (
        main(["export", str(tmp_path / "m.keras"), "--preprocess", "tf", "--out", str(tmp_path / "out")]) == 2
    )
    assert "'scores', quantized by Keras (int8_from_float32)" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("[!.]*"))


def _augmented(images: Any) -> Any:
    layers = import_keras().layers
    values = layers.RandomFlip()(images)
    values = layers.RandomRotation(0.2)(values)
    values = layers.GaussianNoise(0.3)(layers.Conv2D(4, 3)(values))
    return _dense(layers.Dropout(0.5)(values), activation="softmax")


GOOD: list[tuple[str, Callable[[Any], Any]]] = [
    ("augmentation", _augmented),
    ("dict of one", lambda x: {"main": _dense(x, activation="softmax")}),
    ("nested outputs", lambda x: [_dense(x), {"b": import_keras().layers.ReLU(name="b")(x)}]),
]


@pytest.mark.parametrize("outputs_of", [case[1] for case in GOOD], ids=[case[0] for case in GOOD])
def test_export_takes_an_odd_model(
    request_for: Callable[..., ExportRequest], tmp_path: Path, outputs_of: Callable[[Any], Any]
) -> None:
    model = _save(tmp_path / "m.keras", outputs_of)
    manifest = export_model(request_for(model, preprocess=PreprocessMode.TF))
    assert [artifact.format for artifact in manifest.artifacts] == [
        Format.SAVED_MODEL,
        Format.ONNX,
        Format.TFLITE,
    ]


def test_export_refuses_weights_of_vgg16_that_are_no_numbers(
    request_for: Callable[..., ExportRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgepress.models.vgg16 import VGG16_DIGITS, Style, build

    network = build(VGG16_DIGITS, Style.SEQUENTIAL)
    layer = network.get_layer("block2_conv1")
    kernel, bias = layer.get_weights()
    kernel[0, 1, 2, 3] = np.inf
    layer.set_weights([kernel, bias])
    network.save_weights(tmp_path / "m.weights.h5")
    arguments = ["--weights", str(tmp_path / "m.weights.h5"), "--out", str(tmp_path / "out")]
    assert main(["export", "vgg16-digits", *arguments]) == 2
    assert (
        "m.weights.h5: weights that are numbers are wanted. Received: NaN or infinity in 1 of them"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_export_of_a_newer_keras_says_so(
    request_for: Callable[..., ExportRequest],
    tiny_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    newer = tmp_path / "newer.keras"
    with zipfile.ZipFile(tiny_file) as source, zipfile.ZipFile(newer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = content.replace(f'"{import_keras().__version__}"'.encode(), b'"99.0"')
            target.writestr(name, content)
    with caplog.at_level(logging.WARNING):
        export_model(request_for(newer, preprocess=PreprocessMode.TF, formats=(Format.ONNX,)))
    assert any("newer.keras was saved by Keras 99.0" in message for message in caplog.messages)
