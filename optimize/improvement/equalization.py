"""Cross-layer equalization: channels of neighbouring layers share their range fairly.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
4.1: what leaves channel i of one layer is divided by s_i, and the weights of the next one that read it are
multiplied by s_i, with s_i = sqrt(r1_i / r2_i), r1_i and r2_i being the largest magnitudes of these weights.

Here each s_i is rounded to a power of two. Such a factor changes exponents only, so the equalized network
gives the very same logits in floating point, bit for bit, as long as nothing underflows. What the rounding
leaves of a difference is at most a factor of two. A network that is no less spread afterwards stays as it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimize.improvement.network import Layer, Link, Network

_MOST_ROUNDS = 50
_LARGEST_EXPONENT = 20

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Equalization:
    """What was done.

    Attributes:
        links: Pairs of layers that share their ranges.
        channels: Channels between them.
        scaled: Those of them whose factor is not 1.
        spread_before: Median over all channels of max(r1/r2, r2/r1), 1 where both layers have the same range.
        spread_after: The same afterwards.
    """

    links: int
    channels: int
    scaled: int
    spread_before: float
    spread_after: float


class _Ranges:
    """Magnitudes of a layer's weights between each input and output channel, and the factors so far."""

    def __init__(self, layer: Layer) -> None:
        kernel = layer.kernel
        # Not the maximum of np.abs: that would be a second copy of the weights.
        self._magnitudes = np.maximum(kernel.max(axis=3), -kernel.min(axis=3)).astype(np.float64)
        groups, outputs, inputs = self._magnitudes.shape
        self.rows = np.ones((groups, outputs))
        self.columns = np.ones((groups, inputs))

    def of_outputs(self) -> Vector:
        """(outputs,) largest magnitude of each output channel."""
        return np.asarray((self._current().max(axis=2)).ravel())

    def of_inputs(self) -> Vector:
        """(inputs,) largest magnitude of what reads each input channel."""
        return np.asarray((self._current().max(axis=1)).ravel())

    def _current(self) -> Vector:
        return np.asarray(self._magnitudes * self.columns[:, np.newaxis, :] / self.rows[:, :, np.newaxis])


def equalize(network: Network) -> Equalization:
    """Equalize all linked layers, in place.

    Args:
        network: Its kernels and biases are changed.

    Returns:
        What was done.
    """
    linked = {name for link in network.links for name in (link.first, link.second)}
    ranges = {name: _Ranges(network.layers[name]) for name in network.layers if name in linked}
    before = _spread(ranges, network.links)
    for _ in range(_MOST_ROUNDS):
        changes = [_balance(ranges[link.first], ranges[link.second]) for link in network.links]
        if not any(changes):
            break
    factors = [ranges[link.first].rows.ravel() for link in network.links]
    channels, after = sum(len(f) for f in factors), _spread(ranges, network.links)
    if after >= before:
        return Equalization(len(network.links), channels, 0, before, before)
    for name, found in ranges.items():
        _apply(network.layers[name], found)
    scaled = int(sum(np.count_nonzero(f != 1) for f in factors))
    return Equalization(len(network.links), channels, scaled, before, after)


def _balance(first: _Ranges, second: _Ranges) -> bool:
    """Move the next factors between two layers; whether any was not 1."""
    given, taken = first.of_outputs(), second.of_inputs()
    alive = (given > 0) & (taken > 0)
    ratios = np.divide(given, taken, out=np.ones_like(given), where=alive)
    exponents = np.rint(np.log2(ratios) / 2)
    # What has been applied already counts: a channel's exponent never leaves the bounds.
    so_far = np.log2(first.rows.ravel())
    exponents = np.clip(so_far + exponents, -_LARGEST_EXPONENT, _LARGEST_EXPONENT) - so_far
    factors = np.exp2(exponents)
    first.rows *= factors.reshape(first.rows.shape)
    second.columns *= factors.reshape(second.columns.shape)
    return bool(np.any(exponents))


def _apply(layer: Layer, ranges: _Ranges) -> None:
    """Scale weights and bias; every factor is a power of two, so nothing is rounded."""
    if not np.all(ranges.columns == 1):
        layer.kernel[...] *= ranges.columns[:, np.newaxis, :, np.newaxis].astype(np.float32)
    if not np.all(ranges.rows == 1):
        inverse = (1 / ranges.rows).astype(np.float32)
        layer.kernel[...] *= inverse[:, :, np.newaxis, np.newaxis]
        if layer.bias is not None:
            layer.bias[...] *= inverse.ravel()


def _spread(ranges: dict[str, _Ranges], links: tuple[Link, ...]) -> float:
    found: list[Vector] = []
    for link in links:
        given, taken = ranges[link.first].of_outputs(), ranges[link.second].of_inputs()
        alive = (given > 0) & (taken > 0)
        found.append(np.exp2(np.abs(np.log2(given[alive] / taken[alive]))))
    return float(np.median(np.concatenate(found))) if found else 1.0
