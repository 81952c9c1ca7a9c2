import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.models.keras_import import import_keras
from edgepress.models.source import ModelChoice, imagenet_classes, resolve
from edgepress.models.vgg16 import VGG16_DIGITS, Style, build
from edgepress.models.weights import draw_random, load_file, load_imagenet


def _fresh(seed: int = 0, style: Style = Style.SEQUENTIAL) -> Any:
    model = build(VGG16_DIGITS, style)
    draw_random(model, seed)
    return model


def _assert_same(one: Any, other: Any) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def _write_legacy(model: Any, path: Path, *, nested: bool = False) -> None:
    """A file in the layout of keras.applications: a group per layer, attributes with the names."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if nested else file
        root.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}_{role}_1:0" for role in ("W", "b")][: len(layer.weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.value.numpy()


def test_draw_random_depends_on_the_seed_alone() -> None:
    _assert_same(_fresh(1, Style.SEQUENTIAL), _fresh(1, Style.FUNCTIONAL))
    assert np.abs(_fresh(1).get_weights()[0] - _fresh(2).get_weights()[0]).max() > 0.01


def test_draw_random_keeps_the_scale_of_activations_and_has_biases() -> None:
    kernels, biases = _fresh().get_weights()[0::2], _fresh().get_weights()[1::2]
    for kernel in kernels[1:]:
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / np.prod(kernel.shape[:-1])), rel=0.1)
    assert all(np.std(bias) > 0.03 for bias in biases)


@pytest.mark.parametrize("source_style", Style)
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_load_file_reads_what_keras_saves(suffix: str, source_style: Style, tmp_path: Path) -> None:
    source, target = _fresh(7, source_style), _fresh(0)
    path = tmp_path / f"other{suffix}"
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    load_file(target, path)
    _assert_same(source, target)


@pytest.mark.parametrize("nested", [True, False])
def test_load_file_reads_the_layout_of_keras_applications(tmp_path: Path, nested: bool) -> None:
    source, target = _fresh(7), _fresh(0)
    _write_legacy(source, tmp_path / "legacy.h5", nested=nested)
    load_file(target, tmp_path / "legacy.h5")
    _assert_same(source, target)


def test_load_file_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No weights file at .*absent\.h5\. Check --weights"):
        load_file(_fresh(), tmp_path / "absent.h5")


def test_load_file_refuses_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"is no weights file: \.weights\.h5, \.h5 or \.keras is wanted"):
        load_file(_fresh(), tmp_path / "weights.bin")


@pytest.mark.parametrize("name", ["cut.weights.h5", "cut.h5", "cut.keras"])
def test_load_file_refuses_a_truncated_file(name: str, tmp_path: Path) -> None:
    source, path = _fresh(7), tmp_path / name
    if name == "cut.h5":
        _write_legacy(source, path)
    elif name == "cut.keras":
        source.save(path)
    else:
        source.save_weights(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cannot be loaded into vgg16-digits|is truncated") as caught:
        load_file(_fresh(), path)
    assert "\n" not in str(caught.value)


def test_load_file_refuses_other_shapes_and_changes_nothing(tmp_path: Path) -> None:
    import h5py

    path, target = tmp_path / "other.h5", _fresh(0)
    _write_legacy(_fresh(7), path)
    with h5py.File(path, "a") as file:
        group = file["predictions"]
        del group["predictions_W_1:0"]
        group["predictions_W_1:0"] = np.zeros((128, 11), np.float32)
    with pytest.raises(InputError, match=r"predictions/kernel is \(128, 10\) here and \(128, 11\) there"):
        load_file(target, path)
    _assert_same(target, _fresh(0))


def test_load_file_refuses_another_number_of_weights(tmp_path: Path) -> None:
    keras = import_keras()
    path = tmp_path / "short.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    with pytest.raises(InputError, match=r"short\.keras has 2 weights, and vgg16-digits has 32"):
        load_file(_fresh(), path)


def test_load_imagenet_says_the_ways_out_when_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from keras.src.applications import vgg16 as keras_vgg16
    from keras.src.backend.config import keras_home
    from keras.src.utils import file_utils

    with socket.socket() as closed:  # bound, not listening: a connection is refused at once
        closed.bind(("127.0.0.1", 0))
        fake_url = f"http://127.0.0.1:{closed.getsockname()[1]}/vgg16.h5"
        monkeypatch.setattr(keras_vgg16, "WEIGHTS_PATH", fake_url)
        monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path))
        with pytest.raises(InputError, match=r"not in Keras' cache and could not be downloaded") as caught:
            load_imagenet(build(VGG16_DIGITS, Style.SEQUENTIAL))
    assert file_utils.config.keras_home() != keras_home()
    message = str(caught.value)
    for way_out in ("~/.keras/models", "--weights FILE", "--weights random", "tf_kernels.h5"):
        assert way_out in message
    assert "\n" not in message
    assert capfd.readouterr().out == ""
    assert not list(tmp_path.rglob("*.h5"))
    assert socket.getdefaulttimeout() is None


def test_imagenet_classes_are_a_thousand_names_in_keras_order() -> None:
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    for index, name in (
        (0, "tench"), (1, "goldfish"), (207, "golden retriever"), (281, "tabby"), (388, "giant panda"),
        (134, "crane (bird)"), (517, "crane (machine)"), (954, "banana"), (999, "toilet tissue"),
    ):  # fmt: skip
        assert names[index] == name


@pytest.mark.parametrize(("weights", "named"), [(None, True), ("random", False)])
def test_vgg16_has_the_names_of_imagenet_unless_its_weights_are_random(
    tmp_path: Path, weights: str | None, named: bool
) -> None:
    source = resolve(ModelChoice("vgg16", weights, Style.FUNCTIONAL, None, 0, tmp_path))
    assert source.labels == (imagenet_classes() if named else None)
