"""The weighted layers of an FP32 ONNX model, for equalization and bias correction."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.inspection.onnx_graph import consumers, inferred, load, shape_of, values, without_weights
from edgepress.inspection.onnx_places import Place, places_of_weights
from optimize.improvement.network import Array, Layer, Link, Network

if TYPE_CHECKING:
    import onnx

# f(s · x) = s · f(x) for each channel and every s > 0.
_PASSING = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Dropout",
        "Identity",
    }
)
_FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
_CONSTANT_PARTS = {"Conv": 3, "Gemm": 3, "MatMul": 2}


@contextmanager
def onnx_network(source: Path, destination: Path) -> Iterator[Network]:
    """The layers of `source`; what is done to them is in `destination`, which has the same bytes otherwise.

    Args:
        source: FP32 ONNX file; unchanged.
        destination: New file, as large.

    Raises:
        InputError: `source` is no ONNX file.
    """
    graph = without_weights(load(source))
    shutil.copyfile(source, destination)
    content = np.memmap(destination, np.uint8, "r+")
    yield _Graph(graph, places_of_weights(destination), content).network()
    content.flush()


class _Graph:
    """A graph, and the writable file that holds its weights."""

    def __init__(
        self, model: "onnx.ModelProto", places: dict[str, Place], content: NDArray[np.uint8]
    ) -> None:
        self._places = places
        self._content = content
        self._graph = model.graph
        self._readers = consumers(model.graph)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        described = values(inferred(model).graph)
        self._shapes = {value.name: shape_of(value) for value in described}
        self._nodes = {node.name or node.output[0]: node for node in model.graph.node if self._is_layer(node)}

    def network(self) -> Network:
        """Its layers and links."""
        seconds = {name: self._second_of(node) for name, node in self._nodes.items()}
        channels = {second: self._outputs_of(name) for name, second in seconds.items() if second}
        layers = {name: self._layer(node, channels.get(name)) for name, node in self._nodes.items()}
        links = (Link(first, second) for first, second in seconds.items() if second)
        fitting = (link for link in links if layers[link.first].outputs == layers[link.second].inputs)
        return Network(layers, tuple(fitting))

    def _is_layer(self, node: "onnx.NodeProto") -> bool:
        """A convolution or matrix product of constants that nobody else reads."""
        import onnx

        count = _CONSTANT_PARTS.get(node.op_type)
        constants = node.input[1:count] if count else ()
        return bool(constants) and all(
            name in self._places
            and self._tensors[name].data_type == onnx.TensorProto.FLOAT
            and len(self._readers[name]) == 1
            for name in constants
        )

    def _bias_of(self, node: "onnx.NodeProto") -> tuple[str | None, "onnx.NodeProto"]:
        """Name of a layer's bias, and the node after which it has been added."""
        if node.op_type != "MatMul":
            return (node.input[2] if len(node.input) > 2 and node.input[2] else None), node
        after = self._readers.get(node.output[0], [])
        if len(after) != 1 or after[0].op_type != "Add":
            return None, node
        bias = next((name for name in after[0].input if name in self._tensors), None)
        dims = list(self._tensors[bias].dims) if bias else []
        if bias is None or dims != [self._outputs_of(node.name or node.output[0])]:
            return None, node
        return bias, after[0]

    def _second_of(self, node: "onnx.NodeProto") -> str | None:
        """The next layer, if only what lets factors pass lies between."""
        outputs = {value.name for value in self._graph.output}
        bias, last = self._bias_of(node)
        name = last.output[0]
        if node.op_type == "MatMul" and bias is None and self._is_added(node):
            return None
        while True:
            readers = self._readers.get(name, [])
            if len(readers) != 1 or name in outputs:
                return None
            reader = readers[0]
            found = reader.name or reader.output[0]
            if found in self._nodes and reader.input[0] == name:
                return found
            if not (reader.op_type in _PASSING or self._flattens(reader)):
                return None
            name = reader.output[0]

    def _is_added(self, node: "onnx.NodeProto") -> bool:
        return any(reader.op_type == "Add" for reader in self._readers.get(node.output[0], []))

    def _flattens(self, node: "onnx.NodeProto") -> bool:
        """Whether a node turns (N, C, …) into (N, C · …): each channel's values stay together."""
        if node.op_type not in _FLATTENING:
            return False
        before, after = self._shapes.get(node.input[0], ()), self._shapes.get(node.output[0], ())
        known = before[1:]
        if len(after) != 2 or not known or None in known:
            return False
        return after[1] == int(np.prod([side for side in known if side is not None]))

    def _outputs_of(self, name: str) -> int:
        node = self._nodes[name]
        dims = self._tensors[node.input[1]].dims
        return int(dims[0] if node.op_type == "Conv" or _flag(node, "transB") else dims[1])

    def _layer(self, node: "onnx.NodeProto", channels: int | None) -> Layer:
        """A layer whose input has so many channels (None: as many as features)."""
        weight, bias = self._array(node.input[1]), self._bias_of(node)[0]
        if node.op_type == "Conv":
            groups = _flag(node, "group") or 1
            kernel = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        elif _flag(node, "transB"):
            features = channels if channels and weight.shape[1] % channels == 0 else weight.shape[1]
            kernel = weight.reshape(1, weight.shape[0], features, -1)
        else:
            features = channels if channels and weight.shape[0] % channels == 0 else weight.shape[0]
            kernel = weight.reshape(features, -1, weight.shape[1]).transpose(2, 0, 1)[np.newaxis]
        return Layer(kernel, None if bias is None else self._array(bias), node.input[0])

    def _array(self, name: str) -> Array:
        """A writable view of an initializer."""
        begin, size = self._places[name]
        return self._content[begin : begin + size].view(np.float32).reshape(self._tensors[name].dims)


def _flag(node: "onnx.NodeProto", name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 0)
