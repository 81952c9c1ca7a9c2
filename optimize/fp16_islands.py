"""What FP16 cannot hold: the nodes of an ONNX graph that stay in FP32, and why.

A node computes in FP32 when a value that it reads or makes, or a weight of it, lies beyond 65,504. Nodes that
touch one another make one island: one Cast leads in, one leads out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import ProofError
from edgepress.inspection.onnx_graph import weighted_op
from optimize.calibration import Ranges

if TYPE_CHECKING:
    import onnx

FP16_MAX = 65504.0  # IEEE 754 binary16

# ONNX has no FP16 version of them.
_FP32_ONLY = frozenset({"NonMaxSuppression"})


@dataclass(frozen=True)
class Island:
    """Nodes that stay in FP32.

    Attributes:
        nodes: Their names, in graph order.
        tensor: The activation or weight that goes farthest beyond FP16; None where none does.
        magnitude: Its largest absolute value; None where a node is here because it has no FP16 version.
    """

    nodes: tuple[str, ...]
    tensor: str | None
    magnitude: float | None

    @property
    def reason(self) -> str:
        """Why, in a few words."""
        if self.magnitude is None:
            return "has no FP16 version"
        return f"{self.tensor} reaches {self.magnitude:.6g}, FP16 ends at {FP16_MAX:.0f}"


def islands_of(graph: "onnx.GraphProto", ranges: Ranges | None) -> tuple[Island, ...]:
    """The islands of a graph in FP32.

    Args:
        graph: Its nodes have names and are in topological order; its constants are initializers.
        ranges: Of its activations; None leaves activations unchecked.

    Raises:
        ProofError: A weight is not finite, or FP16 holds none of the weighted layers.
    """
    too_large = {name: r.magnitude for name, r in (ranges or {}).items() if r.magnitude > FP16_MAX}
    too_large |= _large_weights(graph)
    wide = {
        node.name
        for node in graph.node
        if node.op_type in _FP32_ONLY or any(name in too_large for name in (*node.input, *node.output))
    }
    wide |= _dequantizers_of(graph, wide)
    weighted = [node.name for node in graph.node if weighted_op(node)]
    if weighted and wide.issuperset(weighted) and too_large:
        name, magnitude = max(too_large.items(), key=lambda item: item[1])
        raise ProofError(
            f"FP16 holds no layer of this model: {name!r} reaches {magnitude:.6g}, FP16 ends at "
            f"{FP16_MAX:.0f}. Leave this recipe out for this model."
        )
    return tuple(_described(nodes, too_large) for nodes in _components(graph, wide))


def _large_weights(graph: "onnx.GraphProto") -> dict[str, float]:
    import onnx

    found: dict[str, float] = {}
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values: NDArray[np.float32] = onnx.numpy_helper.to_array(tensor)
        largest = float(np.max(np.abs(values), initial=0))
        if not np.isfinite(largest):
            raise ProofError(
                f"Weight {tensor.name!r} has values that are not finite. Train or export the model anew."
            )
        if largest > FP16_MAX:
            found[tensor.name] = largest
    return found


def _dequantizers_of(graph: "onnx.GraphProto", wide: set[str]) -> set[str]:
    """Dequantizers that only wide nodes read: their result has the type of their scale, without a Cast."""
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    return {
        node.name
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and readers.get(node.output[0])
        and readers[node.output[0]] <= wide
    }


def _components(graph: "onnx.GraphProto", wide: set[str]) -> "Iterator[list[onnx.NodeProto]]":
    """Wide nodes in groups that are connected by tensors."""
    island_of: dict[str, int] = {}  # by tensor
    members: dict[int, list[onnx.NodeProto]] = {}
    for number, node in enumerate(n for n in graph.node if n.name in wide):
        touched = {island_of[name] for name in node.input if name in island_of}
        nodes = [other for i in sorted(touched) for other in members.pop(i)]
        members[number] = [*nodes, node]
        island_of |= {name: number for other in members[number] for name in other.output}
    yield from members.values()


def _described(nodes: "list[onnx.NodeProto]", too_large: Mapping[str, float]) -> Island:
    names = tuple(node.name for node in nodes)
    reasons = {name for node in nodes for name in (*node.input, *node.output) if name in too_large}
    if not reasons:
        return Island(names, None, None)
    worst = max(sorted(reasons), key=lambda name: too_large[name])
    return Island(names, worst, too_large[worst])
