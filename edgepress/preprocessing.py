"""From a picture to the tensor that a model was trained on. Declared in the manifest, never guessed.

numpy is imported where it is used: the command line knows the modes, and `edgepress doctor` must run where
numpy does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# Keras' own constants, keras/src/applications/imagenet_utils.py, in RGB order.
_IMAGENET_MEAN_255 = (123.68, 116.779, 103.939)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

# Of a thin picture, 1×10,000 say, only the part that is looked at is scaled: the whole might not fit into
# memory. Of others the whole is scaled: pillow rounds some values the other way if it scales a part.
_MOST_SCALED = 64


class PreprocessMode(str, Enum):
    """What happens to the RGB values 0…255. The first three have Keras' meaning."""

    CAFFE = "caffe"  # BGR, ImageNet mean subtracted, not scaled (VGG16)
    TF = "tf"  # RGB scaled to [-1, 1]
    TORCH = "torch"  # RGB scaled to [0, 1], ImageNet mean and deviation
    NONE = "none"  # RGB 0…255 as float: the model has its own Rescaling or Normalization


@dataclass(frozen=True)
class Affine:
    """A preprocessing as a network's first operations: values * scale + offset, then maybe BGR.

    Attributes:
        scale: Of R, G and B.
        offset: Of R, G and B.
        reverses_channels: RGB becomes BGR afterwards.
    """

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    reverses_channels: bool


@dataclass(frozen=True)
class Preprocessing:
    """The whole way from a decoded picture to the model's input.

    Attributes:
        mode: What happens to the values.
        height: Rows of the model's input.
        width: Columns of the model's input.
        crop_ratio: The picture is scaled (bilinear, antialiased) until the crop covers this share of
            its shorter side, then cropped in the middle: 0.875 is ImageNet's 224 out of 256.
            A picture that has the model's size already is taken as it is.
    """

    mode: PreprocessMode
    height: int
    width: int
    crop_ratio: float = 0.875

    @property
    def least_size(self) -> tuple[int, int]:
        """(width, height) below which decoding must not reduce a picture: to it `crop` scales down."""
        return ceil(self.width / self.crop_ratio), ceil(self.height / self.crop_ratio)

    def crop(self, image: Image) -> NDArray[np.uint8]:
        """Scale and crop a picture: any size in, (height, width, 3) uint8 RGB out.

        Args:
            image: As `decoding.picture_of` gives it, or of any other mode with 8 bits a channel.

        Raises:
            ValueError: The picture has 16 or 32 bits a channel, which pillow would clip.
        """
        import numpy as np

        if image.mode == "F" or image.mode.startswith("I"):
            raise ValueError(f"its pixels are of mode {image.mode}, and 8 bits a channel are wanted")
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (self.width, self.height):
            image = self._middle(image)
        return np.asarray(image, dtype=np.uint8)

    def _middle(self, image: Image) -> Image:
        """The middle of the scaled picture."""
        from PIL.Image import Resampling

        scale = max(self.width / image.width, self.height / image.height) / self.crop_ratio
        size = (round(image.width * scale), round(image.height * scale))
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        right, bottom = left + self.width, top + self.height
        if size[0] * size[1] > _MOST_SCALED * self.width * self.height:
            across, down = image.width / size[0], image.height / size[1]
            box = (left * across, top * down, right * across, bottom * down)
            return image.resize((self.width, self.height), Resampling.BILINEAR, box=box)
        if size != image.size:
            image = image.resize(size, Resampling.BILINEAR)
        return image.crop((left, top, right, bottom))

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, height, width, 3) uint8 RGB → the model's input, float32 of the same shape."""
        import numpy as np

        values = images.astype(np.float32)
        if self.mode is PreprocessMode.CAFFE:
            values -= np.asarray(_IMAGENET_MEAN_255, np.float32)
            return np.ascontiguousarray(values[..., ::-1])
        if self.mode is PreprocessMode.TF:
            values /= np.float32(127.5)
            values -= np.float32(1)
        elif self.mode is PreprocessMode.TORCH:
            values /= np.float32(255)
            values -= np.asarray(_IMAGENET_MEAN, np.float32)
            values /= np.asarray(_IMAGENET_DEVIATION, np.float32)
        return values

    @property
    def affine(self) -> Affine:
        """What `normalize` does to the values, up to the rounding of float32."""
        if self.mode is PreprocessMode.CAFFE:
            red, green, blue = _IMAGENET_MEAN_255
            return Affine((1.0, 1.0, 1.0), (-red, -green, -blue), reverses_channels=True)
        if self.mode is PreprocessMode.TF:
            return Affine((1 / 127.5,) * 3, (-1.0, -1.0, -1.0), reverses_channels=False)
        if self.mode is PreprocessMode.TORCH:
            red, green, blue = (1 / (255 * deviation) for deviation in _IMAGENET_DEVIATION)
            pairs = zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True)
            offsets = (-mean / deviation for mean, deviation in pairs)
            return Affine((red, green, blue), (*offsets,), reverses_channels=False)  # type: ignore[arg-type]
        return Affine((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), reverses_channels=False)

    def to_json(self) -> dict[str, Any]:
        """As written to the manifest."""
        return {
            "mode": self.mode.value,
            "height": self.height,
            "width": self.width,
            "crop_ratio": self.crop_ratio,
            "resample": "bilinear",
            "channels": "bgr" if self.mode is PreprocessMode.CAFFE else "rgb",
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`."""
        return cls(
            PreprocessMode(value["mode"]),
            int(value["height"]),
            int(value["width"]),
            float(value["crop_ratio"]),
        )
