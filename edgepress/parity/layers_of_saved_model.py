"""Values of a SavedModel's layers, with TensorFlow on the CPU."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.parity.layers import layers_in

_SIGNATURE = "serve"
_MOVING = frozenset({"Const", "Placeholder", "ReadVariableOp", "Reshape", "Shape", "Squeeze", "Transpose"})


def layers_of_saved_model(
    path: Path, layers: frozenset[str], feeds: Iterable[NDArray[Any]]
) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Run the signature `serve` up to each layer, picture by picture.

    A layer's value is what the last operation in its name scope makes.

    Args:
        path: SavedModel folder that export wrote: a module with the function `serve`.
        layers: Names of the layers.
        feeds: Its input, one picture at a time.

    Yields:
        Layer → (1, …) float32, channels last.

    Raises:
        MissingRuntimeError: tensorflow is not installed.
        InputError: It is no such folder.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingRuntimeError("tensorflow", "keras") from error
    try:
        loaded = tf.saved_model.load(str(path))
        serve = getattr(loaded, _SIGNATURE).concrete_functions[0]
    except (OSError, ValueError, AttributeError, IndexError, tf.errors.OpError) as error:
        raise InputError(
            f"TensorFlow cannot load the function `{_SIGNATURE}` of {path} ({error}). Export the model anew."
        ) from error
    tensors = _tensors(serve.graph, layers)
    inputs = [placeholder.name for placeholder in serve.inputs]
    definition = serve.graph.as_graph_def()
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    graph = wrapped.graph
    pruned = wrapped.prune(
        [graph.as_graph_element(name) for name in inputs],
        [graph.as_graph_element(name) for name in tensors.values()],
    )
    for feed in feeds:
        found = pruned(tf.constant(feed), *serve.captured_inputs)
        yield {layer: np.asarray(value, np.float32) for layer, value in zip(tensors, found, strict=True)}


def _tensors(graph: Any, layers: frozenset[str]) -> dict[str, str]:
    """Layer → name of the tensor that holds its value."""
    operations = [
        operation
        for operation in graph.get_operations()
        if operation.type not in _MOVING
        and operation.outputs
        and operation.outputs[0].dtype.name == "float32"
        and operation.outputs[0].shape.rank is not None
    ]
    named = layers_in([operation.name for operation in operations], layers)
    return {
        named[operation.name]: operation.outputs[0].name
        for operation in operations
        if operation.name in named
    }
