"""What is worth computing in 8 bits between layers of which only some are in 8 bits, whatever the format."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """An operator of a graph.

    Attributes:
        name: Its own.
        reads: Tensors that it reads, without what is stored.
        makes: Tensors that it makes.
        is_layer: Whether it is a convolution or matrix product with a stored weight, which is chosen by name.
        has_kernel: Whether it can be computed in 8 bits.
        is_exact: Whether it keeps each value or chooses among values: quantized once, nothing is lost by
            staying in 8 bits.
    """

    name: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    is_layer: bool
    has_kernel: bool
    is_exact: bool


def places_in_8_bits(
    places: Sequence[Place], chosen: frozenset[str], given: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Names of the operators that are worth computing in 8 bits when only `chosen` layers are.

    What follows a chosen layer stays in 8 bits as long as that loses nothing (Relu, MaxPool, Reshape). What
    rounds anew (Add, AveragePool) does so only where all that reads it is in 8 bits too.

    Args:
        places: In order of execution.
        chosen: Names of layers.
        given: Tensors that are in 8 bits from the beginning, such as the model's input.
    """
    follows = _Follows(places, given)
    found: frozenset[str] = frozenset()
    for place in places:
        if not place.is_layer and place.has_kernel and follows(place, chosen | found):
            found |= {place.name}
    readers: dict[str, list[Place]] = {}
    for place in places:
        for name in place.reads:
            readers.setdefault(name, []).append(place)
    while True:
        kept = frozenset(
            place.name
            for place in places
            if place.name in found
            and (place.is_exact or _feeds_only(place, chosen | found, readers))
            and follows(place, chosen | found)
        )
        if kept == found:
            return found
        found = kept


class _Follows:
    """Whether all that an operator reads is in 8 bits, and it reads something."""

    def __init__(self, places: Sequence[Place], given: frozenset[str]) -> None:
        self._makers = {name: place.name for place in places for name in place.makes}
        self._given = given

    def __call__(self, place: Place, names: frozenset[str]) -> bool:
        return bool(place.reads) and all(
            name in self._given or self._makers.get(name) in names for name in place.reads
        )


def _feeds_only(place: Place, names: frozenset[str], readers: dict[str, list[Place]]) -> bool:
    """Whether operators of these names read each output, and no others."""
    return all(
        readers.get(name) and all(reader.name in names for reader in readers[name]) for name in place.makes
    )
