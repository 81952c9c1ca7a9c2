"""Operations that tf2onnx hands on as TensorFlow has them: put in ONNX' terms, or refused by name."""

from typing import TYPE_CHECKING

import numpy as np

from edgepress.errors import InputError
from export.layer_scopes import layer_of
from export.onnx_draft import attribute, set_attribute

if TYPE_CHECKING:
    import onnx


def replace_operations(graph: "onnx.GraphProto") -> None:
    """Replace, in place, what another operation of ONNX computes as well.

    erfc(x), with which TensorFlow writes the exact GELU, is 1 - erf(x). TensorFlow's pixel centres of a
    resizing to the nearest pixel, floor((x + 0.5) / scale), are those of ONNX rounded half up; ONNX dropped
    `tf_half_pixel_for_nn` in opset 19.
    """
    import onnx

    nodes = []
    for node in graph.node:
        if attribute(node, "coordinate_transformation_mode") == b"tf_half_pixel_for_nn":
            set_attribute(node, "coordinate_transformation_mode", "half_pixel")
            set_attribute(node, "nearest_mode", "round_prefer_ceil")
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        one, erf = f"{node.name}/one", f"{node.name}/Erf"
        graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), np.float32), one))
        nodes.append(onnx.helper.make_node("Erf", node.input, [erf], erf))
        nodes.append(onnx.helper.make_node("Sub", [one, erf], node.output, f"{node.name}/Sub"))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def require_standard(model: "onnx.ModelProto", name: str) -> None:
    """Check that each operation is one of ONNX' own, and remove declarations of other domains.

    Raises:
        InputError: One is not.
    """
    import onnx

    kept = [opset for opset in model.opset_import if not opset.domain]  # tf2onnx declares unused domains
    for node in model.graph.node:
        nested = any(a.HasField("g") for a in node.attribute)  # Loop, If
        if node.domain or nested or not onnx.defs.has(node.op_type, kept[0].version):
            operation = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise InputError(
                f"{name}: layer {layer_of(node.name) or node.name!r} needs {operation}, which cannot be "
                "converted. Replace the layer, or leave ONNX out with --format."
            )
    del model.opset_import[:]
    model.opset_import.extend(kept)
