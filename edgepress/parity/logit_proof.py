"""Whether a version gives the logits of its reference, judged on logits and never on probabilities.

A near-uniform softmax hides everything: for a VGG16 with random weights a wrong flatten order changes the
probabilities by 3e-6. The noise is therefore taken relative to the spread of the logits.
"""

import math
from dataclasses import dataclass

import numpy as np

from edgepress.errors import ProofError
from edgepress.metrics import Logits, agreement, logit_snr_db

FP32_SNR_FLOOR_DB = 100.0
"""What one FP32 network must reach against another that sums in a different order.

100 dB is a relative error of 1e-5. Full VGG16 reaches 118 dB in ONNX Runtime and 109 dB in LiteRT; a single
layer whose scale is off by 2 % falls below 40 dB.
"""

_GRANTED_ULPS = 16


@dataclass(frozen=True)
class Parity:
    """How close a version is to its reference on the same inputs.

    Attributes:
        snr_db: Logit signal-to-noise ratio; infinity where both are identical.
        agreement: Share in [0, 1] of inputs with the same top class.
    """

    snr_db: float
    agreement: float


def require_parity(
    reference: Logits, other: Logits, what: str, floor_db: float = FP32_SNR_FLOOR_DB
) -> Parity:
    """Check that (N, classes) logits are those of the reference, up to floating-point noise.

    Args:
        reference: Logits of the model that is right by definition.
        other: Logits of the version, same inputs.
        what: Names the version in the error.
        floor_db: Least SNR that passes.

    Raises:
        ProofError: Other shape, SNR below the floor (or not a number), or another top class.
    """
    if other.shape != reference.shape:
        raise ProofError(
            f"{what}: logits of shape {reference.shape} were wanted, got {other.shape}. "
            "The conversion is wrong."
        )
    parity = Parity(logit_snr_db(reference, other), agreement(reference, other))
    if not (parity.snr_db >= floor_db and parity.agreement == 1):
        raise ProofError(
            f"{what} does not give the logits of its reference: SNR {parity.snr_db:.1f} dB (wanted "
            f"{floor_db:.0f} dB), top-1 agreement {parity.agreement:.1%} (wanted 100 %). "
            "The conversion is wrong; the file is not kept."
        )
    return parity


def floor_db(reference: Logits) -> float:
    """The SNR that a file must reach, in dB, judged by the logits of the network that it was made of.

    100 dB; less only where the logits' own rounding does not leave that much: where the classes hardly differ
    from each other beside what they have in common (a network that knows nothing yet), FP32 sums in another
    order cannot agree better. 16 units in the last place of the largest logit are granted.

    Args:
        reference: (N, classes).
    """
    spread = reference.astype(np.float64) - reference.mean(axis=1, keepdims=True)
    granted = _GRANTED_ULPS * float(np.finfo(np.float32).eps) * float(np.abs(reference).max())
    signal = float(np.sqrt(np.mean(np.square(spread))))
    if not (granted > 0 and signal > 0):
        return FP32_SNR_FLOOR_DB
    return min(FP32_SNR_FLOOR_DB, 20 * math.log10(signal / granted))
