"""What of a TFLite graph stays in float: the layers that are not named, and what lies between them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.errors import InputError, unknown_choice
from edgepress.inspection.tflite_graph import WEIGHT_PLACES, TfliteModel, layer_name, tflite_model
from optimize.between_layers import Place, places_in_8_bits
from optimize.calibration.tflite_calibration import CLIPPING, MOVING

_EXACT = MOVING | CLIPPING
# litert_quantizer's names for operators that it calls otherwise than TFLite's schema does.
_OTHER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


@dataclass(frozen=True)
class FloatOperator:
    """An operator that is not quantized.

    Attributes:
        scope: Regular expression that matches this operator's scope and no other.
        kind: What litert_quantizer calls its operation.
    """

    scope: str
    kind: str


@dataclass(frozen=True)
class FloatPart:
    """What of a graph stays in float.

    Attributes:
        layers: Names of the layers, in the order of the graph.
        operators: These, and what lies between them.
    """

    layers: tuple[str, ...]
    operators: tuple[FloatOperator, ...]


@dataclass(frozen=True)
class _Operator:
    """An operator, and the layer that it is."""

    kind: str
    place: Place
    layer: str | None


def layers_of_tflite(path: Path) -> tuple[str, ...]:
    """Names of the layers with a stored weight, in graph order, as `edgepress inspect` calls them.

    Raises:
        InputError: It is no TFLite file.
    """
    with tflite_model(path) as model:
        found = (operator.layer for operator in _operators(model))
        return tuple(dict.fromkeys(name for name in found if name is not None))


def float_part(path: Path, layers: frozenset[str], *, integer_input: bool) -> FloatPart:
    """What stays in float where only some layers are quantized.

    A layer that runs twice is quantized both times, or not at all.

    Args:
        path: FP32 TFLite file.
        layers: Names of those that are quantized.
        integer_input: Whether the model's input is in 8 bits anyway.

    Raises:
        InputError: A name is that of no layer with a stored weight; the message names the nearest.
    """
    with tflite_model(path) as model:
        operators = list(_operators(model))
        inputs = [model.graph.Inputs(i) for i in range(model.graph.InputsLength())]
        given = {_tensor_name(model, index) for index in inputs} if integer_input else set()
    known = tuple(dict.fromkeys(o.layer for o in operators if o.layer is not None))
    _require_known(layers, known)
    chosen = frozenset(o.place.name for o in operators if o.layer in layers)
    kept = chosen | places_in_8_bits([o.place for o in operators], chosen, frozenset(given))
    left = (FloatOperator(_only(o.place.name), o.kind) for o in operators if o.place.name not in kept)
    return FloatPart(
        tuple(name for name in known if name not in layers),
        tuple(dict.fromkeys(operator for operator in left if operator.kind in _quantizable())),
    )


def _require_known(layers: frozenset[str], known: tuple[str, ...]) -> None:
    unknown = sorted(layers - set(known))
    if unknown and not known:
        raise InputError(f"Layer {unknown[0]!r} cannot be quantized: the model has no layer with weights.")
    if unknown:
        raise unknown_choice("layer", unknown[0], list(known))


def _only(scope: str) -> str:
    """A regular expression for this scope alone: a search for "conv1" would find "conv10", too."""
    return f"^{re.escape(scope)}$"


def _quantizable() -> frozenset[str]:
    from litert_quantizer.qtyping import TFLOperationName

    return frozenset(name.value for name in TFLOperationName)


def _operators(model: TfliteModel) -> Iterator[_Operator]:
    quantizable = _quantizable()
    for name, operator in model.operators():
        read = [operator.Inputs(i) for i in range(operator.InputsLength())]
        computed = tuple(_tensor_name(model, i) for i in read if i >= 0 and not model.is_constant(i))
        made = tuple(_tensor_name(model, operator.Outputs(i)) for i in range(operator.OutputsLength()))
        kind, layer = _OTHER_NAMES.get(name, name), _layer_of(model, name, operator)
        scope = "".join(f"{output};" for output in made)  # as litert_quantizer has it
        exact = name in _EXACT
        yield _Operator(
            kind, Place(scope, computed, made, layer is not None, kind in quantizable, exact), layer
        )


def _layer_of(model: TfliteModel, name: str, operator: Any) -> str | None:
    if name not in WEIGHT_PLACES:
        return None
    weight = operator.Inputs(WEIGHT_PLACES[name])
    return layer_name(model, operator, weight) if model.is_constant(weight) else None


def _tensor_name(model: TfliteModel, index: int) -> str:
    return str(model.tensor(index).Name().decode())
