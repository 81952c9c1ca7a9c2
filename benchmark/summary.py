"""From raw samples to the numbers of results.json. Pure numpy."""

import math

import numpy as np
from numpy.typing import NDArray

from benchmark.interleave import Run
from benchmark.quantities import Basis, DeviceLatency, GpuConduct, Latency, Speedup, Throughput
from edgepress.metrics import grouped_ci95, median_ci95, minimum_samples, resampled_medians

_P90 = 0.9
_P99 = 0.99


def latency_of(run: Run) -> Latency:
    """Summarize what one process measured; no sample is left out."""
    samples_ns = np.asarray([ns for block in run.blocks_ns for ns in block], np.float64)
    return Latency(
        samples_ns=tuple(int(ns) for ns in samples_ns),
        block_counts=tuple(len(block) for block in run.blocks_ns),
        restart_counts=run.restart_counts,
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


def device_latency_of(run: Run) -> DeviceLatency | None:
    """What the GPU's clock said; None where the runner cannot ask it."""
    times = run.device_times
    if not times:
        return None
    parts = [(time.upload_ns, time.compute_ns, time.download_ns) for time in times]
    upload_ns, compute_ns, download_ns = (float(median) for median in np.median(parts, axis=0))
    return DeviceLatency(times, upload_ns, compute_ns, download_ns)


def gpu_conduct_of(run: Run) -> GpuConduct | None:
    """What the GPU did meanwhile; None on a CPU."""
    if not run.gpu:
        return None
    reasons = (reason for moment in run.gpu for reason in moment.slowdowns or ())
    return GpuConduct(
        tuple(moment.sm_mhz for moment in run.gpu if moment.sm_mhz is not None),
        tuple(moment.memory_mhz for moment in run.gpu if moment.memory_mhz is not None),
        tuple(moment.power_mw for moment in run.gpu if moment.power_mw is not None),
        tuple(dict.fromkeys(reasons)),
    )


def throughput_of(batch: int, run: Run, speedup: Speedup | None) -> Throughput:
    """Pictures a second of batches that were run one after the other."""
    samples_ns = np.asarray([ns for block in run.blocks_ns for ns in block], np.float64)
    interval = median_ci95(samples_ns)
    pictures_ns = batch * 1e9
    return Throughput(
        batch,
        tuple(int(ns) for ns in samples_ns),
        pictures_ns / float(np.median(samples_ns)),
        None if interval is None else (pictures_ns / interval[1], pictures_ns / interval[0]),
        speedup,
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
    """Median over pairs of neighbouring blocks of (baseline's median / variant's median).

    The interval covers what differs between fresh processes, too (see `resampled_medians`).
    """
    ratios = np.asarray(
        [
            np.median(slow) / np.median(fast)
            for slow, fast in zip(baseline.blocks_ns, variant.blocks_ns, strict=True)
        ],
        np.float64,
    )
    counts = variant.restart_counts
    interval = grouped_ci95(resampled_medians(ratios, counts, seed), len(counts))
    pairs = tuple(float(ratio) for ratio in ratios)
    return Speedup(float(np.median(ratios)), interval, against, Basis.PAIRED, pairs, counts)


def own_speedup(artifact: str) -> Speedup:
    """The FP32 artifact against itself: 1 by definition, not measured."""
    return Speedup(1.0, (1.0, 1.0), artifact, Basis.DEFINITION, (), ())


def quotient(speedup: Speedup, other: Speedup, against: str, seed: int) -> Speedup:
    """How many times as fast as `against`, of which `other` is the paired speed-up.

    Both are relative to the same FP32 artifact, so a machine that was slower during one of the two
    measurements cancels. The interval is that of the bootstrap over both sets of pairs.
    """
    draws = [
        resampled_medians(np.asarray(found.pair_ratios), found.restart_counts, seed + i)
        for i, found in enumerate((speedup, other))
    ]
    interval = grouped_ci95(draws[0] / draws[1], len(speedup.restart_counts))
    return Speedup(speedup.median / other.median, interval, against, Basis.QUOTIENT, (), ())


def relative_width(speedup: Speedup) -> float:
    """Width of the 95 % interval relative to the median."""
    low, high = speedup.ci95
    return (high - low) / speedup.median if speedup.median else math.inf
