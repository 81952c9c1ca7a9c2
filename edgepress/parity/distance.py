"""How far one version's logits are from another's on the same pictures."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.interface import Activation, Interface, Scores
from edgepress.metrics import Logits, agreement, logit_snr_db
from edgepress.parity.logit_proof import floor_db

_LEAST_DB = -300.0
_SIGMAS = 4.0
"""A difference of two logits that the noise of a budget reaches once in 16,000 times."""


@dataclass(frozen=True)
class Distance:
    """What tells two versions apart on some pictures.

    Attributes:
        pictures: How many.
        snr_db: Logit signal-to-noise ratio in dB, at least -300; None where both are identical.
        max_relative: Largest absolute difference of a logit, over the spread of the reference's logits (their
            root mean square around each picture's mean).
        cosine: The least, over the pictures, of the cosine between the logits of both around their means.
        agreement: Share in [0, 1] of the pictures with the same top class.
    """

    pictures: int
    snr_db: float | None
    max_relative: float
    cosine: float
    agreement: float


def distance(reference: Logits, other: Logits) -> Distance:
    """The distance of (N, classes) logits from those of the reference; both finite."""
    snr_db = logit_snr_db(reference, other)
    difference = np.abs(other.astype(np.float64) - reference)
    spread = math.sqrt(float(np.mean(np.square(_centred(reference)))))
    largest = float(difference.max())
    return Distance(
        len(reference),
        None if snr_db == math.inf else max(snr_db, _LEAST_DB),
        largest / spread if spread > 0 else largest,
        _least_cosine(reference, other),
        agreement(reference, other),
    )


def unexplained_flips(reference: Logits, other: Logits, budget_db: float) -> NDArray[np.intp]:
    """Pictures whose top class is another one although the noise that a budget allows could not do that.

    At an SNR of B dB the noise of a logit has a standard deviation of σ = spread · 10^(-B/20), the difference
    of two logits √2 σ. The two classes in question must lie further apart in the reference than four times
    that: a tie is not an error.

    Returns:
        Indices of rows.
    """
    rows = np.arange(len(reference))
    exact = reference.astype(np.float64)
    margin = exact.max(axis=1) - exact[rows, other.argmax(axis=1)]
    spread = math.sqrt(float(np.mean(np.square(_centred(reference)))))
    noise = spread * 10 ** (-budget_db / 20)
    return np.flatnonzero(margin > _SIGMAS * math.sqrt(2) * noise)


def least_db(reference: Logits, floor: float) -> float:
    """The SNR to reach: `floor`, or less where FP32 itself cannot give that much (see `floor_db`)."""
    return min(floor, floor_db(reference))


def through(reference: Logits, interface: Interface, activation: Activation) -> Logits:
    """The reference's logits as a file of this interface could give them at best.

    Probabilities tell logits only up to a constant for each picture, and nothing below the least float32.
    """
    if interface.scores is Scores.LOGITS or activation is Activation.NONE:
        return reference
    exact = reference.astype(np.float64)
    if activation is Activation.SOFTMAX:
        powers = np.exp(exact - exact.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
    else:
        probabilities = 1 / (1 + np.exp(-exact))
    return interface.logits(probabilities.astype(np.float32), activation)


def _centred(logits: Logits) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    centred: NDArray[np.float64] = exact - exact.mean(axis=1, keepdims=True)
    return centred


def _least_cosine(reference: Logits, other: Logits) -> float:
    ours, theirs = _centred(reference), _centred(other)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    same = np.all(ours == theirs, axis=1)
    cosines = np.divide(
        np.sum(ours * theirs, axis=1), lengths, out=same.astype(np.float64), where=lengths > 0
    )
    return float(cosines.min())
