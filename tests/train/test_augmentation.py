import numpy as np
import pytest
from numpy.typing import NDArray

from train.augmentation import view_of


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """Left half dark, right half bright, a little brighter towards the bottom."""
    values = np.full((32, 48, 3), 60, np.uint8)
    values[:, 24:] = 160
    values += np.arange(32, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    return values


def test_view_of_is_the_picture_itself_for_number_0(image: NDArray[np.uint8]) -> None:
    assert view_of(image, "a", 0, 0) is image


def test_view_of_depends_on_identity_number_and_seed_alone(image: NDArray[np.uint8]) -> None:
    first = view_of(image, "a", 1, 0)
    assert np.array_equal(first, view_of(image, "a", 1, 0))
    for other in (("b", 1, 0), ("a", 2, 0), ("a", 1, 1)):
        assert not np.array_equal(first, view_of(image, *other))


def test_view_of_mirrors_about_half_of_the_pictures(image: NDArray[np.uint8]) -> None:
    views = [view_of(image, str(i), 1, 0) for i in range(200)]
    mirrored = sum(view[:, :12].mean() > view[:, -12:].mean() for view in views)
    assert 70 < mirrored < 130
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view in views)
    ratios = [view.mean() / image.mean() for view in views]
    assert min(ratios) < 0.9
    assert max(ratios) > 1.1
