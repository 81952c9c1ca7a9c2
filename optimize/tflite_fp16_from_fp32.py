"""FP16 weights for LiteRT: half the file; LiteRT's CPU kernels widen them to FP32 when loading."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tflite_fp16_from_fp32(source: Path, destination: Path) -> Mapping[str, Any]:
    """Write the version of an FP32 TFLite file that stores its weights in FP16.

    Args:
        source: FP32 TFLite file; unchanged.
        destination: New file, same signature.

    Returns:
        Provenance: nothing beyond the recipe.
    """
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName

    worker = quantizer.Quantizer(str(source))
    worker.update_quantization_recipe(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        AlgorithmName.FLOAT_CASTING,
    )
    result = worker.quantize(enable_progress_bar=False, enable_progress_report=False)
    # Not by its own serialize_to_path, which maps the file: a full disk would be a bus error.
    destination.write_bytes(result.quantized_model)
    return {}
