"""How far a version is from FP32: on logits, on decisions, and in time. Pure numpy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

# Student's t, 97.5 %, by degrees of freedom.
_T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_ALPHA = 0.05
_LEAST_DISCORDANT = 6
_LEAST_FOR_MEDIAN = 6


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

    The signal is the spread of the reference over the classes of each row, the noise that of the difference:
    the mean of each row is subtracted, since a softmax does not see it and its logarithm does not keep it.
    """
    exact = reference.astype(np.float64)
    difference = other.astype(np.float64) - exact
    spread = exact - exact.mean(axis=1, keepdims=True)
    noise = difference - difference.mean(axis=1, keepdims=True)
    signal_power, noise_power = float(np.sum(spread**2)), float(np.sum(noise**2))
    if noise_power == 0:
        return math.inf
    if signal_power == 0 or not math.isfinite(noise_power):
        return -math.inf
    return 10 * math.log10(signal_power / noise_power)


def mean_kl_nats(reference: Logits, other: Logits) -> float:
    """Mean over rows of (N, classes) of the Kullback-Leibler divergence of the softmaxes, in nats.

    How many nats the other's probabilities lose against the reference's; 0 where they are the same.
    """
    wanted, found = _log_softmax(reference), _log_softmax(other)
    return float(np.mean(np.sum(np.exp(wanted) * (wanted - found), axis=1)))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def wilson_ci95(share: float, count: int) -> tuple[float, float]:
    """95 % score interval of a share in [0, 1] that was seen in `count` trials.

    E. B. Wilson, JASA 22 (1927). Unlike the normal interval it stays inside [0, 1] and keeps a width where
    every trial went the same way.
    """
    spread = _Z95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def resolvable_share(count: int, discordant: int) -> float:
    """The smallest difference of two shares of right answers that `count` pictures can show, in [0, 1].

    That is the smallest for which the exact McNemar test gives p < 0.05, if `discordant` pictures are
    answered rightly by only one of both (at least 6: with fewer, no outcome is significant).
    """
    pairs = max(discordant, _LEAST_DISCORDANT)
    difference = next(d for d in range(pairs % 2, pairs + 1, 2) if _tails(pairs, (pairs - d) // 2) < _ALPHA)
    return difference / count


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
    return _tails(discordant, min(only_reference, only_other))


def _tails(count: int, fewer: int) -> float:
    """Probability that of `count` fair coins at most `fewer` fall on one side, whichever it is."""
    tail = sum(math.comb(count, i) for i in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**count))


def resampled_medians(
    values: NDArray[np.float64], counts: Sequence[int], seed: int, resamples: int = 2000
) -> NDArray[np.float64]:
    """(resamples,) medians of (N,) values that come in groups, seeded.

    Values of one group, such as blocks of one process, are more alike than values of different groups. So
    whole groups are drawn with replacement, and their values are taken as they are (Davison and Hinkley,
    Bootstrap Methods and Their Application (1997), section 3.8: drawing again within the groups overstates
    the spread). Values of a single group are drawn themselves (Efron 1979).

    Args:
        values: Group after group.
        counts: How many values each group holds.
        seed: Of the draws.
        resamples: Number of draws.
    """
    draws = np.random.default_rng(seed)
    if len(counts) == 1:
        drawn = values[draws.integers(0, len(values), (resamples, len(values)))]
        return np.asarray(np.median(drawn, axis=1), np.float64)
    groups = np.split(values, np.cumsum(counts)[:-1])
    chosen = draws.integers(0, len(groups), (resamples, len(groups)))
    medians = [np.median(np.concatenate([groups[i] for i in row])) for row in chosen]
    return np.asarray(medians, np.float64)


def grouped_ci95(draws: NDArray[np.float64], groups: int) -> tuple[float, float]:
    """95 % interval from (R,) bootstrap draws over so many groups.

    The percentiles lie farther out than 2.5 and 97.5, as far as Student's t interval of few groups is wider
    than the normal one: T. Hesterberg, What Teachers Should Know About the Bootstrap, The American
    Statistician 69 (2015), section 4.4 (the "expanded percentile" interval). Without it, eight processes
    cover about 92 % instead of 95 %.
    """
    tail = 0.025
    if groups > 1:
        z = math.sqrt(groups / (groups - 1)) * _T975.get(groups - 1, _Z95)
        tail = math.erfc(z / math.sqrt(2)) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def median_ci95(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of the median of (N,) values by order statistics, without any assumption on their shape.

    The ranks are those of Hahn and Meeker, Statistical Intervals (1991), section 5.2, in the normal
    approximation of the binomial. Values that follow each other are taken as independent, which neighbouring
    inferences are not quite. None below 6 values: no two of them enclose the median with 95 %.
    """
    count = len(values)
    if count < _LEAST_FOR_MEDIAN:
        return None
    half = _Z95 * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - half), math.ceil(count / 2 + half)
    ordered = np.sort(values)
    return float(ordered[max(0, low)]), float(ordered[min(count - 1, high)])


def minimum_samples(percentile: float) -> int:
    """Samples needed before a percentile in (0, 1) may be printed: MLPerf LoadGen's early-stopping rule.

    The smallest N for which, with one sample beyond the percentile, the binomial tail is ≤ 1 %:
    64 for p90, 662 for p99 (mlcommons/inference, loadgen/early_stopping.cc).
    """
    count = 2
    while (percentile**count + count * (1 - percentile) * percentile ** (count - 1)) > 0.01:
        count += 1
    return count
