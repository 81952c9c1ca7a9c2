"""What each kind of step may cost, at most: stated in every report, with its reason."""

from dataclasses import dataclass
from enum import Enum

from edgepress.artifact import Artifact, Precision
from edgepress.interface import Scores
from edgepress.parity.logit_proof import FP32_SNR_FLOOR_DB


class Hop(str, Enum):
    """What a step does to the numbers."""

    FP32 = "fp32"  # the same numbers, summed in another order
    FP16_WEIGHTS = "fp16 weights"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_PROBABILITIES = "int8 probabilities"  # the output itself has 256 steps


@dataclass(frozen=True)
class Budget:
    """What a step may cost.

    Attributes:
        hop: Kind of step.
        structured_db: Least logit SNR on photos and the drawn picture, in dB.
        flat_db: Least logit SNR on flat pictures, in dB; None where it is reported and not judged.
        layer_db: A layer whose values have a lower SNR than this, in dB, has left the reference's way.
        reason: Why these numbers.
        decisions_db: Noise that may explain another top class on a photo, as an SNR in dB; None for the noise
            of `structured_db`.
    """

    hop: Hop
    structured_db: float
    flat_db: float | None
    layer_db: float
    reason: str
    decisions_db: float | None = None


BUDGETS = {
    budget.hop: budget
    for budget in (
        Budget(
            Hop.FP32,
            FP32_SNR_FLOOR_DB,
            FP32_SNR_FLOOR_DB,
            90.0,
            "only the order of sums differs; less where the logits' own rounding leaves less",
        ),
        Budget(
            Hop.FP16_WEIGHTS,
            50.0,
            40.0,
            45.0,
            "weights rounded to 11 bits leave 71 to 78 dB; one layer off by 2 % leaves 34 dB",
        ),
        Budget(
            Hop.FP16,
            45.0,
            40.0,
            45.0,
            "weights and activations in 11 bits leave 70 to 75 dB; one layer off by 2 % leaves 34 dB",
        ),
        Budget(
            Hop.INT8,
            15.0,
            None,
            20.0,
            "36 to 43 dB are usual, 17 on a CPU that saturates; red and blue swapped leave 12, a wrong order "
            "leaves 1; flat pictures are unlike those that calibrated",
        ),
        Budget(
            Hop.INT8_PROBABILITIES,
            -40.0,
            None,
            20.0,
            "256 steps between 0 and 1 hold classes and no logits, so decisions are what is judged",
            decisions_db=15.0,
        ),
    )
}
"""Measured on full VGG16 with real weights and on vgg16-digits (docs/parity.md)."""


def budget_of(artifact: Artifact) -> Budget:
    """The budget of the step that made an artifact."""
    return BUDGETS[_hop(artifact)]


def _hop(artifact: Artifact) -> Hop:
    """By the recipe's name, which says the number formats; else by what the content earned."""
    parts = (artifact.recipe or "").split("_")
    if any(part.startswith("wi") for part in parts) or artifact.precision is Precision.INT8:
        coarse = artifact.outputs[0].dtype == "int8" and artifact.interface.scores is Scores.PROBABILITIES
        return Hop.INT8_PROBABILITIES if coarse else Hop.INT8
    if "af16" in parts or artifact.precision is Precision.FP16:
        return Hop.FP16
    if "wf16" in parts or artifact.precision is Precision.MIXED:
        return Hop.FP16_WEIGHTS
    return Hop.FP32
