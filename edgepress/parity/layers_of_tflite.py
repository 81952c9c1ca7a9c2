"""Values of a TFLite file's layers, with LiteRT's own kernels on the CPU."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.parity.layers import layers_in
from edgepress.runners.litert_runner import dequantized, quantized

_MOVING = frozenset({"CAST", "DEQUANTIZE", "QUANTIZE", "RESHAPE", "TRANSPOSE"})


def layers_of_tflite(
    path: Path, layers: frozenset[str], feeds: Iterable[NDArray[Any]]
) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Run the file without XNNPACK, which keeps no tensors, and give each layer's values, picture by picture.

    A layer's value is the last tensor that is named after it; activations are inside.

    Args:
        path: TFLite file whose tensors are named after layers.
        layers: Their names.
        feeds: Its input, one picture at a time.

    Yields:
        Layer → (1, …) float32, channels last.

    Raises:
        MissingRuntimeError: ai-edge-litert is not installed.
        InputError: It is no TFLite file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise MissingRuntimeError("ai-edge-litert", "litert") from error
    try:
        interpreter = Interpreter(
            model_path=str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"LiteRT cannot load {path}: {reason}. Make the file anew.") from error
    fed = interpreter.get_input_details()[0]
    tensors = _tensors(interpreter, layers)
    for feed in feeds:
        interpreter.set_tensor(fed["index"], quantized(feed, fed))
        interpreter.invoke()
        yield {
            layer: dequantized(interpreter.get_tensor(tensor["index"]), tensor)
            for layer, tensor in tensors.items()
        }


def _tensors(interpreter: Any, layers: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Layer → description of the tensor that holds its value; the file's outputs are left out."""
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    made = [
        details[index]
        for operator in interpreter._get_ops_details()  # there is no public way to ask
        if operator["op_name"] not in _MOVING
        for index in operator["outputs"]
        if index in details and index not in outputs
    ]
    named = layers_in([tensor["name"] for tensor in made], layers)
    return {named[tensor["name"]]: tensor for tensor in made if tensor["name"] in named}
