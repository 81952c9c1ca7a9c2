"""How far a version is from FP32: on logits, on decisions, and in time. Pure numpy."""

import math

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def top_k_accuracy(logits: Logits, labels: NDArray[np.int64], k: int) -> float:
    """Share in [0, 1] of rows of (N, classes) whose label is among the k largest logits.

    With k ≥ classes every row counts. Ties are broken in favour of the lower class index.
    """
    k = min(k, logits.shape[1])
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, np.newaxis], axis=1)))


def agreement(reference: Logits, other: Logits) -> float:
    """Share in [0, 1] of rows of (N, classes) in which both have the same top class."""
    return float(np.mean(reference.argmax(axis=1) == other.argmax(axis=1)))


def logit_snr_db(reference: Logits, other: Logits) -> float:
    """Signal-to-noise ratio of (N, classes) logits in dB; infinity where they are identical.

    The signal is the spread of the reference over the classes of each row (its mean is subtracted,
    since a softmax does not see it), the noise is the difference.
    """
    exact = reference.astype(np.float64)
    spread = exact - exact.mean(axis=1, keepdims=True)
    noise = other.astype(np.float64) - exact
    signal_power, noise_power = float(np.sum(spread**2)), float(np.sum(noise**2))
    if noise_power == 0:
        return math.inf
    if signal_power == 0 or not math.isfinite(noise_power):
        return -math.inf
    return 10 * math.log10(signal_power / noise_power)


def mcnemar_p(reference_right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar test on (N,) correctness of two models on the same pictures.

    Q. McNemar, Psychometrika 12 (1947): under the null hypothesis the pictures that only one of the
    two gets right fall on either side with probability 1/2.
    """
    only_reference = int(np.sum(reference_right & ~other_right))
    only_other = int(np.sum(other_right & ~reference_right))
    discordant = only_reference + only_other
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, i) for i in range(min(only_reference, only_other) + 1))
    return min(1.0, float(2 * tail / 2**discordant))


def median_with_ci95(
    values: NDArray[np.float64], seed: int, resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Median of (N,) values with its percentile-bootstrap 95 % interval (Efron 1979), seeded."""
    draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    medians = np.median(values[draws], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(values)), (float(low), float(high))


def minimum_samples(percentile: float) -> int:
    """Samples needed before a percentile in (0, 1) may be printed: MLPerf LoadGen's early-stopping rule.

    The smallest N for which, with one sample beyond the percentile, the binomial tail is ≤ 1 %:
    64 for p90, 662 for p99 (mlcommons/inference, loadgen/early_stopping.cc).
    """
    count = 2
    while (percentile**count + count * (1 - percentile) * percentile ** (count - 1)) > 0.01:
        count += 1
    return count
