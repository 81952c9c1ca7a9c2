"""Histogram: how often a tensor took which values, gathered in one pass over pictures in any order.

The width of a bin is a power of two: the smallest with which BINS bins hold the largest magnitude. So a wider
range merges whole bins, an index is an exact product and a floor, and the counts are those that all values at
once would give.
"""

import math

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 13
_BINS_EXPONENT = 13
_BLOCK = 1 << 16  # numbers at a time: they stay in the processor's cache
_SMALLEST_EXPONENT = -100  # keeps the scale inside float32


class Histogram:
    """Counts of values in bins of equal width, BINS on each side of zero.

    Attributes:
        counts: (2 * BINS,) int64. Bin i holds the values from (i - BINS) * width up to the next.
        zeros: How many of them are exactly 0.
        exponent: All magnitudes are below 2 ** exponent; None before the first value other than 0.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS, np.int64)
        self.zeros = 0
        self.exponent: int | None = None

    @property
    def width(self) -> float:
        """Width of a bin; 0 where all values are 0."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent - _BINS_EXPONENT)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def add(self, values: NDArray[np.float32], lowest: float, highest: float) -> None:
        """Count values, all of them finite.

        Args:
            values: Of any shape, float32.
            lowest: Their minimum.
            highest: Their maximum.
        """
        magnitude = max(-lowest, highest)
        if magnitude > 0:
            self._widen(max(math.frexp(magnitude)[1], _SMALLEST_EXPONENT))
        if self.exponent is None:
            self._add_zeros(values.size)
            return
        scale = np.float32(1 / self.width)
        flat = values.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            self._add_block(flat[start : start + _BLOCK], scale, signed=lowest < 0)

    def _add_block(self, block: NDArray[np.float32], scale: np.float32, *, signed: bool) -> None:
        scaled = block * scale
        if signed:
            np.floor(scaled, out=scaled)
            self.counts += np.bincount(scaled.astype(np.intp) + BINS, minlength=2 * BINS)
        else:  # the conversion truncates, which is the floor here
            self.counts[BINS:] += np.bincount(scaled.astype(np.intp), minlength=BINS)
        self.zeros += block.size - int(np.count_nonzero(block))

    def _add_zeros(self, count: int) -> None:
        self.counts[BINS] += count
        self.zeros += count

    def _widen(self, exponent: int) -> None:
        """Merge bins until they hold magnitudes below 2 ** exponent."""
        if self.exponent is not None and exponent > self.exponent:
            # Behind as many halvings as there are bins, one bin on each side of zero holds everything.
            shift = min(exponent - self.exponent, _BINS_EXPONENT)
            merged = self.counts.reshape(-1, 1 << shift).sum(axis=1)
            self.counts = np.zeros(2 * BINS, np.int64)
            self.counts[BINS - merged.size // 2 : BINS + merged.size // 2] = merged
        self.exponent = exponent if self.exponent is None else max(exponent, self.exponent)

    def merged(self, other: "Histogram") -> "Histogram":
        """The histogram of the values of both; exact."""
        result = Histogram()
        for part in (self, other):
            widened = Histogram()
            widened.counts, widened.exponent = part.counts.copy(), part.exponent
            exponents = [e for e in (self.exponent, other.exponent) if e is not None]
            if exponents:
                widened._widen(max(exponents))
            result.counts += widened.counts
            result.exponent = widened.exponent
        result.zeros = self.zeros + other.zeros
        return result

    def magnitudes(self) -> NDArray[np.int64]:
        """(BINS,) int64: how many values other than 0 have a magnitude in each bin."""
        folded = self.counts[BINS:] + self.counts[BINS - 1 :: -1]
        folded[0] -= self.zeros
        return folded
