"""Keras → TensorFlow SavedModel."""

import errno
import os
from pathlib import Path
from typing import Any

from edgepress.models.keras_import import import_keras
from export.conversion import Conversion, Write, images_spec, named_outputs, preprocessed

SIGNATURE = "serve"


def saved_model_from_keras(conversion: Conversion) -> Write:
    """Trace the network; what is returned writes a SavedModel folder with the signature `serve`.

    Input `images`, outputs by the names of `conversion.output_names`; always NHWC. A plain tf.Module around
    the variables, because Keras' ExportArchive stores every weight twice (1.1 GB instead of 553 MB for VGG16,
    Keras 3.15).

    Returns:
        Writes the folder. Raises OSError where TensorFlow cannot write, in the form that every other writer
        has (ENOSPC for a full disk).
    """
    import_keras()
    import tensorflow as tf

    network = conversion.network

    def call(images: Any) -> Any:
        return named_outputs(conversion, network(preprocessed(conversion, images), training=False))

    serve = tf.function(call, input_signature=[images_spec(conversion)], autograph=False)
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.serve = serve
    serve.get_concrete_function()

    def write(path: Path) -> None:
        try:
            tf.saved_model.save(module, str(path), signatures={SIGNATURE: serve})
        except tf.errors.ResourceExhaustedError as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error

    return write
