"""Which pictures are golden: photos, one drawn picture, and flat ones that no classifier expects."""

import logging
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Picture, drawn_from
from edgepress.decoding import picture_of
from edgepress.parity.golden import PictureKind
from edgepress.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

PHOTOS = 6
_SEED = 0
_WAVES = 6
_COLOUR = (200, 90, 30)  # another value for each channel: red and blue swapped is another colour


def golden_pictures(
    data: str | None, preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], tuple[PictureKind, ...]]:
    """The golden pictures and what they show.

    Args:
        data: DATA to draw the photos from; None for crops of the two photos that scikit-learn ships.
        preprocessing: Of the model: their size.

    Returns:
        (N, height, width, 3) uint8 RGB, the drawn picture first, and N kinds.

    Raises:
        InputError: DATA that cannot be read.
    """
    height, width = preprocessing.height, preprocessing.width
    photos = _shipped_photos(preprocessing) if data is None else _drawn_photos(data, preprocessing)
    kinds = (PictureKind.WAVES, *[PictureKind.PHOTO] * len(photos))
    flat = {
        PictureKind.ZEROS: (0, 0, 0),
        PictureKind.SATURATED: (255, 255, 255),
        PictureKind.SINGLE_COLOUR: _COLOUR,
    }
    pictures = [
        smooth_picture(height, width, _SEED),
        *photos,
        *(np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)) for colour in flat.values()),
    ]
    return np.stack(pictures), (*kinds, *flat)


def smooth_picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A (height, width, 3) uint8 RGB picture of seeded smooth waves: structure at several scales.

    Noise or a constant would leave most channels of a network equal everywhere, and so hide a wrong
    order of rows, columns or channels.
    """
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    picture = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(_WAVES):
            along_rows, along_columns, phase = generator.uniform(-8, 8, 3)
            picture[..., channel] += np.sin(along_rows * rows + along_columns * columns + phase)
    low, high = picture.min(), picture.max()
    scaled: NDArray[np.uint8] = np.round((picture - low) / (high - low) * 255).astype(np.uint8)
    return scaled


def _drawn_photos(data: str, preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
    pictures: tuple[Picture, ...] = drawn_from(data, PHOTOS, _SEED).pictures
    return [picture.read(preprocessing) for picture in pictures]


def _shipped_photos(preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
    """Square windows of the photos inside scikit-learn; none, and a warning, where it is not installed."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations or find_spec("PIL") is None:
        logger.warning(
            "no photos in the golden set, a drawn picture only: it takes edgepress[data], or --data"
        )
        return []
    folder = Path(found.submodule_search_locations[0], "datasets", "images")
    windows = []
    for name in ("china.jpg", "flower.jpg"):
        photo = picture_of(folder / name, preprocessing.least_size)
        side = min(photo.size)
        step = (photo.width - side) // (PHOTOS // 2 - 1)
        windows += [
            photo.crop((left, 0, left + side, side)) for left in range(0, photo.width - side + 1, step)
        ]
    return [preprocessing.crop(window) for window in windows]
