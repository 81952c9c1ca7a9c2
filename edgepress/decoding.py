"""From a picture file to upright RGB pixels of 8 bits; in a bundle, this very file does it on the device.

Formats: BMP, GIF, JPEG, PNG, TIFF and WebP, which every wheel of pillow reads; told by the file's first
bytes, not by its name. Of a file with several pictures, the first one counts.

Orientation: a camera often writes the rows as its sensor stands, and says in the EXIF tag `Orientation` how
to turn them. They are turned here. What trains commonly does not do that: neither `tf.io.decode_image` nor
Keras' `load_img` and `image_dataset_from_directory` look at EXIF. But nearly all pictures of the usual
training sets lie upright as stored, so upright pictures are what a network knows, and here it gets what
every viewer shows. Whoever trained on pictures that lay on their side removes the tag. EXIF that cannot be
read is passed over: the picture is taken as it lies.

Transparency is dropped, as pillow's `convert` and Keras' `load_img` do it: what counts is the colour that
is stored below it. Colour profiles are not applied. 16 bits a channel become 8: the upper byte.

Memory: at most `LARGEST_PIXELS` are decoded. A larger JPEG file is decoded at a half, a quarter or an
eighth of each side, as libjpeg can from fewer frequencies (libjpeg.txt, scale_num and scale_denom): at the
largest that suffices, and not below what the network looks at. It takes a file that is decoded row by row,
in one sequential scan, as cameras write it; for others, libjpeg holds the coefficients of the whole
picture. Any other picture of that size is refused. Pillow's own limit, a global of the process, stays as it
is: its readers are called without `Image.open`, which warns and then refuses by that limit.

This file stands alone: the standard library, numpy and pillow, Python 3.10, nothing of edgepress.

SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

DECODING_VERSION = 2
"""Another one for every change that gives other pixels: what is cached by a file's content depends on it."""

LARGEST_PIXELS = 2**26
"""67,108,864: a phone's 50 megapixels and a camera's 61 are decoded as they are, 108 and 200 are reduced.

Pillow takes 4 bytes a pixel, twice while it turns or converts a picture. That is half a gigabyte at most
(0.65 for a progressive JPEG, one for WebP), on devices that have one or two; measured with pillow 13. The
largest JPEG that there can be, 65,535×65,535, has fewer pixels than this at an eighth of each side.
"""

_FIRST_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_ORIENTATION = 0x0112  # EXIF 2.32, section 4.6.4
_START_OF_SCAN = 0xDA  # ITU-T T.81, table B.1, as the next ones
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})


