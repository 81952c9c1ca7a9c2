"""Keras → TFLite (LiteRT), FP32, with one copy of the weights.

TensorFlow's converter gets the architecture alone, with the kernels as inputs of the function; they become
constants where the file is written.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.interface import Layout
from edgepress.models.keras_import import import_keras
from export.conversion import WEIGHT, Conversion, ReadWeight, WeightedFunction, Write, weighted_function
from export.layer_scopes import marked_layers
from export.tflite_file import require_room, write_tflite
from export.tflite_folding import Kernel, fold_tflite
from export.tflite_names import layer_paths, layers_of_variables

if TYPE_CHECKING:
    import keras

BATCH = 1


def tflite_from_keras(conversion: Conversion) -> Write:
    """Convert the network; what is returned writes a TFLite file of built-in operations.

    Input `images` (N, H, W, 3), outputs by the names of `conversion.output_names`; tensors are named after
    the layers (`export.tflite_names`). The batch is fixed: a dynamic one leaves SHAPE and PACK operations in
    front of the dense part, which full-integer quantization cannot treat.

    Raises:
        InputError: An operation that TFLite does not have (its name is in the message), or more weights than
            one TFLite file holds.
        MissingRuntimeError: LiteRT's description of the format is not installed.
        ProofError: An operation on weights alone would be left.
    """
    import_keras()
    if find_spec("ai_edge_litert") is None:
        raise MissingRuntimeError("ai-edge-litert", "litert")
    network = conversion.network
    require_room(4 * network.count_params())
    fixed = replace(conversion.interface, layout=Layout.NHWC, batch=conversion.interface.batch or BATCH)
    conversion = replace(conversion, interface=fixed)
    function = weighted_function(conversion, _can_be_input(network))
    content = _architecture(function)
    folded = fold_tflite(content, _kernels(function), function.outputs, layer_paths(network), function.folded)

    def write(path: Path) -> None:
        write_tflite(path, folded.model, folded.values)

    return write


def _can_be_input(network: "keras.Model") -> Callable[["keras.Variable"], bool]:
    """Kernels of layers whose operations keep their form when the kernel is no constant.

    The alphas of a PReLU, say, would leave five operations for one.
    """
    layers = import_keras().layers
    kinds = (
        layers.Conv2D,
        layers.DepthwiseConv2D,
        layers.SeparableConv2D,
        layers.Conv2DTranspose,
        layers.Dense,
    )
    # The only walk into nested models Keras has.
    found = [layer for layer in network._flatten_layers() if type(layer) in kinds]
    kernels = {id(variable) for layer in found for variable in layer.weights if len(variable.shape) > 1}
    return lambda variable: id(variable) in kernels


def _architecture(function: WeightedFunction) -> bytes:
    """A TFLite file with every kernel as an input.

    Matrices come in as FULLY_CONNECTED stores them, (units, inputs): given the other way round, TensorFlow's
    converter makes a BATCH_MATMUL, and loses the activation where there is no bias.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    images, *kernels = function.signature
    turned = [
        tf.TensorSpec(
            kernel.shape[::-1] if kernel.shape.rank == 2 else kernel.shape, kernel.dtype, kernel.name
        )
        for kernel in kernels
    ]

    def call(images: Any, *given: Any) -> Any:
        turned_back = (tf.transpose(kernel) if kernel.shape.rank == 2 else kernel for kernel in given)
        return function.call.python_function(images, *turned_back)

    module = tf.Module()
    module.serve = tf.function(call, input_signature=[images, *turned], autograph=False)
    with marked_layers(function.network):
        traced = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content: bytes = converter.convert()
    except ConverterError as error:
        raise _unsupported(str(error)) from error
    return content


def _kernels(function: WeightedFunction) -> dict[str, Kernel]:
    """The kernels in the form in which `_architecture` takes them."""
    layers = layers_of_variables(function.network)
    names = ((WEIGHT.format(i), variable) for i, variable in enumerate(function.network.variables))
    return {
        name: Kernel(layers[id(variable)], _read_as_stored(function.weights[name]))
        for name, variable in names
        if name in function.weights
    }


def _read_as_stored(read: ReadWeight) -> ReadWeight:
    return lambda: read().T if read().ndim == 2 else read()


def _unsupported(message: str) -> InputError:
    operations = sorted(set(re.findall(r"'?tf\.([A-Z]\w*)'? op", message)))
    names = ", ".join(operations) if operations else message.strip().splitlines()[0]
    return InputError(
        f"The model uses what TFLite has no built-in operation for: {names}. "
        "Replace the layer, or leave TFLite out with --format."
    )
