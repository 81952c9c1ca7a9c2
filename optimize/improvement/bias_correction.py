"""Bias correction: rounding the weights moves the mean of a layer's output, and its bias moves it back.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
4.2: E[ε x] = ε E[x], where ε is the error of the rounded weights. E[x] comes from the calibration pictures,
per input channel. The padding makes E[x] smaller at the border; that is neglected, as in the paper.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from optimize.improvement.network import Array, FeatureOrder, Layer, Network

_SMALLEST_SCALE = 1e-12
_CHUNK = 256  # output channels at a time: the rounded copy of a dense layer stays small

ChannelMeans = Mapping[str, NDArray[np.float32]]


def correct_biases(
    network: Network, means: ChannelMeans, levels: float, layers: frozenset[str] | None = None
) -> tuple[str, ...]:
    """Subtract from each bias the mean error that rounding the layer's weights will cause, in place.

    Args:
        network: Its biases are changed.
        means: Mean of each input channel (or feature, for a dense layer) of each layer's activation input, by
            the input's name.
        levels: The largest stored weight: 127 for 8 bits, 64 for ONNX Runtime's reduced range.
        layers: Names of those that will be quantized; None for all.

    Returns:
        Names of the corrected layers. One without a bias, or whose input has no means, stays as it is.
    """
    corrected = []
    for name, layer in network.layers.items():
        mean = means.get(layer.reads)
        if layer.bias is None or mean is None or (layers is not None and name not in layers):
            continue
        layer.bias[...] -= mean_error(layer, mean, levels)
        corrected.append(name)
    return tuple(corrected)


def mean_error(layer: Layer, mean: NDArray[np.float32], levels: float) -> Array:
    """(outputs,) float32: mean error of a layer's output when its weights are rounded per output channel.

    Args:
        layer: In FP32; unchanged.
        mean: (inputs,) or, for a dense layer behind a Flatten, (inputs · positions,) mean of its input.
        levels: The largest stored weight; the scale is the channel's largest magnitude over this.
    """
    groups, outputs = layer.kernel.shape[:2]
    weights = _by_position(mean.astype(np.float64).reshape(-1), layer)
    found = np.empty((groups, outputs))
    for begin in range(0, outputs, _CHUNK):
        kernel = layer.kernel[:, begin : begin + _CHUNK]
        error = rounded(kernel, levels) - kernel
        if weights.shape[2] == 1:
            found[:, begin : begin + _CHUNK] = np.einsum(
                "goi,gi->go", error.sum(axis=3, dtype=np.float64), weights[..., 0]
            )
        else:
            found[:, begin : begin + _CHUNK] = np.einsum("goip,gip->go", error, weights, optimize=True)
    return found.ravel().astype(np.float32)


def _by_position(mean: NDArray[np.float64], layer: Layer) -> NDArray[np.float64]:
    """(groups, inputs of a group, 1 or positions) means."""
    groups, _, inputs, positions = layer.kernel.shape
    if mean.size == groups * inputs:
        return mean.reshape(groups, inputs, 1)
    if layer.order is FeatureOrder.POSITION_BY_POSITION:
        mean = mean.reshape(positions, inputs).T
    return mean.reshape(groups, inputs, positions)


def rounded(kernel: Array, levels: float) -> Array:
    """The values that 8-bit weights stand for, symmetric, with a scale per output channel."""
    largest = np.maximum(kernel.max(axis=(2, 3)), -kernel.min(axis=(2, 3)))
    scales = np.maximum(largest / np.float32(levels), np.float32(_SMALLEST_SCALE)).astype(np.float32)
    shaped = scales[:, :, np.newaxis, np.newaxis]
    return np.asarray(
        np.rint(kernel / shaped).clip(-math.ceil(levels), math.floor(levels)) * shaped, np.float32
    )
