"""Keras → TFLite (LiteRT), FP32."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError

if TYPE_CHECKING:
    import keras

BATCH = 1


def tflite_from_keras(network: "keras.Model", path: Path) -> None:
    """Write a TFLite file of built-in operations: `images` (1, H, W, 3) → `logits` (1, classes).

    The batch is fixed: a dynamic one leaves SHAPE and PACK operations in front of the dense part, which
    full-integer quantization cannot treat.

    Raises:
        InputError: An operation that TFLite does not have (its name is in the message).
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    _, height, width, channels = network.inputs[0].shape

    signature = [tf.TensorSpec([BATCH, height, width, channels], tf.float32, name="images")]

    def logits(images: Any) -> Any:
        return {"logits": network(images, training=False)}

    serve = tf.function(logits, input_signature=signature, autograph=False)
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.serve = serve
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except ConverterError as error:
        raise _unsupported(str(error)) from error
    path.write_bytes(content)


def _unsupported(message: str) -> InputError:
    operations = sorted(set(re.findall(r"'?tf\.([A-Z]\w*)'? op", message)))
    names = ", ".join(operations) if operations else message.strip().splitlines()[0]
    return InputError(
        f"The model uses what TFLite has no built-in operation for: {names}. "
        "Replace the layer, or leave TFLite out with --format."
    )
