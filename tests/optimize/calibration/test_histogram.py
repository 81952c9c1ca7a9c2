"""The histogram against the counts that all values at once give, whatever the order they came in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from optimize.calibration.histogram import BINS, Histogram

Parts = list[NDArray[np.float32]]


def parts_of(seed: int, *, signed: bool) -> Parts:
    """Pictures of one tensor whose magnitudes lie decades apart, with many zeros."""
    draw = np.random.default_rng(seed)
    scales = 10.0 ** draw.uniform(-6, 6, 9)
    found = [draw.normal(0, scale, draw.integers(1, 4000)).astype(np.float32) for scale in scales]
    found = [part if signed else np.maximum(part, 0) for part in found]
    return [*found, np.zeros(17, np.float32)]


def gathered(parts: Parts) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part, float(part.min()), float(part.max()))
    return histogram


def assert_equal(one: Histogram, other: Histogram) -> None:
    np.testing.assert_array_equal(one.counts, other.counts)
    assert (one.exponent, one.zeros) == (other.exponent, other.zeros)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_histogram_counts_each_value_once_in_any_order(seed: int, signed: bool) -> None:
    parts = parts_of(seed, signed=signed)
    values = np.concatenate(parts)
    found = gathered(parts)
    places = np.floor(values.astype(np.float64) / found.width).astype(int) + BINS
    np.testing.assert_array_equal(found.counts, np.bincount(places, minlength=2 * BINS))
    assert found.zeros == np.count_nonzero(values == 0)
    assert found.total == values.size
    for order in range(3):
        shuffled = np.random.default_rng(order).permutation(len(parts))
        assert_equal(gathered([parts[i] for i in shuffled]), found)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("split", range(11))
def test_merged_histograms_are_those_of_all_values(split: int, signed: bool) -> None:
    parts = parts_of(split, signed=signed)
    assert_equal(gathered(parts[:split]).merged(gathered(parts[split:])), gathered(parts))


def test_the_bins_are_as_narrow_as_the_largest_magnitude_allows() -> None:
    for largest in (1e-20, 0.999, 1.0, 1.001, 4.0, 3e38):
        for sign in (-1, 1):
            found = gathered([np.array([0.1 * largest, sign * largest], np.float32)])
            assert largest / BINS < found.width * (1 + 1e-6)
            assert found.width <= 2 * largest / BINS * (1 + 1e-6)


def test_magnitudes_leave_out_exact_zeros_and_fold_the_sign() -> None:
    found = gathered([np.array([-1.5, -0.25, 0, -0.0, 0.25, 1.0], np.float32)])
    magnitudes = found.magnitudes()
    assert magnitudes.sum() == 4
    assert magnitudes[int(1.0 / found.width)] == 1
    # bins reach from their lower edge up: a negative value on an edge lies below it
    assert magnitudes[int(0.25 / found.width)] == 1
    assert magnitudes[int(0.25 / found.width) - 1] == 1


def test_a_tensor_of_zeros_has_no_width() -> None:
    found = gathered([np.zeros(5, np.float32), np.zeros(3, np.float32)])
    assert (found.width, found.zeros, found.total) == (0.0, 8, 8)
