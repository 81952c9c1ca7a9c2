"""Two runs of the benchmark side by side: what became worse, what better, and what cannot be compared."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmark.measurement import RESULTS, Result, Results, Status
from benchmark.quantities import State
from edgepress.artifact import Device
from edgepress.errors import NotComparableError

_MACHINE = ("system", "cpu", "isa", "cores")
_FACTORS = (10.0, 5.0, 2.0, 1.5, 1.3, 1.2, 1.1)
_POINTS = (10.0, 5.0, 2.0, 1.0, 0.5)
_DECIBELS = (20.0, 10.0, 6.0, 3.0)
_LEAST_DECIBELS = 1.0

Interval = tuple[float, float]


class Course(str, Enum):
    """Which way a quantity went."""

    WORSE = "worse"
    GONE = "gone"  # the row ran in OLD and did not in NEW
    UNSURE = "unsure"  # a time changed, but one of the two was disturbed
    BETTER = "better"
    NEW = "new"
    SAME = "same"


class Quantity(str, Enum):
    """What is compared, with its unit."""

    LATENCY = "median latency (ms)"
    SPEEDUP = "speed-up against FP32"
    TOP1 = "top-1 (%)"
    TOP5 = "top-5 (%)"
    AGREEMENT = "agreement (%)"
    SNR = "logit SNR (dB)"
    PEAK = "peak memory (MB)"
    SIZE = "size (MB)"
    STATUS = "status"


_BY_FACTOR = frozenset({Quantity.LATENCY, Quantity.SPEEDUP, Quantity.PEAK, Quantity.SIZE})
_TIMES = frozenset({Quantity.LATENCY, Quantity.SPEEDUP})
_LESS_IS_BETTER = frozenset({Quantity.LATENCY, Quantity.PEAK, Quantity.SIZE})


@dataclass(frozen=True)
class Tolerance:
    """What counts as no change.

    Attributes:
        percent: Of time, speed-up, memory and size; two runs of the same thing differ by a few percent.
        points: Of top-1, top-5 and agreement, in percentage points; on the same pictures they do not differ
            at all unless the model or its runtime does.
    """

    percent: float = 5.0
    points: float = 0.0


@dataclass(frozen=True)
class Change:
    """One quantity of one row, then and now.

    Attributes:
        artifact: Id.
        runner: What ran it.
        device: Where.
        quantity: What is compared.
        old: In the quantity's unit; None for a status, and where it is not known.
        new: Likewise.
        course: Which way it went.
        bucket: How much, as a lower bound: "≥ 1.2×", "≥ 0.5 points"; or, for a row, what became of it.
    """

    artifact: str
    runner: str
    device: Device
    quantity: Quantity
    old: float | None
    new: float | None
    course: Course
    bucket: str

    @property
    def magnitude(self) -> float:
        """Larger for larger changes of one quantity; rows that are gone come first."""
        if self.old is None or self.new is None:
            return float("inf")
        if self.quantity in _BY_FACTOR:
            return max(self.old, self.new) / min(self.old, self.new)
        return abs(self.new - self.old)


def results_at(path: Path) -> Results:
    """results.json of a folder, or that file itself.

    Raises:
        InputError: There is none, or it is damaged.
    """
    return Results.load(path.parent if path.name == RESULTS else path)


def changes_of(old: Results, new: Results, tolerance: Tolerance) -> tuple[Change, ...]:
    """Every quantity of every row: what became worse first, and of that the largest change.

    A change of latency or speed-up counts only if the 95 % intervals of both runs lie apart, and if neither
    run was disturbed.

    Raises:
        NotComparableError: Another machine, model, boundary, protocol, batch or set of pictures, or no row
            in common.
    """
    require_comparable(old, new)
    before, after = ({_place(row): row for row in results.results} for results in (old, new))
    found = [
        change
        for place in dict.fromkeys((*before, *after))
        for change in _row_changes(before.get(place), after.get(place), tolerance)
    ]
    courses, quantities = list(Course), list(Quantity)
    found.sort(key=lambda c: (courses.index(c.course), quantities.index(c.quantity), -c.magnitude))
    return tuple(found)


def require_comparable(old: Results, new: Results) -> None:
    """Refuse two runs whose numbers do not mean the same.

    Raises:
        NotComparableError: The text names what differs, and what to do.
    """
    machines = old.environment.machine, new.environment.machine
    pairs = [
        *((f"the machine's {name}", *(m.get(name) for m in machines)) for name in _MACHINE),
        ("the model", old.model.name, new.model.name),
        ("the number of classes", old.model.class_count, new.model.class_count),
        ("the boundary of the stopwatch", old.boundary, new.boundary),
        ("the protocol", old.plan.thoroughness.value, new.plan.thoroughness.value),
        ("the set of pictures", _data(old), _data(new)),
        ("their preprocessing", *(dict(found.data.preprocessing) for found in (old, new))),
    ]
    for what, one, other in pairs:
        if one != other:
            raise NotComparableError(
                f"Wanted two runs on the same machine, model and pictures by the same protocol; {what} is "
                f"{one!r} in OLD and {other!r} in NEW. Measure both alike."
            )
    if old.plan != new.plan:
        raise NotComparableError("The two runs differ in how much they measured (plan). Measure both alike.")
    if not {_place(row) for row in _ran(old)} & {_place(row) for row in _ran(new)}:
        raise NotComparableError(
            "No row ran in both: wanted the same artifact, runner, device, threads and batch in OLD and NEW. "
            "Measure both with the same --variant, --device and --threads."
        )


def _data(results: Results) -> str:
    return f"{results.data.evaluated} pictures of fingerprint {results.data.fingerprint[:12]}"


def _ran(results: Results) -> list[Result]:
    return [row for row in results.results if row.status is Status.OK]


def _place(row: Result) -> tuple[str, str, Device, int, int]:
    return row.artifact, row.runner, row.device, row.threads, row.batch


def _row_changes(old: Result | None, new: Result | None, tolerance: Tolerance) -> Iterator[Change]:
    did, does = (row is not None and row.status is Status.OK for row in (old, new))
    if old is not None and new is not None and did and does:
        yield from _quantities(old, new, tolerance)
    elif old is not None and did:
        fate = "no such row" if new is None else f"{new.status.value}: {new.reason}"
        yield Change(*_place(old)[:3], Quantity.STATUS, None, None, Course.GONE, fate)
    elif new is not None and does:
        yield Change(*_place(new)[:3], Quantity.STATUS, None, None, Course.NEW, "ran")


def _quantities(old: Result, new: Result, tolerance: Tolerance) -> Iterator[Change]:
    before, after = _values(old), _values(new)
    yield from _identity(old, new)
    for quantity in before:
        one, other = before[quantity], after[quantity]
        if one is not None and other is not None:
            course, bucket = _judged(quantity, one, other, tolerance)
            if quantity in _TIMES and course is not Course.SAME and (doubt := _doubt(old, new)):
                course, bucket = Course.UNSURE, f"{bucket}, but {doubt}"
            yield Change(*_place(new)[:3], quantity, one.value, other.value, course, bucket)


def _identity(old: Result, new: Result) -> Iterator[Change]:
    """Logits that had the same bits as the reference's and have not any more: no decibels say how much."""
    one, other = old.accuracy, new.accuracy
    if one is None or other is None or one.logits_identical == other.logits_identical:
        return
    course = Course.WORSE if one.logits_identical else Course.BETTER
    words = "identical to FP32's logits before" if one.logits_identical else "identical to FP32's logits now"
    old_db, new_db = one.logit_snr_db, other.logit_snr_db
    yield Change(*_place(new)[:3], Quantity.SNR, old_db, new_db, course, words)


