from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS, Style, build
from edgepress.models.weights import draw_random
from edgepress.preprocessing import Preprocessing, PreprocessMode

CropsOf = Callable[[Preprocessing], NDArray[np.float32]]


def test_parameters_are_those_of_the_paper() -> None:
    assert VGG16.convolution_parameters == 14_714_688
    assert VGG16.dense_parameters == 123_642_856
    assert VGG16.parameters == 138_357_544


@pytest.mark.parametrize("style", Style)
def test_build_gives_the_parameters_of_the_table_when_digits(style: Style) -> None:
    model = build(VGG16_DIGITS, style)
    assert model.count_params() == VGG16_DIGITS.parameters == 955_098
    widths = [
        layer.filters for layer in model.layers if layer.name.startswith("block") and "conv" in layer.name
    ]
    assert widths == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]


def test_build_gives_a_model_of_the_style() -> None:
    keras = import_keras()
    assert isinstance(build(VGG16_DIGITS, Style.SEQUENTIAL), keras.Sequential)
    assert not isinstance(build(VGG16_DIGITS, Style.FUNCTIONAL), keras.Sequential)


@pytest.mark.slow
@pytest.mark.parametrize("style", Style)
def test_build_equals_keras_applications_layer_by_layer(style: Style, crops_of_photos: CropsOf) -> None:
    keras = import_keras()
    ours, theirs = build(VGG16, style), keras.applications.VGG16(weights=None)
    assert ours.count_params() == theirs.count_params() == 138_357_544
    wanted = [layer for layer in theirs.layers if not isinstance(layer, keras.layers.InputLayer)]
    found = [layer for layer in ours.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert [layer.name for layer in found] == [layer.name for layer in wanted]
    assert [layer.output.shape for layer in found] == [layer.output.shape for layer in wanted]
    assert found[-4].output.shape == (None, 25_088)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]

    draw_random(ours, seed=3)
    for target, source in zip(theirs.weights, ours.weights, strict=True):
        target.assign(source)
    images = crops_of_photos(Preprocessing(PreprocessMode.CAFFE, 224, 224))[::3]
    for model in (ours, theirs):
        model.layers[-1].activation = keras.activations.linear
    np.testing.assert_array_equal(
        np.asarray(ours(images, training=False)), np.asarray(theirs(images, training=False))
    )


def test_build_names_layers_so_that_weights_load_by_name(tmp_path: Path) -> None:
    names = [layer.name for layer in build(VGG16_DIGITS, Style.SEQUENTIAL).layers]
    assert names[:3] == ["block1_conv1", "block1_conv2", "block1_pool"]
    assert names[-4:] == ["flatten", "fc1", "fc2", "predictions"]
