"""Whether an ONNX file follows the specification, and TensorRT's Q/DQ rules where it is made for TensorRT."""

from pathlib import Path

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import load
from optimize.qdq_lint import lint_qdq


def require_valid_onnx(
    path: Path, *, qdq_for_tensorrt: bool, left_in_float: frozenset[str] = frozenset()
) -> None:
    """Check a produced file.

    Args:
        path: ONNX file.
        qdq_for_tensorrt: Whether TensorRT's rules are checked too.
        left_in_float: Names of the weighted layers that are not to be quantized, for these rules.

    Raises:
        ProofError: It breaks ONNX' specification, or TensorRT's rules for Q/DQ.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ProofError(f"{path.name} is no valid ONNX: {reason}. Leave this recipe out.") from error
    if qdq_for_tensorrt:
        lint_qdq(load(path), left_in_float=left_in_float)
