"""Names of a TFLite graph's tensors: operators have none, so what tells layers apart is what they make."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.conversion import IMAGES
from export.layer_scopes import call_of, layer_of
from export.tflite_file import builtin_name

if TYPE_CHECKING:
    import keras

NO_TENSOR = -1
"""In the place of an input that is left out."""
_ROLES = {
    ("CONV_2D", 1): "kernel",
    ("CONV_2D", 2): "bias",
    ("DEPTHWISE_CONV_2D", 1): "kernel",
    ("DEPTHWISE_CONV_2D", 2): "bias",
    ("TRANSPOSE_CONV", 1): "kernel",
    ("TRANSPOSE_CONV", 3): "bias",
    ("FULLY_CONNECTED", 1): "kernel",
    ("FULLY_CONNECTED", 2): "bias",
}


def layer_paths(network: "keras.Model", prefix: str = "") -> tuple[str, ...]:
    """Paths ("outer/inner") of all layers in the order of execution, a nested model after its own layers."""
    paths: list[str] = []
    for layer in network.layers:
        if hasattr(layer, "layers"):
            paths += layer_paths(layer, f"{prefix}{layer.name}/")
        paths.append(f"{prefix}{layer.name}")
    return tuple(paths)


def layers_of_variables(network: "keras.Model", prefix: str = "") -> dict[int, str]:
    """Path of the layer of each variable, by the variable's identity."""
    found: dict[int, str] = {}
    for layer in network.layers:
        path = f"{prefix}{layer.name}"
        inner = layers_of_variables(layer, f"{path}/") if hasattr(layer, "layers") else {}
        found |= {id(variable): path for variable in layer.variables} | inner
    return found


@dataclass(frozen=True)
class Layers:
    """A network's layers.

    Attributes:
        paths: See `layer_paths`.
        folded: Path of a layer → path of the layer folded into it.
    """

    paths: Sequence[str]
    folded: Mapping[str, str]


def name_after_layers(
    model: Any, layers: Layers, of_kernels: Mapping[int, str], outputs: Sequence[str]
) -> None:
    """Name the tensors of a graph that was converted while `marked_layers` was open, in place.

    The input is `images`, an output has its name in the signature. What a layer gives is called after the
    layer ("block1_conv1", with its activation; "outer/inner" in a nested model); what it makes on the way,
    after the operation as well ("dw/LOGISTIC"). Where one operation computes several layers, it is the last
    one's, a folded normalization's, too. A constant is called after the operation that takes it first, a
    weight after the layer that it is of ("block1_conv1/kernel"). What belongs to no layer is called
    "graph/CAST". Names that occur again get a number ("conv_2").

    Args:
        model: `ModelT` of one graph.
        layers: Of the network.
        of_kernels: Path of the layer that a weight is of, by the weight's tensor.
        outputs: Names of the graph's outputs.
    """
    graph = model.subgraphs[0]
    owners = [_Owner.of(graph.tensors[op.outputs[0]].name.decode(), layers) for op in graph.operators]
    last = {owner: i for i, owner in enumerate(owners)}
    names = {graph.inputs[0]: IMAGES, **dict(zip(graph.outputs, outputs, strict=True))}
    taken: Counter[str] = Counter()
    for i, operator in enumerate(graph.operators):
        kind = builtin_name(model.operatorCodes[operator.opcodeIndex])
        layer = owners[i].path
        inner = names.get(operator.outputs[0], f"{layer or 'graph'}/{kind}")
        name = _numbered(layer if layer and last[owners[i]] == i else inner, taken)
        weighted = next((of_kernels[index] for index in operator.inputs if index in of_kernels), name)
        for place, index in enumerate(operator.inputs):
            role = _ROLES.get((kind, place))
            names.setdefault(index, f"{weighted}/{role}" if role else f"{name}/constant_{place}")
        for place, index in enumerate(operator.outputs):
            names.setdefault(index, name if place == 0 else f"{name}:{place}")
    given: Counter[str] = Counter()
    names.pop(NO_TENSOR, None)
    for index, name in names.items():
        graph.tensors[index].name = _numbered(name, given).encode()


def _numbered(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}_{taken[name]}"


@dataclass(frozen=True)
class _Owner:
    """One call of a layer; without a path, none."""

    call: str = ""
    path: str = ""

    @classmethod
    def of(cls, tensor: str, layers: Layers) -> "_Owner":
        """The last layer in the name that the converter gave, which joins what it fuses by ";"."""
        order = {path: i for i, path in enumerate(layers.paths)}
        parts = [cls(call_of(part), layer_of(part)) for part in tensor.split(";")]
        last = max(parts, key=lambda part: order.get(part.path, -1))
        return cls(last.call, layers.folded.get(last.path, last.path))