def picture_of(path: Path, least: tuple[int, int]) -> Image:
    """The picture in a file, upright, in pillow's mode RGB.

    Args:
        path: A file.
        least: (width, height) below which a huge picture must not be reduced: `Preprocessing.least_size`.

    Returns:
        The picture in its own size, or a JPEG of more than `LARGEST_PIXELS` reduced to no more than these.

    Raises:
        ValueError: No such file, not readable, of another format, damaged, truncated, too large, or with
            pixels whose range is not known (32-bit integers, floats). The text says why, to stand in
            parentheses; nothing else is raised of a picture.
        ImportError: Pillow is not installed.
    """
    import PIL.Image  # noqa: F401  # asks whether it is there

    try:
        with path.open("rb") as stream:
            image = _recognized(stream)
            _require_known_range(image)
            _bound(image, stream, least)
            image.load()
            orientation = _orientation(image)
        image = _eight_bit(image)  # under the same name: each of them may be a quarter of a gigabyte
        image = _turned(image, orientation)
        return _rgb(image)
    except Exception as error:  # pillow's readers raise whatever a broken file makes them meet
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _recognized(stream: IO[bytes]) -> Image:
    """The picture with its size and mode read, and no pixel yet."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    readers: dict[str, type[ImageFile]] = {
        "BMP": BmpImageFile,
        "GIF": GifImageFile,
        "JPEG": JpegImageFile,  # also of a file with several, which pillow calls MPO
        "PNG": PngImageFile,
        "TIFF": TiffImageFile,
        "WebP": WebPImageFile,
    }
    head = stream.read(10)
    found = next((name for first, name in _FIRST_BYTES.items() if head.startswith(first)), None)
    if found is None:
        raise ValueError("it is no BMP, GIF, JPEG, PNG, TIFF or WebP")
    if found == "GIF" and len(head) == 10:  # pillow's reader makes room for one before it says the size
        _require_size(struct.unpack("<HH", head[6:]))
    stream.seek(0)
    return readers[found](stream)


def _require_known_range(image: Image) -> None:
    if image.mode not in _EIGHT_BIT and not _has_sixteen_bits(image):
        raise ValueError(f"its pixels are of mode {image.mode}, and 8 or 16 bits a channel are wanted")


def _has_sixteen_bits(image: Image) -> bool:
    """Whether it is a 16-bit grey picture; pillow 10 calls such a PNG "I", 32 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _bound(image: Image, stream: IO[bytes], least: tuple[int, int]) -> None:
    """Have a huge JPEG decoded reduced, and refuse any other huge picture."""
    width, height = image.size
    if width * height <= LARGEST_PIXELS:
        return
    if image.format != "JPEG" or not _is_decoded_by_rows(stream):
        _require_size(image.size)
    lies_on_its_side = _orientation(image) >= 5
    factor = _reduction(image.size, least[::-1] if lies_on_its_side else least)
    if factor is None:
        _require_size(image.size)
    else:
        image.draft(None, (width // factor, height // factor))


def _require_size(size: tuple[int, ...]) -> None:
    width, height = size
    if width * height > LARGEST_PIXELS:
        raise ValueError(
            f"it has {width:,} × {height:,} pixels; wanted are at most {LARGEST_PIXELS:,}, or a JPEG that is "
            "not progressive, which is decoded smaller: scale it down"
        )


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int | None:
    """The smallest divisor of both sides that leaves few enough pixels; None where it leaves too few."""
    for factor in (2, 4, 8):
        width, height = (-(-side // factor) for side in size)
        if width >= least[0] and height >= least[1] and width * height <= LARGEST_PIXELS:
            return factor
    return None


def _is_decoded_by_rows(stream: IO[bytes]) -> bool:
    """Whether a JPEG is sequential, with all components in its first scan (ITU-T T.81, annex B.2)."""
    place = stream.tell()
    stream.seek(2)
    components = 0
    try:
        while byte := stream.read(1):
            marker = byte[0]
            if marker in {0x00, 0x01, 0xFF}:  # the byte before a marker's own, or one without a segment
                continue
            segment = stream.read(max(0, int.from_bytes(stream.read(2), "big") - 2))
            if marker == _START_OF_SCAN:
                return components > 0 and segment[:1] == bytes([components])
            if marker in _START_OF_FRAME:
                if marker not in _SEQUENTIAL or len(segment) < 6:
                    return False
                components = segment[5]
        return False
    finally:
        stream.seek(place)


def _orientation(image: Image) -> int:
    """EXIF's number of it, 1 for upright; also where the EXIF cannot be read."""
    if image.format == "TIFF":  # pillow's reader turns it as it loads
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, EOFError, struct.error):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(image: Image, orientation: int) -> Image:
    """Turned as EXIF says.

    Pillow's `exif_transpose` does the same, and then writes the EXIF anew, at which it fails where
    another tag is odd (https://github.com/python-pillow/Pillow/issues/8965).
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image) -> Image:
    """16-bit grey pictures scaled to 8 bits; pillow's own conversion would clip them to white."""
    if not _has_sixteen_bits(image):
        return image
    import numpy as np
    from PIL import Image as Pillow

    upper = (np.asarray(image) >> 8).astype(np.uint8)
    return Pillow.fromarray(upper)


def _rgb(image: Image) -> Image:
    image.info.pop("transparency", None)  # at which `convert` would warn
    return image if image.mode == "RGB" else image.convert("RGB")
