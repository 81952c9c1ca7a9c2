"""Weights between numpy and TensorFlow without a second copy: the largest of VGG16 alone has 411 MB.

TensorFlow's own allocator (with oneDNN a BFC allocator) keeps what it once had: initial values that are
replaced at once would cost the size of the network for good. So they, and what replaces them, lie in numpy's
memory.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

_ALIGNMENT_BYTES = 64  # what TensorFlow's CPU kernels demand (EIGEN_MAX_ALIGN_BYTES)


def view_of(variable: "keras.Variable") -> NDArray[Any]:
    """A variable's value as a read-only view of TensorFlow's own memory, by the buffer protocol.

    It keeps that memory alive, and does not follow a later assignment.
    """
    import tensorflow as tf

    return np.asarray(memoryview(tf.convert_to_tensor(variable.value)))


def room_for(variable: "keras.Variable") -> NDArray[np.float32]:
    """An uninitialized float32 array of a variable's shape that `hand_over` can give to TensorFlow."""
    return _aligned(tuple(variable.shape), np.empty)


def hand_over(variable: "keras.Variable", values: NDArray[np.float32]) -> None:
    """Make an array of `room_for` the memory of a variable. Nobody may write to it from then on."""
    if values.size > 0:
        variable.assign(_tensor_of(values))


@contextlib.contextmanager
def arrays_in_numpy_memory(model: "keras.Model") -> Iterator[None]:
    """While it is open, arrays that are assigned to float32 variables lie in numpy's memory."""

    def reading(variable: Any) -> Callable[[Any], Any]:
        usual = variable.assign

        def assign(value: Any) -> Any:
            fits = isinstance(value, np.ndarray) and value.shape == tuple(variable.shape) and value.size
            if not fits or variable.dtype != "float32":
                return usual(value)
            room = room_for(variable)
            np.copyto(room, value)
            return usual(_tensor_of(room))

        return assign

    variables = model.variables
    for variable in variables:
        object.__setattr__(variable, "assign", reading(variable))
    try:
        yield
    finally:
        for variable in variables:
            object.__delattr__(variable, "assign")


def _tensor_of(values: NDArray[np.float32]) -> Any:
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


@lru_cache(maxsize=1)
def unwritten_zeros_class() -> "type[keras.Initializer]":
    """A class of initializers for what is replaced before it is used: zeros in memory nobody has touched."""
    import keras
    import tensorflow as tf

    class UnwrittenZeros(keras.initializers.Initializer):  # type: ignore[misc] # keras has no types
        """Zeros in pages that the operating system has not given out."""

        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            if np.prod(shape) == 0 or (dtype or "float32") != "float32":
                return tf.zeros(shape, dtype or "float32")
            return _tensor_of(_aligned(tuple(shape), np.zeros))

    return UnwrittenZeros


def _aligned(
    shape: tuple[int, ...], allocate: Callable[[int, type[np.uint8]], NDArray[np.uint8]]
) -> NDArray[np.float32]:
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    raw = allocate(size + _ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    return raw[start : start + size].view(np.float32).reshape(shape)
