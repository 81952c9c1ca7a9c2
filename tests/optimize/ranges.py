"""Ranges of a file's FP32 activations, for tests that only need some."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgepress.progress import Progress, silent
from optimize.calibration import CalibrationMethod, Ranges
from optimize.calibration.onnx_calibration import calibrate_onnx
from optimize.calibration.tflite_calibration import calibrate_tflite


def ranges_of_onnx(
    path: Path,
    pictures: Iterable[NDArray[Any]],
    total: int,
    progress: Progress = silent,
    method: CalibrationMethod = CalibrationMethod.MINMAX,
) -> Ranges:
    """Of an ONNX file."""
    return calibrate_onnx(path, pictures, [str(i) for i in range(total)], method, progress).ranges


def ranges_of_tflite(
    path: Path,
    pictures: Iterable[NDArray[Any]],
    total: int,
    progress: Progress = silent,
    method: CalibrationMethod = CalibrationMethod.MINMAX,
) -> Ranges:
    """Of a TFLite file."""
    return calibrate_tflite(path, pictures, [str(i) for i in range(total)], method, progress).ranges
