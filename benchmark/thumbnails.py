"""Small pictures of what a version decides otherwise, for the report."""

import base64
import io
import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset
from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing, PreprocessMode

logger = logging.getLogger(__name__)

SIDE = 96
"""Pixels of a thumbnail's side."""

LARGEST_BYTES = 4096
_QUALITIES = (80, 60, 40, 20)


def thumbnails_of(pictures: Dataset, names: Sequence[str]) -> Mapping[str, str]:
    """JPEG pictures in base64, by name: the middle square, 96×96 pixels, at most 4 KB where JPEG can do that.

    Args:
        pictures: Those that were evaluated.
        names: Of some of them.

    Returns:
        Nothing without pillow; a picture that cannot be read any more is missing.
    """
    try:
        import PIL.Image  # noqa: F401  # asks whether it is there
    except ImportError:
        return {}
    wanted = set(names)
    square = Preprocessing(PreprocessMode.NONE, SIDE, SIDE, crop_ratio=1.0)
    found: dict[str, str] = {}
    for picture in pictures.pictures:
        if picture.name in wanted:
            try:
                found[picture.name] = base64.b64encode(_jpeg(picture.read(square))).decode("ascii")
            except InputError as error:
                logger.warning("no thumbnail: %s", error)
    return found


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    for quality in _QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= LARGEST_BYTES:
            break
    return stream.getvalue()
