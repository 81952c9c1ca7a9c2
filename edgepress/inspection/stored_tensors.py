"""Counting what lies in a file, where several layers may have the same of it."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredTensor:
    """Values that lie in a file.

    Attributes:
        place: Where; equal for tensors that are one.
        values: How many.
        size_bytes: In the file.
    """

    place: Hashable
    values: int
    size_bytes: int


class Tally:
    """Counts weights and biases of one layer after the other.

    Attributes:
        counted: Places of all that was counted so far.
    """

    def __init__(self) -> None:
        self.counted: set[Hashable] = set()

    def add(self, weight: StoredTensor | None, bias: StoredTensor | None) -> tuple[int, int, int]:
        """(weights, biases, bytes) that a layer adds to those before it.

        A layer whose weight an earlier one has is that layer, used again: it adds nothing. A bias alone is no
        sign of that, since converters store equal tensors (zeros, above all) once: its values count for each
        layer, its bytes once.
        """
        if weight is not None and weight.place in self.counted:
            return 0, 0, 0
        found = [tensor for tensor in (weight, bias) if tensor is not None]
        new_bytes = sum(tensor.size_bytes for tensor in found if tensor.place not in self.counted)
        self.counted.update(tensor.place for tensor in found)
        return weight.values if weight else 0, bias.values if bias else 0, new_bytes
