"""What a version costs in accuracy against FP32 on the same pictures, and how well that is known."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.evaluation_data import Labels
from edgepress.metrics import agreement, logit_snr_db, mcnemar_p, top_k_accuracy

Logits = NDArray[np.float32]

_Z95_ONE_SIDED = 1.6448536269514722  # 95 % quantile of the normal distribution
_HALVINGS = 60
_MOST_IMAGES = 10**9


@dataclass(frozen=True)
class AccuracyCost:
    """A version against FP32.

    Attributes:
        images: Number of pictures.
        labelled: Whether they have labels. Without, every changed decision counts as lost.
        agreement: Share in [0, 1] of pictures with the same top class.
        logit_snr_db: In dB; None where the logits are identical, or not finite.
        lost: Pictures that only FP32 answers rightly; without labels, whose top class changed.
        won: Pictures that only this version answers rightly; 0 without labels.
        top1: Of this version in [0, 1]; None without labels.
        reference_top1: Of FP32.
        mcnemar_p: Of the exact test on `lost` and `won`; None without labels.
    """

    images: int
    labelled: bool
    agreement: float
    logit_snr_db: float | None
    lost: int
    won: int
    top1: float | None
    reference_top1: float | None
    mcnemar_p: float | None

    @property
    def noise(self) -> float:
        """Noise power over signal power in the logits; 0 where they are identical."""
        return noise_of(self.logit_snr_db)

    @property
    def drop_points(self) -> float:
        """Loss of top-1 in percentage points; without labels the share of changed decisions in percent."""
        return 100 * (self.lost - self.won) / self.images

    @property
    def bound_points(self) -> float:
        """What the drop does not exceed with 95 % confidence (one-sided), in percentage points."""
        return 100 * drop_bound(self.lost, self.won, self.images)

    def images_needed(self, budget_points: float) -> int | None:
        """How many pictures would show that the drop is within a budget, if the rates stay as seen.

        None if the measured drop itself is not below the budget: then no number would.
        """
        return images_needed(self.lost / self.images, self.won / self.images, budget_points / 100)


def noise_of(snr_db: float | None) -> float:
    """Noise power over signal power of an SNR in dB; 0 for None, where both are identical."""
    return 0.0 if snr_db is None else 10 ** (-snr_db / 10)


def accuracy_cost(reference: Logits, logits: Logits, labels: Labels | None) -> AccuracyCost:
    """Compare (N, classes) logits with FP32's, and with (N,) labels where there are any.

    A row with a value that is not finite is a wrong answer.
    """
    finite = np.isfinite(logits).all(axis=1)
    if labels is None:
        lost = int(np.sum((reference.argmax(axis=1) != logits.argmax(axis=1)) | ~finite))
        won, top1, reference_top1, p = 0, None, None, None
    else:
        right = (logits.argmax(axis=1) == labels) & finite
        reference_right = reference.argmax(axis=1) == labels
        lost, won = int(np.sum(reference_right & ~right)), int(np.sum(right & ~reference_right))
        top1, reference_top1 = float(np.mean(right)), top_k_accuracy(reference, labels, 1)
        p = mcnemar_p(reference_right, right)
    snr_db = logit_snr_db(reference, logits) if finite.all() else -math.inf
    return AccuracyCost(
        images=len(logits),
        labelled=labels is not None,
        agreement=agreement(reference, logits),
        logit_snr_db=snr_db if math.isfinite(snr_db) else None,
        lost=lost,
        won=won,
        top1=top1,
        reference_top1=reference_top1,
        mcnemar_p=p,
    )


def drop_bound(lost: float, won: float, images: float) -> float:
    """Upper 95 % bound (one-sided) of the difference of two paired shares of right answers, in [-1, 1].

    The score interval of T. Tango, Statistics in Medicine 17 (1998): the largest difference that the score
    test does not reject. With `won` = 0 it is Wilson's bound of the share that was lost; where nothing was
    lost or won it is z² / (n + z²), and not 0.

    Args:
        lost: Pictures that only the reference answers rightly.
        won: Pictures that only the other one does.
        images: All pictures.
    """
    low, high = (lost - won) / images, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(middle, lost, won, images) >= -_Z95_ONE_SIDED:
            low = middle
        else:
            high = middle
    return high


def _score(difference: float, lost: float, won: float, images: float) -> float:
    """Tango's statistic for a difference of paired shares, with the likeliest nuisance share under it."""
    a = 2 * images
    b = -lost - won + (2 * images - lost + won) * difference
    c = -won * difference * (1 - difference)
    nuisance = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = images * (2 * nuisance + difference * (1 - difference))
    distance = lost - won - images * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def images_needed(lost: float, won: float, budget: float) -> int | None:
    """The fewest pictures whose bound is within the budget, if these shares are lost and won; all in [0, 1].

    None if the drop itself is not below the budget, or if it would take more than a billion.
    """

    def shows(images: int) -> bool:
        return drop_bound(lost * images, won * images, images) <= budget

    if lost - won >= budget:
        return None
    high = 1
    while not shows(high):
        high *= 2
        if high > _MOST_IMAGES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
