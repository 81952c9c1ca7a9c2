"""Full-integer INT8 for LiteRT, input and output included, from our calibration table."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.errors import InputError
from edgepress.inspection.tflite_graph import tflite_model
from optimize.calibration import CALIBRATION, Ranges


def tflite_int8_from_fp32(source: Path, destination: Path, ranges: Ranges) -> Mapping[str, Any]:
    """Write the full-integer version of an FP32 TFLite file.

    Args:
        source: FP32 TFLite file; unchanged.
        destination: New file; int8 input and output with the same names.
        ranges: Activation ranges of `source`.

    Returns:
        Provenance: nothing beyond the recipe.

    Raises:
        InputError: An activation has no range; nothing is written.
    """
    from litert_quantizer import quantizer, recipe

    _require_ranges(source, ranges)
    statistics = {
        name: {"min": np.float32(r.lowest).reshape(1, 1), "max": np.float32(r.highest).reshape(1, 1)}
        for name, r in ranges.items()
    }
    worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    with warnings.catch_warnings():
        # It opens the source with all tensors kept, only to read their names, and warns about that.
        warnings.simplefilter("ignore", UserWarning)
        result = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    # Not by its own serialize_to_path, which maps the file: a full disk would be a bus error.
    destination.write_bytes(result.quantized_model)
    return {}


def _require_ranges(source: Path, ranges: Ranges) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    with tflite_model(source) as model:
        activations = map(model.tensor, model.activations())
        names = [t.Name().decode() for t in activations if t.Type() == TensorType.FLOAT32]
        missing = [name for name in names if name not in ranges]
    if missing:
        raise InputError(
            f"tflite_static_wi8_ai8: activation {missing[0]!r} has no calibrated range. "
            f"Calibrate again: remove {CALIBRATION}."
        )
