"""Range: the interval of values that a tensor's integers stand for."""

from collections.abc import Mapping
from dataclasses import dataclass

# Below, a tensor is as good as always 0: a scale of its magnitude / 127 would be under float32's precision.
_DEAD_MAGNITUDE = 2.0**-40


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that a tensor took; real numbers, in the tensor's own unit."""

    lowest: float
    highest: float

    @property
    def magnitude(self) -> float:
        """Largest absolute value."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def is_dead(self) -> bool:
        """Whether the tensor was always 0, as far as a scale can tell."""
        return self.magnitude < _DEAD_MAGNITUDE

    def with_range(self, other: "Range") -> "Range":
        """The smallest range that holds both."""
        return Range(min(self.lowest, other.lowest), max(self.highest, other.highest))

    def within(self, other: "Range") -> "Range":
        """What both have in common; both hold zero."""
        return Range(max(self.lowest, other.lowest), min(self.highest, other.highest))

    def quantizable(self) -> "Range":
        """This range with zero inside and a positive width.

        Zero must be exactly representable, since padding writes it and Relu makes it (B. Jacob et al., arXiv
        1712.05877, section 2.1). A tensor that was always 0 gets 0…1: no scale fits it better than another,
        and with this one the int32 bias of the layer that reads it (its unit is the product of both scales)
        neither overflows nor loses its steps.
        """
        return Range(0.0, 1.0) if self.is_dead else self.with_range(Range(0.0, 0.0))


Ranges = Mapping[str, Range]
