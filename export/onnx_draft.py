"""An ONNX graph while it is worked on: nodes, and constants that are not yet in it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from export.conversion import ReadWeight
from export.onnx_weight import Weight

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]

_SMALL_ELEMENTS = 64  # as many as a shape, axes or pads can have

BATCH = "batch"
"""Name of the dimension of a free batch."""

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)

# Each value of the result comes from the values at the same place alone.
ELEMENTWISE = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu"),
        *("Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less"),
        *(
            "LessOrEqual",
            "Log",
            "Max",
            "Min",
            "Mish",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "PRelu",
            "Pow",
            "Reciprocal",
        ),
        *("Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh"),
        *("ThresholdedRelu", "Where"),
    }
)


@dataclass
class Draft:
    """A graph in work. Its first input is the data; it has no initializers.

    Attributes:
        model: Changed in place.
        constants: Values by tensor name.
        shapes: Inferred shape of every tensor; None stands for a dimension that follows the batch.
        of_batch: Tensors whose first dimension is the batch itself, all others being known.
        absorbed: Of a tensor that another node made before: that node's name.
        reordered: Tensors that hold what they held before in another order.
    """

    model: "onnx.ModelProto"
    constants: dict[str, Weight]
    shapes: dict[str, Shape] = field(default_factory=dict)
    of_batch: set[str] = field(default_factory=set)
    absorbed: dict[str, str] = field(default_factory=dict)
    reordered: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: "onnx.ModelProto", weights: Mapping[str, ReadWeight]) -> "Draft":
        """Take initializers and graph inputs but the first one out of the graph."""
        from onnx import numpy_helper

        graph = model.graph
        constants = {name: Weight.held(read) for name, read in weights.items()}
        for tensor in graph.initializer:
            constants[tensor.name] = Weight.of(numpy_helper.to_array(tensor))
        del graph.initializer[:]
        del graph.input[1:]
        draft = cls(model, constants)
        draft.infer_shapes()
        return draft

    @property
    def graph(self) -> "onnx.GraphProto":
        """Of the model."""
        return self.model.graph

    @property
    def data_name(self) -> str:
        """The tensor of the graph's input."""
        return str(self.graph.input[0].name)

    def infer_shapes(self) -> None:
        """Bring `shapes` up to date."""
        import onnx

        inferred = onnx.shape_inference.infer_shapes(skeleton(self.model, self.constants), data_prop=True)
        graph = inferred.graph
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self.shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in dims
                )
                if dims and dims[0].dim_param == BATCH and self.shapes[value.name].count(None) == 1:
                    self.of_batch.add(value.name)

    def consumers(self) -> "dict[str, list[onnx.NodeProto]]":
        """The nodes that read each tensor."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    def producers(self) -> "dict[str, onnx.NodeProto]":
        """The node that makes each tensor."""
        return {name: node for node in self.graph.node for name in node.output}

    def uses(self) -> Counter[str]:
        """How often each tensor is read, outputs of the graph included."""
        found = Counter(name for node in self.graph.node for name in node.input)
        found.update(output.name for output in self.graph.output)
        return found

    def data_inputs(self, node: "onnx.NodeProto") -> list[str]:
        """Those inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def add_constant(self, name: str, weight: Weight) -> str:
        """Add one under a name that is free, and give that name."""
        free = name
        while free in self.constants:
            free += "'"
        self.constants[free] = weight
        return free

    def set_nodes(self, nodes: "Iterable[onnx.NodeProto]") -> None:
        """Put other nodes in place of the present ones."""
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def sort(self) -> None:
        """Leave what outputs need, in an order that depends on the graph alone: depth first."""
        producers = {name: i for i, node in enumerate(self.graph.node) for name in node.output}
        order: dict[int, None] = {}
        for output in self.graph.output:
            pending = [(output.name, False)]
            while pending:
                name, ready = pending.pop()
                place = producers.get(name)
                if place is None or place in order:
                    continue
                if ready:
                    order[place] = None
                    continue
                pending.append((name, True))
                pending.extend((source, False) for source in reversed(self.graph.node[place].input))
        self.set_nodes([self.graph.node[place] for place in order])

    def merge_duplicates(self) -> None:
        """Of nodes that compute the same, keep the first one in the order of `sort`."""
        self.sort()
        outputs = {output.name for output in self.graph.output}
        same: dict[str, str] = {}
        known: dict[object, onnx.NodeProto] = {}
        left = []
        for node in self.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = same.get(name, name)
            first = known.setdefault(self._computation_of(node), node)
            if first is node or outputs & {*node.output}:
                left.append(node)
            else:
                same |= dict(zip(node.output, first.output, strict=True))
        self.set_nodes(left)

    def _computation_of(self, node: "onnx.NodeProto") -> object:
        """What tells whether two nodes compute the same: small constants go by value, not by name."""
        inputs = tuple(
            _fingerprint(weight) if weight is not None and weight.size <= _SMALL_ELEMENTS else name
            for name, weight in ((name, self.constants.get(name)) for name in node.input)
        )
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        return node.op_type, len(node.output), inputs, tuple(attributes)


def _fingerprint(weight: Weight) -> object:
    return (weight.shape, weight.dtype.str, weight.value().tobytes())


def skeleton(model: "onnx.ModelProto", constants: Mapping[str, Weight]) -> "onnx.ModelProto":
    """A copy of a model in which small constants are initializers, and large ones are inputs of their shape.

    Shape inference and checker work on it: they look at values of small tensors only (targets of a Reshape,
    axes, pads).
    """
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for name, weight in constants.items():
        if math.prod(weight.shape) <= _SMALL_ELEMENTS:
            value = np.ascontiguousarray(weight.value()).reshape(weight.shape)
            probe.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
            probe.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, weight.shape))
    return probe


def attribute(node: "onnx.NodeProto", name: str, default: Any = None) -> Any:
    """Value of a node's attribute."""
    import onnx

    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def set_attribute(node: "onnx.NodeProto", name: str, value: Any) -> None:
    """Give a node's attribute a value; None removes it."""
    import onnx

    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(onnx.helper.make_attribute(name, value))


def permutation(node: "onnx.NodeProto | None") -> tuple[int, ...] | None:
    """What a Transpose does to the axes; None for another node."""
    if node is None or node.op_type != "Transpose":
        return None
    perm = attribute(node, "perm")
    return None if perm is None else tuple(perm)


def replace_input(node: "onnx.NodeProto", old: str, new: str) -> None:
    """Let a node read another tensor."""
    for i, name in enumerate(node.input):
        if name == old:
            node.input[i] = new
