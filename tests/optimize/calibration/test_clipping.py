"""Each method on values for which the right range is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from optimize.calibration import CalibrationMethod, Range
from optimize.calibration.clipping import clipped_range
from optimize.calibration.histogram import Histogram

PERCENTILE, ENTROPY, MSE = (
    CalibrationMethod.PERCENTILE,
    CalibrationMethod.ENTROPY,
    CalibrationMethod.MSE,
)
HISTOGRAM_METHODS = [method for method in CalibrationMethod if method.needs_histograms]


def range_of(method: CalibrationMethod, values: NDArray[np.floating]) -> Range:
    found = values.astype(np.float32)
    histogram, seen = Histogram(), Range(float(found.min()), float(found.max()))
    histogram.add(found, seen.lowest, seen.highest)
    return clipped_range(method, histogram, seen)


def half_normal(count: int = 200_000, seed: int = 0) -> NDArray[np.float64]:
    return np.abs(np.random.default_rng(seed).normal(0, 1, count))


@pytest.mark.parametrize("method", HISTOGRAM_METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_clipped_range_lies_inside_of_what_was_seen_and_holds_zero(
    method: CalibrationMethod, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    for values in (
        draw.normal(0, 3, 5000),
        draw.normal(5, 0.1, 5000),  # zero is far outside
        -draw.exponential(1, 5000),
        draw.standard_cauchy(5000),
        np.maximum(draw.normal(-3, 1, 5000), 0),
        np.array([7.0]),
        np.array([-2.5]),
    ):
        seen = Range(float(np.float32(values.min())), float(np.float32(values.max())))
        found = range_of(method, values)
        assert min(seen.lowest, 0) <= found.lowest <= 0 <= found.highest <= max(seen.highest, 0)
        assert found.magnitude > 0


@pytest.mark.parametrize("method", HISTOGRAM_METHODS)
def test_a_rare_value_far_outside_is_clipped(method: CalibrationMethod) -> None:
    bulk = half_normal()
    found = range_of(method, np.concatenate([bulk, [20.0]]))
    assert 3 < found.highest < 12
    assert found.lowest == 0


@pytest.mark.parametrize("method", HISTOGRAM_METHODS)
def test_equally_frequent_values_are_kept(method: CalibrationMethod) -> None:
    found = range_of(method, np.random.default_rng(0).uniform(0, 6, 200_000))
    assert found.highest == pytest.approx(6, rel=0.02)


def test_percentile_leaves_out_its_share() -> None:
    values = np.concatenate([half_normal(), np.zeros(50_000)])
    found = range_of(PERCENTILE, values)
    assert found.highest == pytest.approx(np.quantile(values, 0.9999), rel=2e-3)
    assert 0 < np.mean(values > found.highest) <= 1e-4
    signed = np.random.default_rng(1).normal(1, 2, 400_000)
    both = range_of(PERCENTILE, signed)
    assert both.highest == pytest.approx(np.quantile(signed, 1 - 0.5e-4), rel=5e-3)
    assert both.lowest == pytest.approx(np.quantile(signed, 0.5e-4), rel=5e-3)


def test_percentile_of_a_few_values_keeps_them_all() -> None:
    assert range_of(PERCENTILE, np.arange(1, 1000.0)).highest == 999


def squared_error(values: NDArray[np.floating], threshold: float) -> float:
    step = threshold / 127
    return float(np.mean(np.square(values - np.rint(np.minimum(values, threshold) / step) * step)))


@pytest.mark.parametrize("kind", ["half normal", "exponential", "with outliers"])
def test_mse_is_no_worse_than_any_other_threshold(kind: str) -> None:
    draw = np.random.default_rng(3)
    values = half_normal() if kind == "half normal" else draw.exponential(1, 100_000)
    if kind == "with outliers":
        values[:20] *= 30
    found = squared_error(values, range_of(MSE, values).highest)
    best = min(squared_error(values, t) for t in np.linspace(0.02, 1, 400) * values.max())
    assert found <= 1.02 * best


@pytest.mark.parametrize("method", [ENTROPY, MSE])
def test_exact_zeros_do_not_move_the_threshold(method: CalibrationMethod) -> None:
    values = half_normal(50_000)
    assert range_of(method, values) == range_of(method, np.concatenate([values, np.zeros(500_000)]))


@pytest.mark.parametrize("method", [ENTROPY, MSE])
def test_thresholds_follow_the_unit_of_a_tensor(method: CalibrationMethod) -> None:
    values = np.random.default_rng(5).gamma(0.5, 1, 50_000)
    found, larger = range_of(method, values), range_of(method, 1024 * values)
    assert larger.highest == pytest.approx(1024 * found.highest, rel=1e-6)
