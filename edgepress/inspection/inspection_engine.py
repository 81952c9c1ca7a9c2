"""What TensorRT made of a network, layer by layer, out of its inspector's report.

The report (JSON) names the layers after fusion, the formats of their tensors, and where they come from. It
needs an open engine, so a GPU; reading it does not. TensorRT 10 lists inputs and outputs as names under
`Bindings`, 11 as objects under `I/O Tensors`. A plan that was built with layer names only tells no precision.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepress.artifact import Precision, Proof
from edgepress.engine_card import EngineCard
from edgepress.errors import InputError
from edgepress.inspection.layer import Layer
from edgepress.tensorrt_flavour import EndsInReport

_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_PRECISIONS = (  # in this order: what stands for a format may name several ("Int8 ... FP32 accumulation")
    (re.compile(r"int8"), Precision.INT8),
    (re.compile(r"fp16|half|float16"), Precision.FP16),
    (re.compile(r"fp32|float"), Precision.FP32),
)
_TYPE_KEYS = ("Format/Datatype", "DataType")
_REFORMAT = "reformat"
_REMEDY = "Ask the inspector of an open engine for JSON again."


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine, which may be several of the network's.

    Attributes:
        name: As TensorRT calls it.
        kind: `LayerType` of the report; empty where it tells names only.
        sources: Names of the ONNX nodes in it; empty where that is not told, as for most reformats.
        precision: Of the operands that it multiplies, or of its first input; None where that is not told, or
            is neither FP32, FP16 nor INT8.
        tactic: The kernel, as TensorRT calls it; empty where that is not told.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    precision: Precision | None
    tactic: str

    @property
    def is_reformat(self) -> bool:
        """Whether it only changes how a tensor lies in memory, or its type."""
        return _REFORMAT in self.kind.lower() or self.name.lower().startswith(_REFORMAT)


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution or matrix product of the network, and what became of it.

    Attributes:
        name: Of the ONNX node.
        macs: Multiply-accumulates for one picture.
        engine_layer: Name of the engine's layer that it is in; None where none names it.
        precision: In which it is computed; None where that is not told.
    """

    name: str
    macs: int
    engine_layer: str | None
    precision: Precision | None


