"""From raw samples to the numbers of results.json. Pure numpy."""

import math

import numpy as np
from numpy.typing import NDArray

from benchmark.interleave import Run
from benchmark.measurement import Basis, Latency, Speedup
from edgepress.metrics import median_ci95, median_with_ci95, minimum_samples

_P90 = 0.9
_P99 = 0.99
_RESAMPLES = 2000


def latency_of(run: Run) -> Latency:
    """Summarize what one process measured; no sample is left out."""
    samples_ns = np.asarray([ns for block in run.blocks_ns for ns in block], np.float64)
    return Latency(
        samples_ns=tuple(int(ns) for ns in samples_ns),
        block_counts=tuple(len(block) for block in run.blocks_ns),
        median_ns=float(np.median(samples_ns)),
        median_ci95_ns=median_ci95(samples_ns),
        min_ns=int(samples_ns.min()),
        p90_ns=percentile_ns(samples_ns, _P90),
        p99_ns=percentile_ns(samples_ns, _P99),
        percentile_note=_percentile_note(len(samples_ns)),
        cv=float(samples_ns.std() / samples_ns.mean()),
        load_ns=run.load_ns,
        first_ns=run.first_ns,
        warm_up_count=run.warm_up_count,
        others_cpu=run.interference.share,
    )


def percentile_ns(samples_ns: NDArray[np.float64], share: float) -> float | None:
    """The percentile of (N,) samples, or None where N is too small for it (see `minimum_samples`)."""
    if len(samples_ns) < minimum_samples(share):
        return None
    return float(np.quantile(samples_ns, share, method="higher"))


def _percentile_note(count: int) -> str | None:
    """Which percentiles so few samples cannot support."""
    lacking = [
        f"p{round(100 * share)} needs {needed}"
        for share in (_P90, _P99)
        if count < (needed := minimum_samples(share))
    ]
    return f"{' and '.join(lacking)} samples, and there are {count}" if lacking else None


def paired_speedup(variant: Run, baseline: Run, against: str, seed: int) -> Speedup:
    """Median over pairs of neighbouring blocks of (baseline's median / variant's median)."""
    ratios = np.asarray(
        [
            np.median(slow) / np.median(fast)
            for slow, fast in zip(baseline.blocks_ns, variant.blocks_ns, strict=True)
        ],
        np.float64,
    )
    median, interval = median_with_ci95(ratios, seed)
    return Speedup(median, interval, against, Basis.PAIRED, tuple(float(ratio) for ratio in ratios))


def own_speedup(artifact: str) -> Speedup:
    """The FP32 artifact against itself: 1 by definition, not measured."""
    return Speedup(1.0, (1.0, 1.0), artifact, Basis.DEFINITION, ())


def quotient(speedup: Speedup, other: Speedup, against: str, seed: int) -> Speedup:
    """How many times as fast as `against`, of which `other` is the paired speed-up.

    Both are relative to the same FP32 artifact, so a machine that was slower during one of the two
    measurements cancels. The interval is the percentile bootstrap over both sets of pairs.
    """
    draws = np.random.default_rng(seed)
    medians = [
        np.median(draws.choice(np.asarray(found.pair_ratios), (_RESAMPLES, len(found.pair_ratios))), axis=1)
        for found in (speedup, other)
    ]
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return Speedup(speedup.median / other.median, (float(low), float(high)), against, Basis.QUOTIENT, ())


def relative_width(speedup: Speedup) -> float:
    """Width of the 95 % interval relative to the median."""
    low, high = speedup.ci95
    return (high - low) / speedup.median if speedup.median else math.inf
