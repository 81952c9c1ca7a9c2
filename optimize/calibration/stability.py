"""Whether there were enough pictures: the ranges of the first half against those of the second."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimize.calibration.range import Range, Ranges

_LOGGER = logging.getLogger(__name__)

# Measured on a full-size VGG16 with real weights, worst tensor, two draws: with 2 to 16 photos 0.25 to 0.65
# by min-max (0.20 to 0.52 by the histograms); with 32 to 128, 0.25 to 0.32 (0.07 to 0.36). Above this, no set
# of 32 or more was found.
UNSTABLE = 0.4


@dataclass(frozen=True)
class Stability:
    """How far apart two halves of the pictures are.

    Attributes:
        pictures: Number of pictures of the first and of the second half.
        differences: Quantized tensor → by how much the ends of its two ranges differ, as a share of the
            width of both together: 0 where they are equal, at most 1.
    """

    pictures: tuple[int, int]
    differences: Mapping[str, float]

    @property
    def worst(self) -> tuple[str, float] | None:
        """The tensor that differs most, and by how much; None where nothing could be compared."""
        return max(self.differences.items(), key=lambda item: item[1], default=None)

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json."""
        return {"pictures": list(self.pictures), "differences": dict(sorted(self.differences.items()))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Stability":
        """The inverse of `to_json`."""
        first, second = value["pictures"]
        return cls((int(first), int(second)), {name: float(d) for name, d in value["differences"].items()})


def stability_of(first: Ranges, second: Ranges, pictures: tuple[int, int]) -> Stability:
    """Compare the ranges of both halves, tensor by tensor."""
    return Stability(pictures, {name: _difference(first[name], second[name]) for name in first})


def _difference(one: Range, other: Range) -> float:
    both = one.with_range(other).with_range(Range(0.0, 0.0))
    width = both.highest - both.lowest
    if both.is_dead:
        return 0.0
    return max(abs(one.lowest - other.lowest), abs(one.highest - other.highest)) / width


def warn_if_unstable(name: str, stability: Stability | None) -> None:
    """Log a warning where there were too few pictures.

    Args:
        name: Of the graph, for the message.
        stability: None where there was one picture.
    """
    if stability is None:
        _LOGGER.warning(
            "%s was calibrated on one picture: its ranges are that picture's, and nothing says how far "
            "others go. Give more with --samples.",
            name,
        )
        return
    worst = stability.worst
    if worst is not None and worst[1] > UNSTABLE:
        _LOGGER.warning(
            "%s: %d calibration pictures are too few. The ranges of their two halves differ by %.0f %% for "
            "tensor %r; up to %.0f %% is usual. Give --samples %d.",
            name,
            sum(stability.pictures),
            100 * worst[1],
            worst[0],
            100 * UNSTABLE,
            4 * sum(stability.pictures),
        )
