"""Layers summed up by block, and two models side by side."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgepress.inspection.layer import Inspection, Layer

# The first numbered part of a name that has more behind it: block1_conv1, conv2_block1_1_conv (ResNet's stage
# conv2), block_3_expand, block5a_dwconv; not conv2d_17, which numbers the layers themselves.
_BLOCK = re.compile(
    r"(?<![a-z0-9_])(?:(?P<block>block_?\d+)[a-z]?|(?P<stage>(?:conv|stage|mixed)_?\d+))_", re.IGNORECASE
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
    for layer in inspection.layers:
        by_name.setdefault(block_name(layer), []).append(layer)
    return tuple(_sum(name, layers) for name, layers in by_name.items())


def block_name(layer: Layer) -> str:
    """The block that a layer belongs to (see `Block.name`)."""
    found = _BLOCK.search(layer.name)
    if found is not None:
        return str(found["block"] or found["stage"])
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
    names = {layer.name: layer for layer in other.layers}
    if not names.keys() & {layer.name for layer in one.layers} and len(one.layers) == len(other.layers):
        return tuple(Pair(a.name, a, b) for a, b in zip(one.layers, other.layers, strict=True))
    pairs = [Pair(layer.name, layer, names.pop(layer.name, None)) for layer in one.layers]
    return (*pairs, *(Pair(layer.name, None, layer) for layer in names.values()))
