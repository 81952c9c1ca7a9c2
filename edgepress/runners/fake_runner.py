"""A runner without a framework: scripted logits and a scripted clock, for tests of what drives a runner."""

from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class FakeClock:
    """A clock that stands still until somebody moves it."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """The time, like `time.perf_counter_ns`."""
        return self.now_ns

    def advance(self, duration_ns: int) -> None:
        """Let time pass."""
        self.now_ns += duration_ns


class FakeRunner:
    """Answers with `logits_of(images)` and lets `durations_ns` pass on `clock`, one per call, over and over.

    Attributes:
        evidence: "fake".
        calls: Number of calls of `infer` so far.
        is_open: Whether the runner is between `__enter__` and `__exit__`.
    """

    def __init__(
        self,
        logits_of: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        clock: FakeClock,
        durations_ns: tuple[int, ...] = (1_000_000,),
    ) -> None:
        self.evidence = "fake"
        self.calls = 0
        self.is_open = False
        self._logits_of = logits_of
        self._clock = clock
        self._durations_ns = durations_ns

    def __enter__(self) -> "FakeRunner":
        self.is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.is_open = False

    def infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, height, width, 3) float32 → the scripted (N, classes) float32 logits."""
        self._clock.advance(self._durations_ns[self.calls % len(self._durations_ns)])
        self.calls += 1
        return self._logits_of(images).astype(np.float32)
