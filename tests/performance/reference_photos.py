"""The photos that judge accuracy: five crops of each and their mirror images, none of which calibrated."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.preprocessing import Preprocessing

VIEWS = 10


@dataclass(frozen=True)
class Photo:
    """One photo, seen ten times.

    Attributes:
        views: (10, height, width, 3) uint8 RGB: the corners and the middle, then the same mirrored.
        label: Index of its class folder, in the order of their names.
    """

    views: NDArray[np.uint8]
    label: int


def photos_of(folder: Path, preprocessing: Preprocessing, limit: int | None = None) -> Iterator[Photo]:
    """The photos of `folder`/class/*.jpg, read one at a time; `limit` takes them evenly from all classes."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths = [
        (path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())
    ]
    chosen = range(len(paths)) if limit is None else np.linspace(0, len(paths) - 1, limit).round().astype(int)
    for i in chosen:
        path, label = paths[i]
        with Image.open(path) as image:
            yield Photo(_views(image.convert("RGB"), preprocessing), label)


def _views(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    height, width = preprocessing.height, preprocessing.width
    scale = max(height / image.height, width / image.width) / preprocessing.crop_ratio
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.uint8)
    bottom, right = pixels.shape[0] - height, pixels.shape[1] - width
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    crops = [pixels[top : top + height, left : left + width] for top, left in corners]
    return np.stack([*crops, *(crop[:, ::-1] for crop in crops)])
