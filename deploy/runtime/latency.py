"""How long one inference takes here: in this process, with nothing but the model in the clock.

SPDX-License-Identifier: Apache-2.0
"""

import math
import time
from dataclasses import dataclass
from typing import Any

WARM_UP_S = 1.0
MEASURE_S = 3.0
FEWEST_RUNS = 20
FEWEST_FOR_P90 = 64  # a percentile needs samples on both of its sides
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Latency:
    """Times of single inferences.

    Attributes:
        samples_ns: Each one, in order, after the warm-up.
    """

    samples_ns: "tuple[int, ...]"

    @property
    def median_ns(self) -> float:
        """Half of the inferences took no longer."""
        ordered, middle = sorted(self.samples_ns), len(self.samples_ns) // 2
        if len(ordered) % 2:
            return float(ordered[middle])
        return (ordered[middle - 1] + ordered[middle]) / 2

    @property
    def p90_ns(self) -> "int | None":
        """Nine in ten took no longer; None where the samples are too few to tell."""
        if len(self.samples_ns) < FEWEST_FOR_P90:
            return None
        return sorted(self.samples_ns)[math.ceil(0.9 * len(self.samples_ns)) - 1]

    def told(self, batch: int) -> str:
        """In words, for batches of so many pictures."""
        p90 = "" if self.p90_ns is None else f", p90 {self.p90_ns / 1e6:.3f} ms"
        return (
            f"median {self.median_ns / 1e6:.3f} ms{p90}, least {min(self.samples_ns) / 1e6:.3f} ms "
            f"({len(self.samples_ns)} runs of a batch of {batch})"
        )


def latency_of(
    session: Any, inputs: Any, warm_up_s: float = WARM_UP_S, measure_s: float = MEASURE_S
) -> Latency:
    """Run one input again and again, first to warm up: at least for a time, and at least so many runs."""
    _timed(session, inputs, warm_up_s, 3)
    return Latency(tuple(_timed(session, inputs, measure_s, FEWEST_RUNS)))


def _timed(session: Any, inputs: Any, seconds: float, fewest: int) -> "list[int]":
    samples: list[int] = []
    end = time.perf_counter_ns() + round(seconds * _NS_PER_S)
    while len(samples) < fewest or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        session.run(inputs)
        samples.append(time.perf_counter_ns() - start)
    return samples
