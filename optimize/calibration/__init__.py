"""Calibration: the range of each activation, from pictures, once for every runtime."""

from optimize.calibration.method import CalibrationMethod
from optimize.calibration.range import Range, Ranges
from optimize.calibration.stability import Stability
from optimize.calibration.table import (
    CALIBRATION,
    CalibrationTable,
    GraphCalibration,
    Origin,
    Sample,
)

__all__ = [
    "CALIBRATION",
    "CalibrationMethod",
    "CalibrationTable",
    "GraphCalibration",
    "Origin",
    "Range",
    "Ranges",
    "Sample",
    "Stability",
]
