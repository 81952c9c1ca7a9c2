import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.dataset import open_data
from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing, PreprocessMode
from train.features import FeaturesRequest, write_features
from train.pooling import PositionPooling

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def request(colours: Path, tmp_path: Path, layer: str | None, pooling: PositionPooling) -> FeaturesRequest:
    out = tmp_path / "features.npz"
    return FeaturesRequest(
        "vgg16-digits", str(colours), out, tmp_path / "cache", layer, pooling, weights="random", seed=3
    )


@pytest.mark.parametrize(
    ("layer", "pooling", "shape"),
    [
        (None, PositionPooling.NONE, (36, 128)),
        ("block4_conv2", PositionPooling.NONE, (36, 4, 4, 128)),
        ("block4_conv2", PositionPooling.AVERAGE, (36, 128)),
        ("block1_conv1", PositionPooling.MAX, (36, 16)),
        ("flatten", PositionPooling.NONE, (36, 128)),
    ],
)
def test_write_features_gives_what_the_layer_gives(
    colours: Path, tmp_path: Path, layer: str | None, pooling: PositionPooling, shape: tuple[int, ...]
) -> None:
    import keras

    from edgepress.models.vgg16 import VGG16_DIGITS, Style, build
    from edgepress.models.weights import draw_random

    found = write_features(request(colours, tmp_path, layer, pooling))
    assert found.shape == shape
    assert found.layer == (layer or "fc2")
    with np.load(found.path, allow_pickle=False) as arrays:
        features, labels, names = arrays["features"], arrays["labels"], arrays["names"]
        assert list(arrays["classes"]) == ["blue", "green", "red"]
        assert str(arrays["layer"]) == found.layer
        assert len(str(arrays["fingerprint"])) == len(hashlib.sha256().hexdigest())
    pictures = open_data(str(colours)).calibration
    assert list(labels) == [picture.label for picture in pictures.pictures]
    assert list(names) == [picture.name for picture in pictures.pictures]
    model = build(VGG16_DIGITS, Style.FUNCTIONAL)
    draw_random(model, 3)
    upto = keras.Model(model.inputs[0], model.get_layer(found.layer).output)
    inputs = np.concatenate(list(pictures.inputs(Preprocessing(PreprocessMode.TF, 32, 32))))
    wanted = np.asarray(upto(inputs, training=False))
    if pooling is PositionPooling.AVERAGE:
        wanted = wanted.mean((1, 2))
    elif pooling is PositionPooling.MAX:
        wanted = wanted.max((1, 2))
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "pooling", "message"),
    [
        ("block4_conv9", PositionPooling.NONE, "Unknown layer 'block4_conv9'. Did you mean 'block4_conv"),
        ("fc1", PositionPooling.MAX, "--pooling max is for layers with positions, and fc1 gives"),
    ],
)
def test_write_features_refuses(
    colours: Path, tmp_path: Path, layer: str, pooling: PositionPooling, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_features(request(colours, tmp_path, layer, pooling))
    assert not (tmp_path / "features.npz").exists()


def test_features_refuses_a_name_without_npz(cli: Cli, colours: Path, tmp_path: Path) -> None:
    done = cli("features", "vgg16-digits", colours, "--out", tmp_path / "features.txt")
    assert done.returncode == 2
    assert "--out wants a name that ends in .npz" in done.stderr
