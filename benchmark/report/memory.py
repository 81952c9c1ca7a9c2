"""What each version occupies: on disk, in memory, and on the GPU."""

from benchmark.measurement import Result, Results
from benchmark.quantities import Memory
from benchmark.report.measured import ran
from benchmark.report.number_text import megabytes
from benchmark.report.parts import Bar, Chart, Section, Table
from edgepress.runners.runner import title_of

_HEADERS = (
    "Variant",
    "Runner",
    "File MB",
    "Runtime alone MB",
    "Loaded MB",
    "Of it mapped MB",
    "Peak MB",
    "GPU MB",
)


def mapped_bytes(memory: Memory | None) -> int | None:
    """Of what loading the model added, its weights that are mapped from the file, not copied."""
    return None if memory is None else memory.loaded_mapped_bytes


def memory(results: Results) -> Section:
    """A row for each version whose process was looked at."""
    rows = [(row, row.memory) for row in ran(results) if row.memory is not None]
    return Section(
        "memory",
        "Memory",
        tables=(
            Table(
                "Runtime alone: the process before the model. Loaded and peak: what the model added to it, "
                "after loading, and at most until the last inference. Mapped pages of a file can be taken "
                "back by the system at any time.",
                _HEADERS,
                tuple(_cells(row, found) for row, found in rows),
                frozenset(_HEADERS[2:]),
            ),
        ),
        chart=_chart(rows),
    )


def _cells(row: Result, found: Memory) -> tuple[str, ...]:
    return (
        row.artifact,
        title_of(row.runner),
        megabytes(row.size_bytes),
        megabytes(found.empty.rss_bytes),
        megabytes(found.loaded_rss_bytes),
        megabytes(mapped_bytes(found)),
        megabytes(found.peak_rss_bytes),
        megabytes(found.device_bytes),
    )


def _chart(rows: list[tuple[Result, Memory]]) -> Chart | None:
    peaks = [(row, found.peak_rss_bytes) for row, found in rows]
    most = max((peak for _, peak in peaks if peak is not None), default=0)
    if most <= 0:
        return None
    bars = (
        Bar(f"{row.artifact} on {title_of(row.runner)}", max(peak, 0) / most, f"{megabytes(max(peak, 0))} MB")
        for row, peak in peaks
        if peak is not None
    )
    return Chart("Peak memory above the runtime alone", tuple(bars))
