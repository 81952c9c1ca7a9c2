"""Random views of a picture: mirrored, moved and zoomed, brighter or darker."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import MissingRuntimeError

VIEWS_VERSION = 1  # another one for every change that gives other views: cached features depend on it
_LEAST_SIDE_SHARE = 0.8
_BRIGHTNESS = 0.2


def view_of(image: NDArray[np.uint8], identity: str, number: int, seed: int) -> NDArray[np.uint8]:
    """One view of a picture; the same arguments always give the same view.

    Args:
        image: (height, width, 3) uint8 RGB.
        identity: SHA-256 of the picture.
        number: 0 is the picture itself; any other number is a random view of its own.
        seed: Of all views.

    Returns:
        An array of the same shape: mirrored in half of the cases, cut to a window of 80 to 100 % of each side
        and scaled back (bilinear), its values times 0.8 to 1.2.
    """
    if number == 0:
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingRuntimeError("pillow", "data") from error
    digest = hashlib.sha256(f"{identity} {number} {seed}".encode()).digest()
    random = np.random.default_rng(np.frombuffer(digest, np.uint32))
    height, width, _ = image.shape
    share = random.uniform(_LEAST_SIDE_SHARE, 1)
    left, top = random.uniform(0, 1 - share, 2) * (width, height)
    window = (left, top, left + share * width, top + share * height)
    picture = Image.fromarray(image)
    found = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=window))
    if random.random() < 0.5:
        found = found[:, ::-1]
    bright = found * random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
    return np.clip(np.rint(bright), 0, 255).astype(np.uint8)
