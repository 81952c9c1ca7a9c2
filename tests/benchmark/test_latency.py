import pytest

from benchmark.latency import Extent, repeat, timed


class FakeClock:
    """A clock that stands still until somebody moves it."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


def test_timed_gives_result_and_duration() -> None:
    clock = FakeClock(100)

    def action() -> str:
        clock.advance(7)
        return "done"

    assert timed(action, clock) == ("done", 7)


@pytest.mark.parametrize(
    ("extent", "count"),
    [
        (Extent(0, 3), 3),  # the count decides
        (Extent(100, 1), 10),  # the time decides
        (Extent(95, 1), 10),  # a repetition that has begun is finished
        (Extent(20, 5), 5),  # both must hold
        (Extent(0, 0), 0),
    ],
)
def test_repeat_reaches_both_time_and_count(extent: Extent, count: int) -> None:
    clock = FakeClock()
    assert repeat(lambda: clock.advance(10), extent, clock) == (10,) * count


def test_repeat_keeps_a_slow_repetition() -> None:
    clock = FakeClock()
    durations_ns = iter([10, 10_000, 10, 10])
    assert repeat(lambda: clock.advance(next(durations_ns)), Extent(0, 4), clock) == (10, 10_000, 10, 10)
