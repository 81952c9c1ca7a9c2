import numpy as np
import pytest

from benchmark.interference import Interference
from benchmark.interleave import Run
from benchmark.memory import Residence
from benchmark.protocol import Occupied
from benchmark.quantities import Basis
from benchmark.summary import (
    latency_of,
    own_speedup,
    paired_speedup,
    percentile_ns,
    quotient,
    relative_width,
    throughput_of,
)

EMPTY = Residence(1000, 1000, 10)
LOADED = Residence(3000, 4000, 500)


def run(*blocks_ns: tuple[int, ...], restarts: int = 1) -> Run:
    """Blocks in so many equal groups."""
    return Run(
        load_ns=100,
        first_ns=50,
        warm_up_count=7,
        blocks_ns=blocks_ns,
        restart_counts=(len(blocks_ns) // restarts,) * restarts,
        interference=Interference(200, 3),
        prepared=Occupied(EMPTY, None),
        loaded=LOADED,
        occupied=Occupied(LOADED, None),
        evidence="fake",
    )


def test_latency_of_keeps_every_sample() -> None:
    found = latency_of(run((10, 30), (20, 1000)))
    assert found.samples_ns == (10, 30, 20, 1000)
    assert (found.block_counts, found.restart_counts) == ((2, 2), (2,))
    assert (found.median_ns, found.min_ns) == (25, 10)
    assert (found.load_ns, found.first_ns, found.warm_up_count) == (100, 50, 7)
    assert found.others_cpu == 0.015
    assert found.median_ci95_ns is None  # four samples enclose no median with 95 %
    assert found.percentile_note == "p90 needs 64 and p99 needs 662 samples, and there are 4"
    assert found.cv == pytest.approx(np.std([10, 30, 20, 1000]) / 265)


@pytest.mark.parametrize(("share", "needed"), [(0.9, 64), (0.99, 662)])
def test_percentile_ns_needs_enough_samples(share: float, needed: int) -> None:
    samples_ns = np.arange(needed, dtype=np.float64)
    assert percentile_ns(samples_ns[1:], share) is None
    found = percentile_ns(samples_ns, share)
    assert found is not None
    assert np.mean(samples_ns <= found) >= share
    assert found in samples_ns


def test_paired_speedup_cancels_what_slows_both() -> None:
    drift = (1, 1, 5, 5, 1, 2)
    baseline = run(*((200 * d, 200 * d) for d in drift))
    variant = run(*((100 * d, 100 * d) for d in drift))
    found = paired_speedup(variant, baseline, "fp32", 0)
    assert (found.median, found.ci95, found.against, found.basis) == (2, (2, 2), "fp32", Basis.PAIRED)
    assert found.pair_ratios == (2.0,) * 6


def test_paired_speedup_interval_holds_the_median_and_is_seeded() -> None:
    baseline = run(*((int(ns),) for ns in np.random.default_rng(1).normal(1000, 100, 16)))
    variant = run(*((800,) for _ in range(16)))
    found = paired_speedup(variant, baseline, "fp32", 4)
    low, high = found.ci95
    assert low < found.median < high
    assert found == paired_speedup(variant, baseline, "fp32", 4)
    assert relative_width(found) == pytest.approx((high - low) / found.median)


def test_paired_speedup_interval_covers_what_differs_between_processes() -> None:
    """Two processes of the same file differ by 3 %: pairs within one of them cannot know."""
    ratios = [1 + shift + jitter for shift in (-0.03, 0.03, 0.0) for jitter in (-0.001, 0.0, 0.001)]
    variant = run(*((round(1e9 / ratio),) for ratio in ratios), restarts=3)
    found = paired_speedup(variant, run(*((10**9,) for _ in ratios), restarts=3), "fp32", 0)
    assert found.restart_counts == (3, 3, 3)
    assert found.median == pytest.approx(1)
    assert found.ci95[0] < 0.975
    assert found.ci95[1] > 1.025


def test_throughput_of_counts_pictures() -> None:
    found = throughput_of(4, run((2_000_000_000,) * 6), None)
    assert (found.batch, found.images_per_s, found.images_per_s_ci95) == (4, 2.0, (2.0, 2.0))
    assert throughput_of(4, run((2_000_000_000,) * 5), None).images_per_s_ci95 is None


def test_own_speedup_is_one_by_definition() -> None:
    assert own_speedup("fp32").median == 1
    assert own_speedup("fp32").basis is Basis.DEFINITION


def test_quotient_divides_two_paired_speedups() -> None:
    fast = paired_speedup(run((10,), (10,)), run((40,), (40,)), "fp32", 0)
    slow = paired_speedup(run((10,), (10,)), run((20,), (20,)), "fp32", 0)
    found = quotient(fast, slow, "fp16", 0)
    assert (found.median, found.ci95, found.against, found.basis) == (2, (2, 2), "fp16", Basis.QUOTIENT)
