"""The one place where this room gets hold of Keras."""

import logging
from types import ModuleType

from edgepress.errors import InputError, MissingRuntimeError


def import_keras() -> ModuleType:
    """Keras on TensorFlow, imported on the CPU.

    Raises:
        MissingRuntimeError: Keras or TensorFlow is not installed.
        InputError: Keras was set to another backend.
    """
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise MissingRuntimeError(error.name or "tensorflow", "keras") from error
    if tf.config.get_visible_devices("GPU"):
        # The reference logits are those of the CPU, without TF32.
        tf.config.set_visible_devices([], "GPU")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise InputError(
            f"Keras runs on the backend {backend!r} here, and export needs tensorflow. "
            "Set KERAS_BACKEND=tensorflow, or remove `backend` from ~/.keras/keras.json."
        )
    tf.get_logger().setLevel(logging.ERROR)
    module: ModuleType = keras
    return module
