"""Full-integer INT8 for LiteRT from our calibration table; input and output in int8 or in FP32."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.errors import InputError
from edgepress.inspection.tflite_graph import tflite_model
from optimize.calibration import CALIBRATION, Ranges
from optimize.recipe import Part, Recipe
from optimize.tflite_layer_subset import float_part


def tflite_int8_from_fp32(
    recipe: Recipe, source: Path, destination: Path, ranges: Ranges, *, layers: frozenset[str] | None = None
) -> Mapping[str, Any]:
    """Write the full-integer version of an FP32 TFLite file.

    Args:
        recipe: Says whether input and output are int8, or FP32 with a QUANTIZE and a DEQUANTIZE inside.
        source: FP32 TFLite file; unchanged.
        destination: New file; input and output have the same names.
        ranges: Activation ranges of `source`.
        layers: Names of the layers that are quantized, all others being in FP32 between a DEQUANTIZE and a
            QUANTIZE; None for all. Input and output are what the recipe says in any case.

    Returns:
        Provenance: nothing beyond the recipe; `float_layers` where `layers` is given.

    Raises:
        InputError: An activation has no range, or a layer is unknown; nothing is written.
    """
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer import recipe as table
    from litert_quantizer.algorithm_manager import AlgorithmName

    _require_ranges(recipe, source, ranges)
    left = None if layers is None else float_part(source, layers, integer_input=recipe.part is not Part.IO)
    statistics = {
        name: {"min": np.float32(r.lowest).reshape(1, 1), "max": np.float32(r.highest).reshape(1, 1)}
        for name, r in ranges.items()
    }
    worker = quantizer.Quantizer(str(source), table.static_wi8_ai8())
    if recipe.part is Part.IO:
        for place in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            worker.update_quantization_recipe(".*", place, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for operator in () if left is None else left.operators:
        kind = qtyping.TFLOperationName(operator.kind)  # not all kinds: the output has its layer's scope
        worker.update_quantization_recipe(operator.scope, kind, algorithm_key=AlgorithmName.NO_QUANTIZE)
    with warnings.catch_warnings():
        # It opens the source with all tensors kept, only to read their names, and warns about that.
        warnings.simplefilter("ignore", UserWarning)
        result = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    # Not by its own serialize_to_path, which maps the file: a full disk would be a bus error.
    destination.write_bytes(result.quantized_model)
    return {} if left is None else {"float_layers": list(left.layers)}


def _require_ranges(recipe: Recipe, source: Path, ranges: Ranges) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    with tflite_model(source) as model:
        activations = map(model.tensor, model.activations())
        names = [t.Name().decode() for t in activations if t.Type() == TensorType.FLOAT32]
        missing = [name for name in names if name not in ranges]
    if missing:
        raise InputError(
            f"{recipe.name}: activation {missing[0]!r} has no calibrated range. "
            f"Calibrate again: remove {CALIBRATION}."
        )
