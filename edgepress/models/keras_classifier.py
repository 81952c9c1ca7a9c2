"""Whether a loaded Keras model is one that edgepress can treat."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import InputError
from edgepress.models.keras_memory import view_of

if TYPE_CHECKING:
    import keras

_FLOAT32 = "float32"
_PIECE = 1 << 20  # values that are looked at together: the mask takes 1 MB, whatever the size of the kernel
_SCOPE = re.compile(r"[A-Za-z0-9_.\\/>-]*")  # of TensorFlow's graphs


def require_classifier(model: "keras.Model", path: Path) -> None:
    """Check that a model takes one picture, and gives a row of scores first.

    Raises:
        InputError: More than one input; an input that is not (N, H, W, 3) float32 with fixed H and W; a first
            output that is not (N, classes) with at least two classes; further outputs without a batch;
            layers or weights in another precision than float32; a layer's name that TensorFlow does not
            take; NaN or infinity among the weights.
    """
    _require_input(model, path)
    _require_outputs(model, path)
    _require_layers(model, path)
    require_finite(model, path)


def _require_input(model: "keras.Model", path: Path) -> None:
    if len(model.inputs) != 1:
        raise InputError(
            f"{path}: one input is wanted. Received: {len(model.inputs)} inputs. Save the part that "
            "classifies one picture as a model of its own."
        )
    shape, dtype = tuple(model.inputs[0].shape), model.inputs[0].dtype
    if len(shape) != 4 or shape[3] != 3 or None in shape[1:]:
        raise InputError(
            f"{path}: an input of shape (batch, height, width, 3) with fixed height and width (channels "
            f"last) is wanted. Received: {shape}. Rebuild the model with such a keras.Input."
        )
    if shape[0] is not None or dtype != _FLOAT32:
        raise InputError(
            f"{path}: a float32 input with a free batch is wanted. Received: batch {shape[0] or 'free'}, "
            f"input {dtype}. Rebuild the model with such a keras.Input, and load the weights into it."
        )


def _require_outputs(model: "keras.Model", path: Path) -> None:
    keys = _keys_of_first(model.output if len(model.outputs) > 1 else None)
    if len(keys) > 1:
        raise InputError(
            f"{path}: a list of outputs is wanted, the classifying one first. Received: a dict of "
            f"{', '.join(keys)}, which Keras orders by its keys. Save keras.Model(model.inputs, "
            "[model.output['…'], …])."
        )
    shapes = [tuple(output.shape) for output in model.outputs]
    scores = shapes[0]
    if len(scores) != 2 or scores[1] is None or scores[1] < 2:
        raise InputError(
            f"{path}: a first output of shape (batch, classes) with at least 2 classes is wanted. Received: "
            f"{', '.join(map(str, shapes))}. Put the output that classifies first, or give the model a "
            "Dense layer with a unit per class."
        )
    for shape in shapes:
        if shape[:1] != (None,) or None in shape[1:]:
            raise InputError(
                f"{path}: outputs with a row for each picture and a fixed shape are wanted. Received: "
                f"{shape}. Leave that output out."
            )


def _keys_of_first(structure: Any) -> tuple[str, ...]:
    """Keys of the dict that the first output is in, if it is in one."""
    while isinstance(structure, (list, tuple)):
        structure = structure[0]
    return tuple(map(str, structure)) if isinstance(structure, dict) else ()


def _require_layers(model: "keras.Model", path: Path) -> None:
    for layer in model._flatten_layers():  # the only walk into nested models Keras has
        if not _SCOPE.fullmatch(layer.name):
            raise InputError(
                f"{path}: names of layers of letters, digits and _.- are wanted, since TensorFlow takes no "
                f"others. Received: {layer.name!r}. Rename the layer."
            )
        policy = layer.dtype_policy.name
        if layer.quantization_mode is not None:
            raise InputError(
                f"{path}: float32 layers are wanted. Received: {layer.name!r}, quantized by Keras "
                f"({policy}). Save the model before model.quantize(); `edgepress optimize` quantizes files."
            )
        if policy.startswith(("int", "uint")):
            raise InputError(
                f"{path}: float32 layers are wanted. Received: {layer.name!r}, a {type(layer).__name__} that "
                f"gives {policy}. Leave that step out of the network, and take it before."
            )
        if policy != _FLOAT32:
            raise InputError(
                f"{path}: float32 layers are wanted. Received: {layer.name!r} of the policy {policy}. "
                "Rebuild the model with keras.config.set_dtype_policy('float32') and load the weights."
            )
    for variable in model.variables:
        if "float" in variable.dtype and variable.dtype != _FLOAT32:
            raise InputError(
                f"{path}: float32 weights are wanted. Received: {variable.path} in {variable.dtype}. "
                "Rebuild the model with keras.config.set_dtype_policy('float32') and load the weights."
            )


def require_finite(model: "keras.Model", path: Path) -> None:
    """Check that all weights are numbers. They are read in place, in pieces of 1 MiB of values.

    Raises:
        InputError: NaN or infinity among them; the first such weight is named.
    """
    bad = [(variable.path, count) for variable, count in _not_finite(model) if count > 0]
    if not bad:
        return
    name, count = bad[0]
    raise InputError(
        f"{path}: weights that are numbers are wanted. Received: NaN or infinity in {len(bad)} of them, "
        f"{count} times in {name}. Give an earlier checkpoint, from before the training diverged."
    )


def _not_finite(model: "keras.Model") -> Iterator[tuple["keras.Variable", int]]:
    """Each variable of floats with the number of its values that are none."""
    for variable in model.variables:
        if "float" in variable.dtype:
            values = view_of(variable).reshape(-1)
            pieces = (values[i : i + _PIECE] for i in range(0, values.size, _PIECE))
            yield variable, sum(piece.size - int(np.isfinite(piece).sum()) for piece in pieces)
