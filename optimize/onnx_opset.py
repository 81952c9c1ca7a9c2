"""A newer operator set for an ONNX model, without copying its weights."""

from typing import TYPE_CHECKING

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import opset, without_weights

if TYPE_CHECKING:
    import onnx

_IR_VERSIONS = {19: 9, 20: 9, 21: 10}  # the first intermediate representation that has the operator set


def raise_opset(model: "onnx.ModelProto", version: int) -> None:
    """Bring a model to an operator set, in place. A model that has it, or a newer one, stays as it is.

    Args:
        model: Has no functions of its own.
        version: At most 21.

    Raises:
        ProofError: An operator cannot be converted.
    """
    import onnx
    from onnx import version_converter

    if opset(model) >= version:
        return
    graph = model.graph
    try:
        converted = version_converter.convert_version(_with_weights_as_inputs(model), version).graph
    except (RuntimeError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ProofError(
            f"The model cannot be brought to operator set {version}, which FP16 scales need: {reason}. "
            "Leave this recipe out for this model."
        ) from error
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in converted.initializer if tensor.name not in known)
    del graph.node[:]
    graph.node.extend(converted.node)
    del graph.value_info[:]
    next(item for item in model.opset_import if item.domain in {"", "ai.onnx"}).version = version
    model.ir_version = max(model.ir_version, _IR_VERSIONS[version])


def _with_weights_as_inputs(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy whose large weights have a type and shape only."""
    import onnx

    bare = without_weights(model)
    stubs = [t for t in bare.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    for stub in stubs:
        value = onnx.helper.make_tensor_value_info(stub.name, stub.data_type, list(stub.dims))
        bare.graph.input.append(value)
        bare.graph.initializer.remove(stub)
    return bare
