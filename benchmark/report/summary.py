"""What came out, in sentences: the same on every page and in the terminal."""

from collections.abc import Sequence

from benchmark.measurement import Result, Results
from benchmark.plan import Thoroughness
from benchmark.preflight import Fitness
from benchmark.quantities import Accuracy, Speedup, State
from benchmark.report.number_text import (
    interval,
    is_believed,
    milliseconds,
    percent,
    points,
    probability,
    state_of,
)
from edgepress.artifact import Device, Precision
from edgepress.runners.runner import title_of

_SAME_SIZE = 0.05
_NAMES = {Precision.MIXED: "Mixed precision"}


def summary(results: Results) -> tuple[str, ...]:
    """What came out, in sentences; the first one names the best speed-up, and what it costs.

    Only rows that nothing speaks against are believed.
    """
    timed = [row for row in results.results if row.latency is not None]
    believed = [row for row in timed if is_believed(row)]
    sentences = _speedups(believed, results) if believed or not timed else []
    if len(believed) < len(timed):
        sentences.append(_left_out(timed))
    if believed:
        sentences.append(_quickest(believed, timed, results))
    if doubts := [one.subject for one in results.environment.preflight if one.fitness is Fitness.DOUBT]:
        sentences.append(f"The machine gave reason for doubt before the measurement: {', '.join(doubts)}.")
    if failed := results.failed():
        noun = "row" if len(failed) == 1 else "rows"
        sentences.append(f"{len(failed)} {noun} failed: {', '.join(row.artifact for row in failed)}.")
    if results.plan.thoroughness is Thoroughness.QUICK:
        sentences.append("These are quick measurements: for a look, not for a decision.")
    return tuple(sentences)


def _speedups(believed: Sequence[Result], results: Results) -> list[str]:
    """A sentence for the fastest version of each runner that is shown to be faster, the best runner first."""
    faster = [
        (row, row.speedup)
        for row in believed
        if row.precision is not Precision.FP32 and row.speedup is not None and row.speedup.ci95[0] > 1
    ]
    if not faster:
        return ["No version is shown to be faster than FP32 on this machine."]
    faster.sort(key=lambda pair: -pair[1].median)
    best: dict[tuple[str, Device], str] = {}
    for row, speedup in faster:
        best.setdefault((row.runner, row.device), _speedup(row, speedup, results))
    return list(best.values())


def _speedup(row: Result, speedup: Speedup, results: Results) -> str:
    name = _NAMES.get(row.precision, row.precision.value.upper())
    size = _size(row, speedup.against, results)
    parts = [
        f"{speedup.median:.2f}× faster {interval(speedup)} than FP32",
        *size,
        _cost(row.accuracy, results),
    ]
    return f"{name} on {title_of(row.runner)}: {', '.join(parts)}."


def _size(row: Result, against: str, results: Results) -> list[str]:
    baseline = next((other for other in results.results if other.artifact == against), None)
    if baseline is None or not row.size_bytes or not baseline.size_bytes:
        return []
    ratio = baseline.size_bytes / row.size_bytes
    if abs(ratio - 1) < _SAME_SIZE:
        return ["of the same size"]
    return [f"{ratio:.1f}× smaller" if ratio > 1 else f"{1 / ratio:.1f}× larger"]


def _cost(accuracy: Accuracy | None, results: Results) -> str:
    """What a version costs in accuracy."""
    if accuracy is None:
        return "accuracy not known"
    if accuracy.top1 is None or results.baseline.top1 is None:
        return f"agreement with FP32 {percent(accuracy.agreement)} %"
    change = accuracy.top1 - results.baseline.top1
    p = "" if accuracy.mcnemar_p is None else f" ({probability(accuracy.mcnemar_p)})"
    return f"top-1 {points(change)} points{p}" if change else f"top-1 unchanged{p}"


def _left_out(timed: Sequence[Result]) -> str:
    counts = {
        state: sum(state_of(row) is state for row in timed) for state in (State.UNSTABLE, State.INVALID)
    }
    total = sum(counts.values())
    kinds = " and ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    remedy = " Measure --again on a quiet machine." if counts[State.UNSTABLE] else ""
    are = "is" if total == 1 else "are"
    return f"{total} of {len(timed)} times {are} not believed here ({kinds}): see the notes.{remedy}"


def _quickest(believed: Sequence[Result], timed: Sequence[Result], results: Results) -> str:
    row = min(believed, key=lambda row: row.latency.median_ns if row.latency else 0)
    latency = milliseconds(row.latency.median_ns if row.latency else None)
    accuracy = row.accuracy
    top1 = "" if accuracy is None or accuracy.top1 is None else f", top-1 {percent(accuracy.top1)} %"
    pictures = f" on {results.data.evaluated} pictures" if top1 else ""
    among = "of all" if len(believed) == len(timed) else "of those that are believed"
    return (
        f"The lowest latency {among} is {latency} ms an image: {row.artifact} on "
        f"{title_of(row.runner)}{top1}{pictures}."
    )
