"""A weight on its way into an ONNX file: known by its shape, read when it is written."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.conversion import Array, ReadWeight


@dataclass(frozen=True)
class Weight:
    """A constant of the graph.

    Attributes:
        shape: Of the constant.
        dtype: Of its values.
        read: Gives its values in C order, in an array of any shape: a view of what the weight was made of,
            or something computed that only its user holds.
    """

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    read: ReadWeight

    @classmethod
    def of(cls, value: Array) -> "Weight":
        """One whose value is at hand."""
        return cls(value.shape, value.dtype, lambda: value)

    @classmethod
    def held(cls, read: ReadWeight) -> "Weight":
        """One that is read; here only for its shape."""
        found = read()
        return cls(found.shape, found.dtype, read)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    def value(self) -> Array:
        """The values in the weight's shape; a copy only where a view cannot have it."""
        return self.read().reshape(self.shape)

    def reshaped(self, shape: tuple[int, ...]) -> "Weight":
        """The same values in the same order."""
        return Weight(shape, self.dtype, self.read)

    def transposed(self, axes: tuple[int, ...]) -> "Weight":
        """Axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return Weight(shape, self.dtype, lambda: self.value().transpose(axes))

    def changed(self, change: Callable[[Array], Array]) -> "Weight":
        """Computed when it is read. `change` keeps number and type of the values."""
        return Weight(self.shape, self.dtype, lambda: change(self.value()))
