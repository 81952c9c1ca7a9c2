"""Rounding to 8 bits and back, in numpy: what INT8 does to numbers, apart from any runtime's kernels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimize.calibration import Range
from optimize.recipe import NumberFormat, Recipe

_BITS8 = 255
# Unsigned weights have a zero point in the middle: as many steps as signed ones.
_LARGEST_WEIGHT = {NumberFormat.I8: 127, NumberFormat.U8: 127, NumberFormat.I7: 63}
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class Scheme:
    """How weights and activations are rounded.

    Attributes:
        weight_max: Largest integer of a weight; the smallest is its negative. A scale per output channel.
        symmetric: Whether the zero point of activations is 0, the middle of the signed range.
    """

    weight_max: int = 127
    symmetric: bool = True


TENSORRT = Scheme()
"""Signed and symmetric throughout: the coarsest of the 8-bit forms for what a Relu gives."""


def scheme_of(recipe: Recipe) -> Scheme:
    """How a recipe with integer weights rounds."""
    return Scheme(_LARGEST_WEIGHT[recipe.weights], recipe.family == "tensorrt")


def rounded_weight(weight: NDArray[np.float32], axis: int, scheme: Scheme) -> NDArray[np.float32]:
    """A weight, rounded with a scale per index of `axis`, as float32 of the same shape."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.maximum(largest / np.float32(scheme.weight_max), np.float32(_SMALLEST_SCALE))
    rounded = np.rint(weight / scale)
    rounded *= scale
    return np.asarray(rounded, np.float32)


def rounded_activation(values: NDArray[np.float32], found: Range, scheme: Scheme) -> NDArray[np.float32]:
    """Activations, rounded with the range of their tensor and clipped to it, as float32 of the same shape."""
    if scheme.symmetric:
        scale = np.float32(max(found.magnitude / 127, _SMALLEST_SCALE))
        low, high = -127.0, 127.0
    else:
        lowest, highest = min(found.lowest, 0.0), max(found.highest, 0.0)  # 0 must be exact: padding
        scale = np.float32(max((highest - lowest) / _BITS8, _SMALLEST_SCALE))
        low = float(np.rint(lowest / scale))
        high = low + _BITS8
    rounded = np.rint(values / scale)
    np.clip(rounded, low, high, out=rounded)
    rounded *= scale
    return np.asarray(rounded, np.float32)
