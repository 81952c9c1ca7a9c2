"""By how much the logits on a device may differ from the golden ones, and why by that much."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXECUTION_FACTOR = 1.5
FLOAT_SHARE = 1e-4


@dataclass(frozen=True)
class Deviation:
    """How far two sets of logits are apart.

    Attributes:
        largest: Largest absolute difference of a logit.
        rms: Root mean square of the differences. A wrong model is off everywhere, another rounding here and
            there: the same largest difference has a much larger mean square in a wrong model.
    """

    largest: float
    rms: float

    @classmethod
    def between(cls, one: NDArray[np.float32], other: NDArray[np.float32]) -> "Deviation":
        """Of two arrays of the same shape."""
        differences = one.astype(np.float64) - other
        return cls(float(np.abs(differences).max()), float(np.sqrt(np.square(differences).mean())))

    def allows(self, other: "Deviation") -> bool:
        """Whether another deviation is at most this one in both; NaN is not."""
        return other.largest <= self.largest and other.rms <= self.rms


@dataclass(frozen=True)
class Tolerance:
    """What a device may differ by.

    Attributes:
        allowed: The largest deviation from the golden logits.
        rule: Where it comes from, in words.
    """

    allowed: Deviation
    rule: str


def tolerance_of(
    logits: NDArray[np.float32],
    executions: Sequence[Deviation],
    moved: Deviation | None,
    moved_share: float,
) -> Tolerance:
    """1.5 times what the ways of running a model differ by here, and never less than two floors.

    The first floor is for float sums in another order: 1e-4 of the spread of the logits. The second is for
    sums of an integer model that lie between two steps and are rounded the other way on another CPU, should
    all executions here round alike, and for the arithmetic of a GPU that is not here: a share of what the
    precision itself moved.

    Args:
        logits: (N, classes), the golden ones.
        executions: What each legitimate way of running the model differs from them by.
        moved: What they differ from those of the FP32 model by; None for that model itself.
        moved_share: That share.
    """
    spread = FLOAT_SHARE * float(np.ptp(logits))
    largest, rms = [spread], [spread]
    for share, deviations in (
        (EXECUTION_FACTOR, executions),
        (moved_share, [] if moved is None else [moved]),
    ):
        largest += [share * deviation.largest for deviation in deviations]
        rms += [share * deviation.rms for deviation in deviations]
    floor = f"{FLOAT_SHARE:g} of the spread of the logits"
    if moved is not None:
        floor += f" and {moved_share:g} of the difference from the logits of FP32"
    return Tolerance(
        Deviation(max(largest), max(rms)),
        f"{EXECUTION_FACTOR:g} times the largest difference between the executions listed here, all of them "
        f"right, and at least {floor}; so for the largest difference of a logit (tolerance) and for the root "
        "mean square over all logits (tolerance_rms), and both must hold",
    )