def _doubt(old: Result, new: Result) -> str | None:
    """Which of the two is not VALID; None if both are."""
    for name, row in (("OLD", old), ("NEW", new)):
        if row.verdict is not None and row.verdict.state is not State.VALID:
            return f"{name} is {row.verdict.state.value}: {'; '.join(row.verdict.reasons)}"
    return None


@dataclass(frozen=True)
class _Value:
    """A quantity with its 95 % interval, where it has one."""

    value: float
    ci95: Interval | None = None


def _values(row: Result) -> dict[Quantity, _Value | None]:
    latency, speedup, accuracy = row.latency, row.speedup, row.accuracy
    interval = latency.median_ci95_ns if latency else None
    ms = (interval[0] / 1e6, interval[1] / 1e6) if interval else None
    return {
        Quantity.LATENCY: _Value(latency.median_ns / 1e6, ms) if latency else None,
        Quantity.SPEEDUP: _Value(speedup.median, speedup.ci95) if speedup else None,
        Quantity.TOP1: _percent(accuracy.top1 if accuracy else None),
        Quantity.TOP5: _percent(accuracy.top5 if accuracy else None),
        Quantity.AGREEMENT: _percent(accuracy.agreement if accuracy else None),
        Quantity.SNR: _some(accuracy.logit_snr_db if accuracy else None, 1),
        Quantity.PEAK: _some(row.peak_rss_bytes or None, 1e-6),
        Quantity.SIZE: _some(row.size_bytes or None, 1e-6),
    }


def _percent(share: float | None) -> _Value | None:
    return _some(share, 100)


def _some(value: float | None, factor: float) -> _Value | None:
    return None if value is None else _Value(value * factor)


def _judged(quantity: Quantity, old: _Value, new: _Value, tolerance: Tolerance) -> tuple[Course, str]:
    """Which way a quantity went, and into which bucket."""
    if quantity in _BY_FACTOR:
        size = max(old.value, new.value) / min(old.value, new.value)
        changed = size >= 1 + tolerance.percent / 100 and _apart(old.ci95, new.ci95)
        bucket = _bucket(size, _FACTORS, "×", 1 + tolerance.percent / 100)
    else:
        size = round(abs(new.value - old.value), 9)
        least = _LEAST_DECIBELS if quantity is Quantity.SNR else tolerance.points
        changed = size >= least if quantity is Quantity.SNR else size > least
        steps, unit = (_DECIBELS, " dB") if quantity is Quantity.SNR else (_POINTS, " points")
        bucket = _bucket(size, steps, unit, least)
    if not changed:
        return Course.SAME, ""
    better = (new.value < old.value) == (quantity in _LESS_IS_BETTER)
    return (Course.BETTER if better else Course.WORSE), bucket


def _apart(one: Interval | None, other: Interval | None) -> bool:
    """Whether two intervals share nothing; where one is not known, nothing speaks against a change."""
    return one is None or other is None or one[1] < other[0] or other[1] < one[0]


def _bucket(size: float, steps: tuple[float, ...], unit: str, least: float) -> str:
    step = next((step for step in steps if size >= step), None)
    return f"≥ {step:g}{unit}" if step is not None else f"> {least:g}{unit}"
