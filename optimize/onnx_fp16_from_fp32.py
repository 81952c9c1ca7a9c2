"""FP16 ONNX from FP32 ONNX: weights and arithmetic in half precision, input and output in FP32.

Precision lives in the file: TensorRT builds it as a strongly typed network. Where all values fit into FP16,
only the graph's input and output have a Cast, so callers see the FP32 file's signature. What does not fit
stays in FP32 between two Casts (see `fp16_islands`), and is reported.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import inferred, load, values, without_weights
from optimize.calibration import Ranges
from optimize.fp16_islands import Island, islands_of
from optimize.layer_subset import name_nodes

if TYPE_CHECKING:
    import onnx

_LOGGER = logging.getLogger(__name__)

# Inputs that the ONNX specification fixes to FP32: Resize's roi and scales.
_FP32_INPUTS = {"Resize": (1, 2)}


def onnx_fp16_from_fp32(source: Path, destination: Path, ranges: Ranges | None) -> Mapping[str, Any]:
    """Write the FP16 version of an FP32 ONNX file.

    Args:
        source: FP32 ONNX file; unchanged.
        destination: New file.
        ranges: Activation ranges of `source` if there are any; None leaves activations unchecked.

    Returns:
        Provenance: `weights_flushed_to_zero`, `largest_activation` if ranges were given, and `fp32_islands`
        where a part stays in FP32.

    Raises:
        ProofError: FP16 holds none of the layers, or a weight is not finite; nothing is written.
    """
    import onnx

    model = load(source)
    made = halve(model, ranges)
    onnx.save(model, destination)
    return made


def halve(model: "onnx.ModelProto", ranges: Ranges | None) -> Mapping[str, Any]:
    """Turn a model from FP32 to FP16, in place. It may have Q/DQ; then its operator set is 19 or newer.

    Returns and raises what `onnx_fp16_from_fp32` does.
    """
    graph = model.graph
    _refuse_graphs_inside(graph)
    name_nodes(graph)
    _constants_to_initializers(graph)
    islands = islands_of(graph, ranges)
    floats = _float_tensors(model)
    for island in islands:
        _LOGGER.warning("%s: stays in FP32, %s", ", ".join(island.nodes), island.reason)
    flushed = _Retyping(graph, floats, frozenset(name for island in islands for name in island.nodes)).run()
    del graph.value_info[:]  # they state FP32; the inner types follow from the nodes
    return _provenance(flushed, ranges, islands)


def _provenance(flushed: int, ranges: Ranges | None, islands: Sequence[Island]) -> dict[str, Any]:
    made: dict[str, Any] = {"weights_flushed_to_zero": flushed}
    if ranges:
        made["largest_activation"] = max(r.magnitude for r in ranges.values())
    if islands:
        made["fp32_islands"] = [{"nodes": list(i.nodes), "reason": i.reason} for i in islands]
    return made


def _refuse_graphs_inside(graph: "onnx.GraphProto") -> None:
    for node in graph.node:
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise ProofError(
                f"Node {node.name or node.output[0]!r} ({node.op_type}) has graphs inside it, which are not "
                "turned to FP16. Leave this recipe out for this model."
            )


def _constants_to_initializers(graph: "onnx.GraphProto") -> None:
    """Move floating-point constants to the weights, in place: there they may exist in both precisions."""
    import onnx

    for node in [n for n in graph.node if n.op_type == "Constant"]:
        attribute = node.attribute[0]
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.name in {"value_float", "value_floats"}:
            value = onnx.numpy_helper.from_array(np.asarray(value, np.float32))
        elif attribute.name != "value" or value.data_type != onnx.TensorProto.FLOAT:
            continue
        graph.initializer.add().CopyFrom(value)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)


def _float_tensors(model: "onnx.ModelProto") -> set[str]:
    """Names of all tensors in FP32; one whose type cannot be inferred has that of its maker's inputs."""
    import onnx

    graph, wanted = inferred(without_weights(model)).graph, onnx.TensorProto.FLOAT
    types = {value.name: value.type.tensor_type.elem_type for value in values(graph)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    floats = {name for name, number in types.items() if number == wanted}
    for node in graph.node:
        if floats & set(node.input):
            floats |= {name for name in node.output if not types.get(name)}
    return floats


class _Retyping:
    """Halves a graph, in place, but for its wide nodes, and puts a Cast where a tensor changes its type.

    Args:
        graph: In FP32, with names.
        floats: Names of its FP32 tensors.
        wide: Names of the nodes that stay in FP32.
    """

    def __init__(self, graph: "onnx.GraphProto", floats: set[str], wide: frozenset[str]) -> None:
        self._graph, self._floats, self._wide = graph, floats, wide
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        # Tensors in FP32; a graph's inputs are.
        self._made_wide = {v.name for v in graph.input} | {
            name for node in graph.node if node.name in wide for name in node.output
        }
        self._casts: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> int:
        """Do it, and return the number of non-zero weights that became zero."""
        flushed = self._halve_weights()
        for node in self._graph.node:
            is_wide = node.name in self._wide
            for i, name in enumerate(node.input):
                if name in self._floats and name not in self._tensors:
                    node.input[i] = self._as(name, wide=self._reads_wide(node, i))
            if not is_wide:
                _halve_attributes(node)
            self._nodes.append(_copy(node))
        self._cast_outputs()
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        return flushed

    def _reads_wide(self, node: "onnx.NodeProto", place: int) -> bool:
        return node.name in self._wide or place in _FP32_INPUTS.get(node.op_type, ())

    def _halve_weights(self) -> int:
        """Halve each weight for the nodes that compute in FP16; what both kinds read exists twice."""
        places = [
            (node, i, name)
            for node in self._graph.node
            for i, name in enumerate(node.input)
            if name in self._tensors and name in self._floats
        ]
        kept = {name for node, i, name in places if self._reads_wide(node, i)}
        flushed = 0
        for name in sorted({name for node, i, name in places if not self._reads_wide(node, i)}):
            half, lost = _half(self._tensors[name])
            flushed += lost
            if name not in kept:
                self._tensors[name].CopyFrom(half)
                continue
            half.name = f"{name}_fp16"
            self._graph.initializer.append(half)
            for node, i, read in places:
                if read == name and not self._reads_wide(node, i):
                    node.input[i] = half.name
        return flushed

    def _as(self, name: str, *, wide: bool) -> str:
        """The tensor in FP32 (`wide`) or FP16: itself, or behind a Cast that stands before its first use."""
        import onnx

        if (name in self._made_wide) is wide:
            return name
        if name not in self._casts:
            result = f"{name}_fp32" if wide else f"{name}_fp16"
            kind = onnx.TensorProto.FLOAT if wide else onnx.TensorProto.FLOAT16
            self._nodes.append(onnx.helper.make_node("Cast", [name], [result], f"{result}_cast", to=kind))
            self._casts[name] = result
        return self._casts[name]

    def _cast_outputs(self) -> None:
        import onnx

        for value in self._graph.output:
            if value.name not in self._floats or value.name in self._made_wide:
                continue
            half = f"{value.name}_fp16"
            for node in self._nodes:
                for names in (node.input, node.output):
                    for i, name in enumerate(names):
                        if name == value.name:
                            names[i] = half
            kind = onnx.TensorProto.FLOAT
            self._nodes.append(
                onnx.helper.make_node("Cast", [half], [value.name], f"{value.name}_cast", to=kind)
            )


def _half(tensor: "onnx.TensorProto") -> "tuple[onnx.TensorProto, int]":
    """A tensor in FP16, and how many of its non-zero values became zero."""
    import onnx

    wide: NDArray[np.float32] = onnx.numpy_helper.to_array(tensor)
    halves = wide.astype(np.float16)
    lost = int(np.count_nonzero(wide)) - int(np.count_nonzero(halves))
    return onnx.numpy_helper.from_array(halves, tensor.name), lost


def _halve_attributes(node: "onnx.NodeProto") -> None:
    """Casts to FP32 become Casts to FP16, and so do constants of a computed shape."""
    import onnx

    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Cast" and attributes["to"].i == onnx.TensorProto.FLOAT:
        attributes["to"].i = onnx.TensorProto.FLOAT16
    if node.op_type != "ConstantOfShape":
        return
    if "value" not in attributes:
        zero = onnx.numpy_helper.from_array(np.zeros(1, np.float16), "value")
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    elif attributes["value"].t.data_type == onnx.TensorProto.FLOAT:
        half, _ = _half(attributes["value"].t)
        attributes["value"].t.CopyFrom(half)


def _copy(node: "onnx.NodeProto") -> "onnx.NodeProto":
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
