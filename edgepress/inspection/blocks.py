"""Layers summed up by block, and two models side by side."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgepress.inspection.layer import Inspection, Layer

# The first numbered part of a name that has more behind it: block1_conv1, block5a_dwconv, conv2_block1_1_conv
# (ResNet's stage conv2), convnext_tiny_stage_0_…, expanded_conv_3_project (MobileNetV3), layer1.0/conv1
# (PyTorch). Not conv2d_17 and not conv1/Conv2D, which number the layers themselves.
_BLOCK = re.compile(
    r"(?<![a-z0-9_])(?:"
    r"(?P<block>(?:[a-z]+_)*(?:block|stage|layer|mixed)_?\d+)[a-z]?[_./]"
    r"|(?P<convolution>(?:expanded_)?conv_?\d+)_)",
    re.IGNORECASE,
)
_DENSE = {"Dense", "Gemm", "MatMul", "FULLY_CONNECTED"}


@dataclass(frozen=True)
class Block:
    """The sum over some layers.

    Attributes:
        name: Such as "block1", from the layers' names; "dense" and "other" for the rest, by their kind.
        layers: How many.
        parameters: Weights and biases.
        macs: Multiply-accumulates for one picture.
        weight_bytes: Size of the weights and biases.
    """

    name: str
    layers: int
    parameters: int
    macs: int
    weight_bytes: int


@dataclass(frozen=True)
class Pair:
    """A layer of one model beside that of another; None where the other has none of that name."""

    name: str
    one: Layer | None
    other: Layer | None


def blocks_of(inspection: Inspection) -> tuple[Block, ...]:
    """The blocks of a model, in the order in which they begin."""
    by_name: dict[str, list[Layer]] = {}
    for name, layer in zip(block_names(inspection), inspection.layers, strict=True):
        by_name.setdefault(name, []).append(layer)
    return tuple(_sum(name, layers) for name, layers in by_name.items())


def block_names(inspection: Inspection) -> tuple[str, ...]:
    """The block that each layer belongs to (see `Block.name`)."""
    numbered = [_numbered(layer.name) for layer in inspection.layers]
    return tuple(
        block or (layer.name if layer.name in numbered else _kind_of(layer))  # conv1 belongs to conv1_bn
        for block, layer in zip(numbered, inspection.layers, strict=True)
    )


def _numbered(name: str) -> str | None:
    found = _BLOCK.search(name)
    return None if found is None else found["block"] or found["convolution"]


def _kind_of(layer: Layer) -> str:
    return "dense" if layer.kind in _DENSE else "other"


def _sum(name: str, layers: Iterable[Layer]) -> Block:
    layers = tuple(layers)
    return Block(
        name,
        len(layers),
        sum(layer.parameters + layer.biases for layer in layers),
        sum(layer.macs for layer in layers),
        sum(layer.weight_bytes for layer in layers),
    )


def pairs_of(one: Inspection, other: Inspection) -> tuple[Pair, ...]:
    """Layers of the same name side by side; by order where no name is common and the numbers agree."""
    theirs: dict[str, list[Layer]] = {}  # a name may be that of several layers, of different nested models
    for layer in other.layers:
        theirs.setdefault(layer.name, []).append(layer)
    if not theirs.keys() & {layer.name for layer in one.layers} and len(one.layers) == len(other.layers):
        return tuple(Pair(a.name, a, b) for a, b in zip(one.layers, other.layers, strict=True))
    pairs = []
    for layer in one.layers:
        same = theirs.get(layer.name)
        pairs.append(Pair(layer.name, layer, same.pop(0) if same else None))
    rest = (layer for layers in theirs.values() for layer in layers)
    return (*pairs, *(Pair(layer.name, None, layer) for layer in rest))
