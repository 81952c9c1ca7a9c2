"""Keras → ONNX, with one copy of the weights.

tf2onnx copies the graph, weights and all, for each of its optimizer's passes: `from_keras(VGG16)` was
killed at 24 GB. So it converts the architecture alone, with the kernels as inputs of the function, and
these inputs become initializers afterwards.
"""

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError, MissingRuntimeError, ProofError
from export.onnx_folding import ReadWeight, fold

if TYPE_CHECKING:
    import keras
    import onnx

OPSET = 17
_PROTOBUF_LIMIT_BYTES = 2**31
_BATCH = "batch"


def onnx_from_keras(network: "keras.Model", path: Path) -> None:
    """Write an ONNX file (opset 17): `images` (batch, H, W, 3) → `logits` (batch, classes).

    Nodes are named after the layers. What depends on weights alone is computed here, so that the file has
    no Cast, no Shape, and a Transpose only where NHWC and NCHW meet.

    Raises:
        InputError: The model is larger than a single ONNX file can be (2 GiB), or has an operation that
            tf2onnx cannot convert.
        ProofError: An operation outside of ONNX' standard domain, or one on weights alone, would be left.
    """
    needed_bytes = 4 * network.count_params()
    if needed_bytes >= _PROTOBUF_LIMIT_BYTES:
        raise InputError(
            f"{network.name} has {needed_bytes / 1e9:.1f} GB of weights, and one ONNX file holds less than "
            "2.1 GB. Leave ONNX out with --format."
        )
    try:
        import onnx
    except ImportError as error:
        raise MissingRuntimeError("onnx", "onnx") from error

    model = _architecture(network)
    fold(model, _kernels(network), _layer_names(network))
    _require_standard(model)
    path.write_bytes(model.SerializeToString())
    del model
    gc.collect()
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ProofError(
            f"The ONNX file of {network.name} is not valid ({error}). Leave ONNX out with --format."
        ) from error


def _architecture(network: "keras.Model") -> "onnx.ModelProto":
    """The graph with every kernel (rank ≥ 2) as a graph input `weight_<i>`; vectors are constants in it.

    Vectors (biases, batch statistics) are small, and as constants tf2onnx folds them itself.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise MissingRuntimeError("tf2onnx", "onnx") from error
    import tensorflow as tf

    variables = network.variables
    position = {id(variable): i for i, variable in enumerate(variables)}
    trainable = [position[id(variable)] for variable in network.trainable_variables]
    fixed = [position[id(variable)] for variable in network.non_trainable_variables]
    large = [i for i, variable in enumerate(variables) if len(variable.shape) > 1]
    vectors = {i: v.value.numpy() for i, v in enumerate(variables) if i not in large}

    def logits(images: Any, *kernels: Any) -> Any:
        values = {i: tf.constant(vector) for i, vector in vectors.items()}
        values.update(zip(large, kernels, strict=True))
        outputs, _ = network.stateless_call(
            [values[i] for i in trainable], [values[i] for i in fixed], images, training=False
        )
        return tf.identity(outputs, name="logits")

    shape = [None, *network.inputs[0].shape[1:]]
    signature = [
        tf.TensorSpec(shape, tf.float32, name="images"),
        *(tf.TensorSpec(variables[i].shape, variables[i].dtype, name=f"weight_{i}") for i in large),
    ]
    function = tf.function(logits, input_signature=signature, autograph=False)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"tf2onnx cannot convert {network.name}: {reason}. Replace the layer, or leave ONNX out "
            "with --format."
        ) from error
    return _with_contract_names(model)


def _with_contract_names(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Give input, output and batch the names that every artifact has."""
    graph = model.graph
    graph.name = "logits"
    old = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["logits" if name == old else name for name in node.output]
        node.input[:] = ["logits" if name == old else name for name in node.input]
    graph.output[0].name = "logits"
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    return model


def _kernels(network: "keras.Model") -> dict[str, ReadWeight]:
    return {
        f"weight_{i}": variable.value.numpy
        for i, variable in enumerate(network.variables)
        if len(variable.shape) > 1
    }


def _layer_names(model: "keras.Model") -> frozenset[str]:
    """Names of all layers, those of nested models included."""
    names = {layer.name for layer in model.layers}
    return frozenset(
        names.union(*(_layer_names(layer) for layer in model.layers if hasattr(layer, "layers")))
    )


def _require_standard(model: "onnx.ModelProto") -> None:
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain})
    if foreign:
        names = ", ".join(foreign)
        raise ProofError(
            f"Operations outside of ONNX' standard domain would be left: {names}. "
            "Leave ONNX out with --format."
        )
    kept = [opset for opset in model.opset_import if not opset.domain]  # tf2onnx declares unused domains
    del model.opset_import[:]
    model.opset_import.extend(kept)
