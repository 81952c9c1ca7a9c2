"""The only loop with a stopwatch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Clock = Callable[[], int]
"""Monotonic time in ns: `time.perf_counter_ns`, or a test's own."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Extent:
    """How long something is repeated: until both are reached.

    Attributes:
        duration_ns: Time since the first repetition began.
        count: Repetitions.
    """

    duration_ns: int
    count: int


def timed(action: Callable[[], Result], clock: Clock) -> tuple[Result, int]:
    """What `action` returns, and how long it took in ns."""
    start_ns = clock()
    result = action()
    return result, clock() - start_ns


def repeat(action: Callable[[], object], extent: Extent, clock: Clock) -> tuple[int, ...]:
    """Repeat `action` until both its count and its time are reached.

    Nothing is clipped or averaged: a slow repetition stays in the result.

    Returns:
        Duration of each repetition, in ns and in order.
    """
    samples_ns: list[int] = []
    start_ns = now_ns = clock()
    while len(samples_ns) < extent.count or now_ns - start_ns < extent.duration_ns:
        before_ns = clock()
        action()
        now_ns = clock()
        samples_ns.append(now_ns - before_ns)
    return tuple(samples_ns)
