"""The main table of a report, that of latencies, and the rows that did not run."""

from benchmark.measurement import Result, Results, Status
from benchmark.quantities import Latency, State
from benchmark.report.number_text import (
    ABSENT,
    decibels,
    megabytes,
    milliseconds,
    percent,
    state_of,
    times,
)
from benchmark.report.parts import NOTES, Section, Table
from edgepress.runners.runner import title_of

_NAMING = ("Variant", "Runner", "Precision")
HEADERS = (
    *_NAMING,
    "Median ms",
    "p90 ms",
    "Speed-up [95 %]",
    "Top-1 %",
    "Top-5 %",
    "Agreement %",
    "SNR dB",
    "Size MB",
    "Peak MB",
    NOTES,
)
_LATENCY_HEADERS = (
    "Variant",
    "Runner",
    "Samples",
    "Processes",
    "Min ms",
    "Median ms",
    "95 % interval ms",
    "p90 ms",
    "p99 ms",
    "CV %",
    "Load ms",
    "First ms",
)


def ran(results: Results) -> list[Result]:
    """Rows that ran, runner by runner."""
    found = [row for row in results.results if row.status is Status.OK]
    runners = list(dict.fromkeys((row.runner, row.device) for row in found))
    return sorted(found, key=lambda row: runners.index((row.runner, row.device)))


def measured(results: Results) -> Section:
    """Every row that ran."""
    return Section("measured", "Measured", tables=(measured_table(results),))


def measured_table(results: Results) -> Table:
    """Rows that ran, with numbered footnotes."""
    rows = ran(results)
    notes = tuple(dict.fromkeys(note for row in rows for note in _notes(row)))
    devices = " and ".join(dict.fromkeys(row.device.value.upper() for row in rows))
    return Table(
        f"Each version on each runner that can run it here ({devices or 'nothing ran'}). Speed-up is against "
        "FP32 on the same runner.",
        HEADERS,
        tuple(_cells(row, notes) for row in rows),
        frozenset(HEADERS) - {*_NAMING, NOTES},
        notes,
    )


def _notes(row: Result) -> tuple[str, ...]:
    """Reason, verdict and warnings, the gravest first."""
    verdict = row.verdict
    doubts = () if verdict is None else tuple(f"{verdict.state.value.upper()}: {r}" for r in verdict.reasons)
    return ((row.reason,) if row.reason else ()) + doubts + row.warnings


def _cells(row: Result, notes: tuple[str, ...]) -> tuple[str, ...]:
    accuracy, latency, state = row.accuracy, row.latency, state_of(row)
    numbers = ", ".join(str(notes.index(note) + 1) for note in _notes(row))
    return (
        row.artifact,
        title_of(row.runner),
        row.precision.value,
        milliseconds(latency.median_ns if latency else None),
        milliseconds(latency.p90_ns if latency else None),
        times(row.speedup),
        percent(accuracy.top1 if accuracy else None),
        percent(accuracy.top5 if accuracy else None),
        percent(accuracy.agreement if accuracy else None),
        decibels(accuracy),
        megabytes(row.size_bytes),
        megabytes(row.peak_rss_bytes),
        numbers if state is State.VALID else f"{state.value.upper()} {numbers}",
    )


def latencies(results: Results) -> Section:
    """How the samples of each version are distributed."""
    rows = [(row, row.latency) for row in ran(results) if row.latency is not None]
    return Section(
        "distributions",
        "Latency distributions",
        tables=(
            Table(
                "Of all counted inferences. Load and first: from the file to a ready runtime, and the very "
                "first inference, in the first process.",
                _LATENCY_HEADERS,
                tuple(_latency_cells(row, latency) for row, latency in rows),
                frozenset(_LATENCY_HEADERS) - {*_NAMING},
            ),
        ),
    )


def _latency_cells(row: Result, found: Latency) -> tuple[str, ...]:
    low, high = found.median_ci95_ns or (None, None)
    return (
        row.artifact,
        title_of(row.runner),
        str(len(found.samples_ns)),
        str(len(found.restart_counts)),
        milliseconds(found.min_ns),
        milliseconds(found.median_ns),
        ABSENT if low is None else f"{milliseconds(low)}–{milliseconds(high)}",
        milliseconds(found.p90_ns),
        milliseconds(found.p99_ns),
        f"{found.cv * 100:.1f}",
        milliseconds(found.load_ns),
        milliseconds(found.first_ns),
    )


def absent(results: Results) -> Section:
    """Rows that did not run, with their reasons."""
    rows = (row for row in results.results if row.status is not Status.OK)
    table = Table(
        "Not run is a result, too: each row with its reason.",
        ("Variant", "Runner", "Device", "Status", "Reason"),
        tuple(
            (row.artifact, title_of(row.runner), row.device.value, row.status.value, row.reason or ABSENT)
            for row in rows
        ),
    )
    return Section("not-run", "Not run", tables=(table,))
