"""What is done to an FP32 network so that 8 bits lose less of it."""

from optimize.improvement.improvement import DEFAULT_IMPROVEMENTS, Improvement

__all__ = ["DEFAULT_IMPROVEMENTS", "Improvement"]
