import numpy as np
import pytest
from PIL import Image

from edgepress.preprocessing import Preprocessing, PreprocessMode

PICTURE = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", [PreprocessMode.CAFFE, PreprocessMode.TF, PreprocessMode.TORCH])
def test_normalize_equals_keras(mode: PreprocessMode) -> None:
    from keras.applications.imagenet_utils import preprocess_input

    wanted = preprocess_input(PICTURE.astype(np.float32), data_format="channels_last", mode=mode.value)
    np.testing.assert_allclose(Preprocessing(mode, 8, 8).normalize(PICTURE), wanted, rtol=0, atol=2e-5)


def test_normalize_leaves_values_alone_when_the_model_does_it_itself() -> None:
    found = Preprocessing(PreprocessMode.NONE, 8, 8).normalize(PICTURE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, PICTURE)


def test_normalize_does_not_change_its_input() -> None:
    before = PICTURE.copy()
    for mode in PreprocessMode:
        Preprocessing(mode, 8, 8).normalize(PICTURE)
    np.testing.assert_array_equal(PICTURE, before)


def test_crop_takes_a_picture_of_the_right_size_as_it_is() -> None:
    found = Preprocessing(PreprocessMode.NONE, 8, 8).crop(Image.fromarray(PICTURE[0]))
    np.testing.assert_array_equal(found, PICTURE[0])


def test_crop_takes_the_middle_without_scaling_when_the_ratio_fits() -> None:
    wide = np.random.default_rng(1).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    found = Preprocessing(PreprocessMode.CAFFE, 224, 224).crop(Image.fromarray(wide))
    np.testing.assert_array_equal(found, wide[16:240, 38:262])


@pytest.mark.parametrize("size", [(10, 10), (500, 20), (20, 500), (1, 1)])
def test_crop_gives_the_models_size_for_any_picture(size: tuple[int, int]) -> None:
    for mode in ("RGB", "L", "RGBA", "P"):
        found = Preprocessing(PreprocessMode.TF, 32, 24).crop(Image.new(mode, size))
        assert found.shape == (32, 24, 3)


def test_preprocessing_survives_json() -> None:
    spec = Preprocessing(PreprocessMode.TORCH, 32, 24, 0.9)
    assert Preprocessing.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_crop_refuses_pixels_that_pillow_would_clip(mode: str) -> None:
    with pytest.raises(ValueError, match=f"its pixels are of mode {mode}, and 8 bits a channel are wanted"):
        Preprocessing(PreprocessMode.NONE, 8, 8).crop(Image.new(mode, (8, 8)))
