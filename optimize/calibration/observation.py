"""What one graph's activations took, gathered picture by picture in memory that does not grow."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError, ProofError
from optimize.calibration.clipping import clipped_range
from optimize.calibration.histogram import Histogram
from optimize.calibration.method import CalibrationMethod
from optimize.calibration.quantized_tensors import QuantizedTensors
from optimize.calibration.range import Range, Ranges
from optimize.calibration.stability import Stability, stability_of
from optimize.calibration.table import GraphCalibration

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What one picture made some of the activations take.

    Attributes:
        ranges: Each activation's smallest and largest value.
        means: Activation that a weighted layer reads → its mean per input channel, (channels,).
        values: Activation that a histogram is wanted of → its values, float32.
    """

    ranges: Ranges
    means: Mapping[str, NDArray[np.floating]]
    values: Mapping[str, NDArray[np.float32]]


@dataclass
class _Running:
    """Smallest and largest value of one activation so far, and the average over the pictures of both."""

    seen: Range
    average: Range

    def take(self, found: Range, share: float) -> None:
        self.seen = self.seen.with_range(found)
        self.average = Range(
            self.average.lowest + share * (found.lowest - self.average.lowest),
            self.average.highest + share * (found.highest - self.average.highest),
        )


@dataclass
class _Part:
    """A part of the pictures: all of them, or one half."""

    pictures: int = 0
    running: dict[str, _Running] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def take_ranges(self, ranges: Ranges, constant: float) -> None:
        share = max(1 / self.pictures, constant)
        for name, found in ranges.items():
            if name in self.running:
                self.running[name].take(found, share)
            else:
                self.running[name] = _Running(found, found)

    def take_values(self, seen: Seen) -> None:
        for name, values in seen.values.items():
            found = seen.ranges[name]
            self.histograms.setdefault(name, Histogram()).add(values, found.lowest, found.highest)

    def range_of(self, name: str, method: CalibrationMethod) -> Range:
        running = self.running[name]
        if method is CalibrationMethod.MOVING_AVERAGE:
            return running.average
        if method.needs_histograms:
            return clipped_range(method, self.histograms[name], running.seen)
        return running.seen


class Observation:
    """Takes what each picture gives, and says in the end what the graph's ranges are."""

    def __init__(self, method: CalibrationMethod, tensors: QuantizedTensors, total: int) -> None:
        """Begin.

        Args:
            method: How ranges are taken.
            tensors: Of the graph.
            total: Number of pictures; the first half of them is compared with the second.
        """
        self._method = method
        self._tensors = tensors
        self._first_half = total // 2
        self._whole, self._halves = _Part(), (_Part(), _Part())
        self._sums: dict[str, NDArray[np.float64]] = {}

    def take(self, parts: Iterable[Seen], picture: str) -> None:
        """Take one more picture.

        Args:
            parts: What it gave; each activation is in one of them.
            picture: Its name, for messages.

        Raises:
            ProofError: A value is not finite.
        """
        half = self._halves[self._whole.pictures >= self._first_half]
        average = CalibrationMethod.MOVING_AVERAGE.parameter or 1.0
        for part in (self._whole, half):
            part.pictures += 1
        for seen in parts:
            _require_finite(seen.ranges, picture)
            for part in (self._whole, half):
                part.take_ranges(seen.ranges, average)
            half.take_values(seen)
            for name, mean in seen.means.items():
                self._sums[name] = self._sums.get(name, np.float64(0)) + mean.astype(np.float64)

    def result(self) -> GraphCalibration:
        """Ranges of all activations, and what else was gathered.

        Raises:
            InputError: There was no picture.
        """
        whole = self._whole
        if not whole.pictures:
            raise InputError("Calibration got no pictures: wanted at least 1. Name them with --data.")
        whole.histograms = _merged(*(half.histograms for half in self._halves))
        observed = {name: running.seen for name, running in whole.running.items()}
        dead = [name for name, seen in observed.items() if seen.is_dead]
        if dead:
            _LOGGER.warning(
                "Calibration: tensor %r is 0 for all pictures (%d such tensors). It gets the range 0…1.",
                dead[0],
                len(dead),
            )
        return GraphCalibration(
            ranges={name: self._range_of(name, whole).quantizable() for name in observed},
            observed=observed,
            channel_means={
                name: (total / whole.pictures).astype(np.float32) for name, total in self._sums.items()
            },
            stability=self._stability(),
        )

    def _range_of(self, name: str, part: _Part) -> Range:
        source = self._tensors.source.get(name, name)
        clipped = source in self._tensors.clippable
        return part.range_of(source, self._method if clipped else CalibrationMethod.MINMAX)

    def _stability(self) -> Stability | None:
        first, second = self._halves
        if not (first.pictures and second.pictures):
            return None
        names = sorted(self._tensors.clippable & self._whole.running.keys())
        one, other = ({name: self._range_of(name, part) for name in names} for part in self._halves)
        return stability_of(one, other, (first.pictures, second.pictures))


def _require_finite(ranges: Ranges, picture: str) -> None:
    for name, found in ranges.items():
        if not (math.isfinite(found.lowest) and math.isfinite(found.highest)):
            raise ProofError(
                f"Calibration: picture {picture!r} made tensor {name!r} take a value that is not finite "
                f"({found.lowest}…{found.highest}). Check the model's weights and --preprocess."
            )


def _merged(first: Mapping[str, Histogram], second: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """The histograms of both halves; the first is empty where there was one picture."""
    return {name: first[name].merged(found) if name in first else found for name, found in second.items()}
