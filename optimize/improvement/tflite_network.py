"""The weighted layers of an FP32 TFLite file, for equalization and bias correction."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.inspection.tflite_graph import TfliteModel, layer_name, shape_of, tflite_model, tflite_model_in
from optimize.improvement.network import Array, FeatureOrder, Layer, Link, Network

_PASSING = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D", "RELU"})


@contextmanager
def tflite_network(source: Path, destination: Path) -> Iterator[Network]:
    """The layers of `source`; what is done to them is in `destination`, which has the same bytes otherwise.

    Args:
        source: FP32 TFLite file; unchanged.
        destination: New file, as large.

    Raises:
        InputError: `source` is no TFLite file.
    """
    with tflite_model(source):  # says what is wrong with it
        shutil.copyfile(source, destination)
    content = np.memmap(destination, np.uint8, "r+")
    yield _Graph(tflite_model_in(content.data), content).network()
    content.flush()


class _Graph:
    """A writable file."""

    def __init__(self, model: TfliteModel, content: NDArray[np.uint8]) -> None:
        from ai_edge_litert.schema_py_generated import TensorType

        self._float = TensorType.FLOAT32
        self._model = model
        self._content = content
        self._operators = list(model.operators())
        self._readers: dict[int, list[int]] = {}
        for place, (_, operator) in enumerate(self._operators):
            for i in range(operator.InputsLength()):
                self._readers.setdefault(operator.Inputs(i), []).append(place)

    def network(self) -> Network:
        """Its layers and links."""
        layers: dict[str, Layer] = {}
        links: list[Link] = []
        names = {place: self._name(place) for place in range(len(self._operators)) if self._is_layer(place)}
        channels: dict[int, int] = {}
        for place, name in names.items():
            layers[name] = self._layer(place, channels.get(place))
            second = self._second_of(place, names)
            if second is not None:
                channels[second] = layers[name].outputs
                links.append(Link(name, names[second]))
        fitting = (link for link in links if layers[link.first].outputs == layers[link.second].inputs)
        return Network(layers, tuple(fitting))

    def _name(self, place: int) -> str:
        operator = self._operators[place][1]
        return layer_name(self._model, operator, operator.Inputs(1))

    def _is_layer(self, place: int) -> bool:
        name, operator = self._operators[place]
        if name not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
            return False
        parts = [operator.Inputs(i) for i in range(1, operator.InputsLength()) if operator.Inputs(i) >= 0]
        return all(
            self._model.is_constant(part)
            and self._model.tensor(part).Type() == self._float
            and len(self._readers[part]) == 1
            for part in parts
        )

    def _second_of(self, place: int, names: dict[int, str]) -> int | None:
        """The next layer, if only what lets factors pass lies between."""
        outputs = {index for _, index in self._model.outputs()}
        while True:
            index = self._operators[place][1].Outputs(0)
            readers = self._readers.get(index, [])
            if not self._passes(place, names) or self._activation(place) not in {"NONE", "RELU"}:
                return None
            if len(readers) != 1 or index in outputs:
                return None
            place = readers[0]
            if place in names:
                return place if self._operators[place][1].Inputs(0) == index else None

    def _passes(self, place: int, names: dict[int, str]) -> bool:
        name, operator = self._operators[place]
        if name == "RESHAPE":
            return self._flattens(operator)
        if name == "MEAN":
            return self._pools(operator)
        return name in _PASSING or place in names

    def _pools(self, operator: Any) -> bool:
        """The mean over rows and columns, which a GlobalAveragePooling2D becomes."""
        axes = operator.Inputs(1)
        if not self._model.is_constant(axes):
            return False
        begin, size = self._model.place_of(axes)
        return sorted(self._content[begin : begin + size].view(np.int32).tolist()) == [1, 2]

    def _flattens(self, operator: Any) -> bool:
        """(N, …, C) → (N, … · C): each position's channels stay together."""
        after = shape_of(self._model.tensor(operator.Outputs(0)))
        before = shape_of(self._model.tensor(operator.Inputs(0)))
        return len(after) == 2 and before[0] == after[0]

    def _activation(self, place: int) -> str:
        """What is fused into an operator: "NONE", "RELU", "RELU6", …."""
        from ai_edge_litert import schema_py_generated as schema

        name, operator = self._operators[place]
        kinds = {
            "CONV_2D": schema.Conv2DOptions,
            "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
            "FULLY_CONNECTED": schema.FullyConnectedOptions,
            "MAX_POOL_2D": schema.Pool2DOptions,
            "AVERAGE_POOL_2D": schema.Pool2DOptions,
        }
        table = operator.BuiltinOptions()
        if name not in kinds or table is None:
            return "NONE"
        options = kinds[name]()
        options.Init(table.Bytes, table.Pos)
        fused = options.FusedActivationFunction()
        kind = schema.ActivationFunctionType
        return next(str(key) for key, value in vars(kind).items() if value == fused and key[:1].isupper())

    def _layer(self, place: int, channels: int | None) -> Layer:
        """A layer whose input has so many channels (None: what the operator itself says)."""
        name, operator = self._operators[place]
        weight = self._array(operator.Inputs(1))
        has_bias = operator.InputsLength() > 2 and operator.Inputs(2) >= 0
        bias = self._array(operator.Inputs(2)) if has_bias else None
        reads = self._model.tensor(operator.Inputs(0))
        depth = shape_of(reads)[-1]
        if name == "CONV_2D":  # OHWI
            groups = depth // weight.shape[3]
            kernel = weight.reshape(groups, weight.shape[0] // groups, -1, weight.shape[3]).transpose(
                0, 1, 3, 2
            )
        elif name == "DEPTHWISE_CONV_2D":  # 1HWO, the outputs of one input together
            each = weight.shape[3] // depth
            kernel = weight.reshape(-1, depth, each).transpose(1, 2, 0)[:, :, np.newaxis, :]
        else:  # OI, the channels of one position together
            features = channels if channels and weight.shape[1] % channels == 0 else weight.shape[1]
            kernel = weight.reshape(weight.shape[0], -1, features).transpose(0, 2, 1)[np.newaxis]
        return Layer(kernel, bias, str(reads.Name().decode()), FeatureOrder.POSITION_BY_POSITION)

    def _array(self, index: int) -> Array:
        """A writable view of a constant."""
        begin, size = self._model.place_of(index)
        found = self._content[begin : begin + size].view(np.float32)
        return found.reshape(shape_of(self._model.tensor(index)))