@dataclass(frozen=True)
class EngineReport:
    """What an inspector's report says.

    Attributes:
        ends: Names of inputs and outputs.
        layers: All layers of the engine, in its order.
        weighted: Convolutions and matrix products of the network, in its order.
    """

    ends: tuple[str, ...]
    layers: tuple[EngineLayer, ...]
    weighted: tuple[WeightedLayer, ...]

    @property
    def reformats(self) -> int:
        """Number of layers that only change a format."""
        return sum(layer.is_reformat for layer in self.layers)

    @property
    def fused(self) -> tuple[EngineLayer, ...]:
        """Layers that are several nodes of the network."""
        return tuple(layer for layer in self.layers if len(layer.sources) > 1 and not layer.is_reformat)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Weighted layers of the network whose precision is not told."""
        return tuple(layer.name for layer in self.weighted if layer.precision is None)

    def mac_share(self, precision: Precision) -> float | None:
        """Share in [0, 1] of the MACs in a precision; None while that of some layer is not told."""
        whole = sum(layer.macs for layer in self.weighted)
        if self.unknown or not whole:
            return None
        return sum(layer.macs for layer in self.weighted if layer.precision is precision) / whole


def engine_report(text: str, network: Iterable[Layer]) -> EngineReport:
    """Read an inspector's report.

    Args:
        text: JSON of `EngineInspector.get_engine_information`.
        network: Weighted layers of the ONNX file that the engine was built from.

    Raises:
        InputError: It is no such report.
    """
    value = _value(text)
    layers = tuple(_layer(entry) for entry in value["Layers"])
    found = {source: layer for layer in layers for source in layer.sources if not layer.is_reformat}
    weighted = (_weighted(layer, found.get(layer.name)) for layer in network)
    return EngineReport(tuple(_ends(value)), layers, tuple(weighted))


def report_text(trt: Any, engine: Any, context: Any | None = None) -> str:
    """Ask an open engine for its report.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        engine: `ICudaEngine`.
        context: An execution context with its input shapes set, for an engine with an open batch: without one
            the report has no sizes.
    """
    inspector = engine.create_engine_inspector()
    if context is not None:
        inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def inspected_card(card: EngineCard, report: EngineReport) -> EngineCard:
    """The card of an engine that was looked into: its proof is no longer an inference.

    Raises:
        InputError: The report does not tell the precision of each weighted layer.
    """
    if report.unknown or not report.weighted:
        raise InputError(
            "Wanted a report with the precision of each weighted layer, got none for "
            f"{', '.join(report.unknown) or 'any'}. Build the plan with detailed profiling verbosity."
        )
    return replace(card, proof=Proof.INSPECTED)


def _value(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"The inspector's report is no JSON ({error}). {_REMEDY}") from error
    if not isinstance(value, dict) or not isinstance(value.get("Layers"), list):
        raise InputError(f"The inspector's report has no list of layers. {_REMEDY}")
    if not any(key.value in value for key in EndsInReport):
        wanted = " or ".join(f"`{key.value}`" for key in EndsInReport)
        raise InputError(f"The inspector's report has no {wanted}. {_REMEDY}")
    if not all(isinstance(entry, (str, dict)) for entry in value["Layers"]):
        raise InputError(
            f"The inspector's report has a layer that is neither a name nor an object. {_REMEDY}"
        )
    return value


def _ends(value: Mapping[str, Any]) -> Iterator[str]:
    if EndsInReport.BINDINGS.value in value:
        yield from map(str, value[EndsInReport.BINDINGS.value])
        return
    for entry in value[EndsInReport.IO_TENSORS.value]:
        yield str(entry["Name"])


def _layer(entry: Mapping[str, Any] | str) -> EngineLayer:
    if isinstance(entry, str):
        return EngineLayer(entry, "", _sources(entry, ""), None, "")
    name = str(entry.get("Name", ""))
    return EngineLayer(
        name,
        str(entry.get("LayerType", "")),
        _sources(name, str(entry.get("Metadata", ""))),
        _precision(_operand_types(entry)),
        str(entry.get("TacticName", "")),
    )


def _sources(name: str, metadata: str) -> tuple[str, ...]:
    """ONNX nodes in a layer: as its metadata say, or as its name joins them: "conv1 + relu1"."""
    told = _ORIGIN.findall(metadata)
    return tuple(dict.fromkeys(told or name.split(" + ")))


def _operand_types(entry: Mapping[str, Any]) -> Iterator[str]:
    """Types of what a layer multiplies: its first input, and its weights or the input in their place."""
    inputs = [_type(tensor) for tensor in entry.get("Inputs", []) if isinstance(tensor, dict)]
    weights = entry.get("Weights")
    yield from inputs[:1]
    if isinstance(weights, dict) and "Type" in weights:
        yield str(weights["Type"])
    else:
        yield from inputs[1:2]


def _type(tensor: Mapping[str, Any]) -> str:
    return next((str(tensor[key]) for key in _TYPE_KEYS if key in tensor), "")


def _precision(types: Iterable[str]) -> Precision | None:
    """The widest of the operands' precisions: a product is INT8 only if both are."""
    found = [
        next((precision for pattern, precision in _PRECISIONS if pattern.search(text.lower())), None)
        for text in types
    ]
    if None in found:
        return None
    return next((p for p in (Precision.FP32, Precision.FP16, Precision.INT8) if p in found), None)


def _weighted(layer: Layer, found: EngineLayer | None) -> WeightedLayer:
    if found is None:
        return WeightedLayer(layer.name, layer.macs, None, None)
    return WeightedLayer(layer.name, layer.macs, found.name, found.precision)
