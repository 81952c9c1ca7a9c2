"""What a network gives beside the scores of the classes: an auxiliary head, a feature vector, a map."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError, ProofError
from edgepress.interface import Scores
from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]

FURTHER_SNR_FLOOR_DB = 60.0
"""What a further output must reach against Keras'.

Less than the 100 dB of logits, because it may lie behind any function: a softmax multiplies the noise of its
logits by their size. A layer whose scale is off by 2 % still falls below 40 dB.
"""

_GRANTED_ULPS = 16
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.-]*")  # what TensorFlow takes as a scope
_RESERVED = frozenset({"images", *(scores.value for scores in Scores)})


def further_names(network: "keras.Model") -> tuple[str, ...]:
    """Names of all outputs but the first: as Keras calls them, the layers that they come from.

    Several outputs of one nested model have its name in Keras; here they are called after the layers inside.

    Raises:
        InputError: A name that is there twice, that files use for something else, or that TensorFlow
            does not take.
    """
    names = tuple(_layer_name(tensor) for tensor in network.outputs[1:])
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(
                f"{network.name} has {count} outputs of the name {name!r}, and each needs its own. Give "
                "each output a layer (keras.layers.Identity(name=…)) that is called as the output should be."
            )
        if name in _RESERVED or not _NAME.fullmatch(name):
            raise InputError(
                f"{network.name} has an output of the name {name!r}; letters, digits and _.- are wanted, "
                f"and not {', '.join(sorted(_RESERVED))}, which files use themselves. Rename its layer."
            )
    return names


def _layer_name(tensor: Any) -> str:
    history = tensor._keras_history  # the only record of which layer made a tensor
    layer = history.operation
    if isinstance(layer, import_keras().Model) and len(layer.outputs) > 1:
        return _layer_name(layer.outputs[history.tensor_index])
    name: str = layer.name
    return name


def further_outputs(network: "keras.Model", images: NDArray[np.float32]) -> tuple[Array, ...]:
    """What Keras gives beside the logits, in the order of `further_names`, (N, …) each."""
    if len(network.outputs) == 1:
        return ()
    _, *others = import_keras().tree.flatten(network(images, training=False))
    return tuple(np.asarray(value) for value in others)


def require_further_outputs(wanted: Mapping[str, Array], found: Mapping[str, Array], file_name: str) -> None:
    """Check that a file gives what Keras gives beside the logits, up to floating-point noise.

    The signal is the spread of an output's values, since what they have in common hides everything; of a
    single value it is the value. 16 units in the last place of the largest value are granted.

    Args:
        wanted: Keras' outputs by name, (N, …) each.
        found: The file's, of which there may be more.
        file_name: For the error.

    Raises:
        ProofError: One is missing, of another shape, or differs by more; it is named.
    """
    for name, reference in wanted.items():
        other = found.get(name)
        if other is None or other.shape != reference.shape:
            got = "none" if other is None else str(other.shape)
            raise ProofError(
                f"{file_name}: an output {name!r} of shape {reference.shape} was wanted, got {got}. "
                "The conversion is wrong; the file is not kept."
            )
        noise, granted = _noise_and_granted(reference, other)
        if not noise <= granted:
            raise ProofError(
                f"{file_name}: the output {name!r} is not the one of its reference: an RMS error of "
                f"{noise:.1e} (wanted at most {granted:.1e}). The conversion is wrong; the file is not kept."
            )


def _noise_and_granted(reference: Array, other: Array) -> tuple[float, float]:
    """RMS of the difference, and what it may be."""
    rows = reference.reshape(len(reference), -1).astype(np.float64)
    noise = _rms(other.reshape(rows.shape).astype(np.float64) - rows)
    spread = rows - rows.mean(axis=1, keepdims=True) if rows.shape[1] > 1 else rows
    rounding = _GRANTED_ULPS * float(np.finfo(np.float32).eps) * float(np.abs(rows).max(initial=0))
    return noise, max(_rms(spread) * 10 ** (-FURTHER_SNR_FLOOR_DB / 20), rounding)


def _rms(values: Array) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
