"""Improvement: one way to lose less, chosen by name."""

from enum import Enum


class Improvement(str, Enum):
    """Applied to the FP32 network before it is quantized."""

    EQUALIZATION = "equalization"  # of the channels between neighbouring layers, see equalization.py
    BIAS_CORRECTION = "bias-correction"  # for what rounding does to the mean, see bias_correction.py


DEFAULT_IMPROVEMENTS = frozenset({Improvement.BIAS_CORRECTION})
"""What helps with scales per output channel; docs/quantization.md has the gains."""
