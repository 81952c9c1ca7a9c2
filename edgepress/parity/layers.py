"""Which layer is the first to leave Keras' way: a version's layers against those of the golden set."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgepress.parity.budget import Budget
from edgepress.parity.golden import GoldenSet, LayerSketch

_PERSISTENT_SHARE = 0.75

Sketches = Mapping[str, NDArray[np.float32]]
"""Name of a golden layer that the file has → its values in it, (N, K) as in `LayerSketch.values`."""


@dataclass(frozen=True)
class LayerFinding:
    """The first layer that diverges.

    Attributes:
        name: Of the Keras layer; where files merge a batch normalization into the one before it, that one's.
        snr_db: Of its values against Keras', in dB; None where it was judged by the logits themselves.
        before: The last comparable layer before it; None if it is the first.
        before_snr_db: Of that layer, in dB; None if there is none, or it is identical.
        compared: Number of layers that the file has a tensor for.
    """

    name: str
    snr_db: float | None
    before: str | None
    before_snr_db: float | None
    compared: int


def first_diverging(
    golden: GoldenSet, sketches: Sketches, budget: Budget, pictures: NDArray[np.intp]
) -> LayerFinding | None:
    """The layer at which a version that fails leaves Keras' way.

    That is the first one below the budget's SNR for layers, if most of those behind it are below, too: an
    error goes on to the end, while a tensor that a runtime has merged with something else stands alone. If no
    layer is that far off, it is the one where the SNR falls most.

    Args:
        golden: Keras' layers.
        sketches: The version's.
        budget: Of the version.
        pictures: The sketches are of these golden pictures.

    Returns:
        None where the network has no layers that could be named.
    """
    present = [layer for layer in golden.layers if layer.name in sketches]
    levels = [_snr_db(layer.values[pictures], sketches[layer.name]) for layer in present]
    below = [level < budget.layer_db for level in levels]
    index = next(
        (i for i, low in enumerate(below) if low and np.mean(below[i:]) >= _PERSISTENT_SHARE),
        None,
    )
    if index is None:
        return _by_fall(golden, present, levels, budget)
    return _finding(present, levels, index)


def _finding(present: list[LayerSketch], levels: list[float], index: int) -> LayerFinding:
    layer = present[index]
    before = present[index - 1].name if index else None
    return LayerFinding(
        layer.merged or layer.name,
        _finite(levels[index]),
        before,
        _finite(levels[index - 1]) if index else None,
        len(present),
    )


def _by_fall(
    golden: GoldenSet, present: list[LayerSketch], levels: list[float], budget: Budget
) -> LayerFinding | None:
    """Where the SNR falls most; if all are sound, the last one, whose output goes by a name of its own."""
    last = golden.layers[-1] if golden.layers else None
    if last is not None and (not present or present[-1] is not last):
        before = present[-1].name if present else None
        level = _finite(levels[-1]) if levels else None
        if not levels or levels[-1] >= budget.structured_db:
            return LayerFinding(last.merged or last.name, None, before, level, len(present))
    if not present:
        return None
    falls = [0.0 if a == b else a - b for a, b in pairwise(levels)]
    index = int(np.argmax(falls)) + 1 if falls else 0
    return _finding(present, levels, index)


def _finite(level: float) -> float | None:
    return level if math.isfinite(level) else None


def _snr_db(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Signal-to-noise ratio of a layer's values: the signal is the values themselves."""
    exact = wanted.astype(np.float64)
    noise = float(np.sum(np.square(found.astype(np.float64) - exact)))
    signal = float(np.sum(np.square(exact)))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and math.isfinite(noise) else -math.inf


def layers_in(names: Iterable[str], layers: frozenset[str]) -> dict[str, str]:
    """Name of each tensor or operation → the layer in it; "vgg16_1/fc1_1/Relu" is of "fc1".

    TensorFlow makes scopes unique by numbers at their ends, and layers have such names, too: "conv_1" may be
    the layer of this name, or "conv". The reading that finds more layers is right.

    Args:
        names: Of fused ones, what stands before the first ";" counts.
        layers: Names of the golden layers, "outer/inner" inside nested models.
    """
    paths = {name: name.split(";")[0] for name in names}
    readings = [
        {name: found for name, path in paths.items() if (found := _layer_in(path, layers, numbered=numbered))}
        for numbered in (False, True)
    ]
    return max(readings, key=lambda reading: len(set(reading.values())))


def _layer_in(path: str, layers: frozenset[str], *, numbered: bool) -> str | None:
    """The layer in a path, whose scopes have numbers at their ends or have none."""
    if path in layers:
        return path
    parts = path.split("/")
    if numbered:
        parts = [
            base if number.isdigit() else part for part in parts for base, _, number in [part.rpartition("_")]
        ]
    spans = ((start, end) for start in range(len(parts)) for end in range(len(parts), start, -1))
    return next((name for start, end in spans if (name := "/".join(parts[start:end])) in layers), None)


def sketch_of(
    layer: LayerSketch, values: NDArray[np.float32], wanted: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """A layer's values, (1, …) in the file's order of axes, at the golden positions; None if they do not fit.

    A map may be stored channels last or first. Where its shape does not tell, the nearer one counts: no wrong
    network looks right in the wrong order.

    Args:
        layer: The golden layer.
        values: Of one picture.
        wanted: (K,) golden values of that picture.
    """
    orders = list(_channels_last(layer.shape, values))
    sketches = [order.reshape(-1)[layer.positions] for order in orders]
    return min(sketches, key=lambda found: float(np.sum(np.abs(found - wanted))), default=None)


def _channels_last(shape: tuple[int, ...], values: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    own = values.shape[1:]
    if own == shape:
        yield values
    if len(shape) == 3 and own == (shape[2], *shape[:2]):
        yield values.transpose(0, 2, 3, 1)
    if own != shape and math.prod(own) == math.prod(shape) == max(own) == max(shape):
        yield values  # (1, 1, C) and (C,)
