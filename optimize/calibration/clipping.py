"""From a histogram to a range: what is kept and what is clipped. The methods' sources are in `method`."""

import numpy as np
from numpy.typing import NDArray

from optimize.calibration.histogram import BINS, Histogram
from optimize.calibration.method import CalibrationMethod
from optimize.calibration.range import Range

_ENTROPY_CANDIDATES = 256
_MSE_CANDIDATES = 256
_SMALLEST_SHARE = 1e-12  # stands for the logarithm of 0


def clipped_range(method: CalibrationMethod, histogram: Histogram, seen: Range) -> Range:
    """The range that a method gives a tensor.

    Args:
        method: One that looks at histograms.
        histogram: Of the tensor's values.
        seen: Smallest and largest of them.

    Returns:
        A range inside of `seen` with zero in it.
    """
    seen = seen.with_range(Range(0.0, 0.0))
    parameter = method.parameter
    if seen.is_dead or parameter is None:
        return seen
    if method is CalibrationMethod.PERCENTILE:
        return percentile_range(histogram, parameter).within(seen)
    find = entropy_threshold if method is CalibrationMethod.ENTROPY else mse_threshold
    threshold = find(histogram.magnitudes(), int(parameter)) * histogram.width
    return Range(-threshold, threshold).within(seen)


def percentile_range(histogram: Histogram, percent: float) -> Range:
    """The smallest range of whole bins, zero inside, that leaves out at most 100 - `percent` % of the values.

    Where there are values of both signs, at most half of that at each end.
    """
    counts, width = histogram.counts, histogram.width
    signed = bool(counts[:BINS].any()) and bool(counts[BINS:].any())
    allowed = histogram.total * (1 - percent / 100) / (2 if signed else 1)
    below = np.cumsum(counts)
    above = histogram.total - below
    first = int(np.flatnonzero(below - counts <= allowed)[-1])
    last = int(np.flatnonzero(above <= allowed)[0])
    return Range(min(0, first - BINS) * width, max(0, last + 1 - BINS) * width)


def entropy_threshold(magnitudes: NDArray[np.int64], levels: int) -> int:
    """The number of bins to keep with the least divergence; what lies behind is clipped into the last.

    Args:
        magnitudes: (BINS,) int64 counts, zeros left out.
        levels: That the kept bins are rounded to.
    """
    top = _occupied(magnitudes)
    if top <= levels:
        return top
    candidates = np.unique(np.linspace(levels, top, _ENTROPY_CANDIDATES).round().astype(int))
    divergences = [_divergence(magnitudes, int(kept), levels) for kept in candidates]
    return int(candidates[-1 - int(np.argmin(divergences[::-1]))])  # of equals, the one that clips less


def _divergence(magnitudes: NDArray[np.int64], kept: int, levels: int) -> float:
    """Kullback-Leibler divergence of the values' distribution from that of their levels, in nats."""
    inside = magnitudes[:kept].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += magnitudes[kept:].sum()
    filled = clipped > 0
    starts = np.arange(levels) * kept // levels
    sizes = np.diff(starts, append=kept)
    shares = np.add.reduceat(inside, starts) / np.maximum(np.add.reduceat(filled.astype(np.int64), starts), 1)
    rounded = np.repeat(shares, sizes)[filled] / max(inside.sum(), 1.0)
    exact = clipped[filled] / clipped.sum()
    return float(np.sum(exact * np.log(exact / np.maximum(rounded, _SMALLEST_SHARE))))


def mse_threshold(magnitudes: NDArray[np.int64], levels: int) -> int:
    """The number of bins to keep with the least squared error of the clipped and rounded values.

    Args:
        magnitudes: (BINS,) int64 counts, zeros left out.
        levels: That magnitudes are rounded to, 0 among them.
    """
    top = _occupied(magnitudes)
    # Evenly for the usual case, by a factor for a few values far outside.
    even, uneven = np.linspace(1, top, _MSE_CANDIDATES), np.geomspace(1, max(top, 1), _MSE_CANDIDATES)
    candidates = np.unique(np.concatenate([even, uneven]).round().astype(int))
    places = np.flatnonzero(magnitudes)
    centres, counts = places + 0.5, magnitudes[places]

    def error(kept: int) -> float:
        step = kept / (levels - 1)
        rounded = np.minimum(np.rint(centres / step), levels - 1) * step
        return float(counts @ np.square(centres - rounded))

    errors = [error(int(kept)) for kept in candidates]
    return int(candidates[-1 - int(np.argmin(errors[::-1]))])


def _occupied(magnitudes: NDArray[np.int64]) -> int:
    """Number of bins up to the last that holds something; at least 1."""
    found = np.flatnonzero(magnitudes)
    return int(found[-1]) + 1 if found.size else 1
