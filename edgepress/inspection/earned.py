"""What precision a file has earned, whatever its name says."""

from pathlib import Path

from edgepress.artifact import Format, Precision, PrecisionShares
from edgepress.inspection.layer import Inspection

EARNED_SHARE = 0.99
_PURE = (Precision.FP32, Precision.FP16, Precision.INT8)


def earned_precision(shares: PrecisionShares) -> Precision:
    """The one precision that holds ≥ 99 % of both parameters and MACs; MIXED where there is none."""
    for precision in _PURE:
        if min(shares.parameters[precision.value], shares.macs[precision.value]) >= EARNED_SHARE:
            return precision
    return Precision.MIXED


def inspected(path: Path, file_format: Format) -> Inspection | None:
    """What is read out of a file; None for a format that does not tell, or where its reader is missing.

    Raises:
        InputError: The file is damaged.
    """
    from edgepress.inspection.inspection_onnx import inspect_onnx
    from edgepress.inspection.inspection_tflite import inspect_tflite

    reader = {Format.ONNX: inspect_onnx, Format.TFLITE: inspect_tflite}.get(file_format)
    try:
        return None if reader is None else reader(path)
    except ImportError:
        return None
