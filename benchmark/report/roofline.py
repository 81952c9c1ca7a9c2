"""How near each version is to what the machine can do."""

from benchmark.measurement import Result, Results
from benchmark.report.measured import ran
from benchmark.report.number_text import milliseconds, significant, with_prefix
from benchmark.report.parts import NOTES, Section, Table
from benchmark.roofline import Ceilings, Roofline
from edgepress.runners.runner import title_of

_HEADERS = (
    "Variant",
    "Runner",
    "MMAC",
    "Moved MB",
    "MAC/byte",
    "Median ms",
    "Floor ms",
    "Achieved %",
    "GMAC/s",
    "Bound by",
    NOTES,
)


def floor_ns(found: Roofline) -> float:
    """The higher of the two floors: no program that does what the layers say is faster."""
    return max(found.compute_floor_ns, found.memory_floor_ns or 0.0)


def intensity(found: Roofline) -> float:
    """Multiply-accumulates for each byte that is moved."""
    return found.macs / max(found.moved_bytes, 1)


def macs_per_s(row: Result, found: Roofline) -> float:
    """At the median latency."""
    return found.macs / (row.latency.median_ns / 1e9) if row.latency else 0.0


def placed(results: Results) -> list[tuple[Result, Roofline]]:
    """Rows that stand under a roof."""
    return [
        (row, row.roofline) for row in ran(results) if row.roofline is not None and row.latency is not None
    ]


def roofline(results: Results) -> Section:
    """The ceilings in words, and a row for each version under them."""
    rows = placed(results)
    timed = any(row.latency is not None for row in results.results)
    ceilings = results.environment.ceilings if timed else None
    notes = tuple(dict.fromkeys(found.note for _, found in rows if found.note))
    return Section(
        "roofline",
        "Roofline",
        items=() if ceilings is None else ceilings_in_words(ceilings),
        tables=(
            Table(
                "Floor: the least time that this machine needs for the multiply-accumulates (MAC) and bytes "
                "of the layers as they are written. Achieved: floor over median.",
                _HEADERS,
                tuple(_cells(row, found, notes) for row, found in rows),
                frozenset(_HEADERS[2:9]),
                notes,
            ),
        ),
    )


def _cells(row: Result, found: Roofline, notes: tuple[str, ...]) -> tuple[str, ...]:
    return (
        row.artifact,
        title_of(row.runner),
        f"{found.macs / 1e6:.1f}",
        f"{found.moved_bytes / 1e6:.2f}",
        significant(intensity(found)),
        milliseconds(row.latency.median_ns if row.latency else None),
        milliseconds(floor_ns(found)),
        f"{found.achieved * 100:.0f}",
        significant(macs_per_s(row, found) / 1e9),
        found.bound_by.value,
        str(notes.index(found.note) + 1) if found.note else "",
    )


def ceilings_in_words(found: Ceilings) -> tuple[str, ...]:
    """What the machine can do at best, and what a reader of these rates must know."""
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    lines = [
        f"{rate.precision.value.upper()}: {with_prefix(rate.macs_per_s)}MAC/s at best with {threads} "
        f"({rate.library}, product of two {rate.size}×{rate.size} matrices)"
        for rate in found.gemm
    ]
    if found.read_bytes_per_s is not None:
        copied = found.copy_bytes_per_s
        also = "" if copied is None else f", copied at {with_prefix(copied)}B/s"
        lines.append(f"Memory: read at {with_prefix(found.read_bytes_per_s)}B/s{also}")
    if found.last_level_cache_bytes is not None:
        lines.append(f"Last-level cache: {found.last_level_cache_bytes / 1e6:.1f} MB")
    return (*lines, *found.notes)
