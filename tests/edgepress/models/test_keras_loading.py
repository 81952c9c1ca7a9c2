import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.models.keras_import import import_keras
from edgepress.models.keras_loading import load_archive
from edgepress.models.keras_memory import hand_over, room_for, view_of
from edgepress.models.vgg16 import VGG16_DIGITS, Kernels, Style, build
from edgepress.models.weights import draw_random


def _nested() -> Any:
    """Convolution with statistics, a layer used twice, a nested model, initializers given as objects."""
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((8, 8, 3))
    twice = layers.Conv2D(3, 3, padding="same", kernel_initializer=keras.initializers.Orthogonal())
    values = layers.BatchNormalization()(twice(twice(images)))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4)], name="inner")
    model = keras.Model(images, layers.PReLU()(inner(values)))
    draw_random(model, 3)
    return model


def _vgg16() -> Any:
    model = build(VGG16_DIGITS, Style.FUNCTIONAL, Kernels.UNWRITTEN)
    draw_random(model, 1)
    return model


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("loaded by Keras alone")


@pytest.mark.parametrize("make", [_nested, _vgg16])
def test_load_archive_gives_what_was_saved_without_keras_own_loader(
    make: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    model.save(tmp_path / "m.keras")
    monkeypatch.setattr(import_keras().saving, "load_model", _refuse)
    loaded = load_archive(tmp_path / "m.keras")
    assert [v.name for v in loaded.variables] == [v.name for v in model.variables]
    for one, other in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(view_of(one), view_of(other))
    images = np.random.default_rng(0).random((2, *model.inputs[0].shape[1:]), np.float32)
    np.testing.assert_array_equal(model(images), loaded(images))


def test_load_archive_leaves_it_to_keras_where_there_is_no_room_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _nested()
    model.save(tmp_path / "m.keras")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    for one, other in zip(model.variables, load_archive(tmp_path / "m.keras").variables, strict=True):
        np.testing.assert_array_equal(view_of(one), view_of(other))


def test_hand_over_gives_the_memory_itself_and_a_view_is_of_the_same() -> None:
    layer = import_keras().layers.Dense(5)
    layer.build((None, 3))
    values = room_for(layer.kernel)
    values[...] = np.arange(15, dtype=np.float32).reshape(3, 5)
    hand_over(layer.kernel, values)
    view = view_of(layer.kernel)
    np.testing.assert_array_equal(view, np.arange(15, dtype=np.float32).reshape(3, 5))
    assert view.ctypes.data == values.ctypes.data
    assert not view.flags.writeable


def test_unwritten_kernels_leave_no_trace_in_a_saved_model(tmp_path: Path) -> None:
    _vgg16().save(tmp_path / "m.keras")
    assert import_keras().saving.load_model(tmp_path / "m.keras").count_params() == VGG16_DIGITS.parameters
