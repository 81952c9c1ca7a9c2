"""The offline scenario: pictures a second in batches."""

from benchmark.measurement import Result, Results
from benchmark.quantities import Throughput
from benchmark.report.measured import ran
from benchmark.report.number_text import ABSENT, significant, times
from benchmark.report.parts import Section, Table
from edgepress.runners.runner import title_of


def best_throughput(row: Result) -> Throughput | None:
    """The batch with the most pictures a second; None where the scenario was not run."""
    return max(row.offline, key=lambda found: found.images_per_s, default=None)


def throughput(results: Results) -> Section:
    """A row for each version, a column for each batch; empty without --offline."""
    rows = [(row, best) for row in ran(results) if (best := best_throughput(row)) is not None]
    batches = sorted({found.batch for row, _ in rows for found in row.offline})
    headers = (
        "Variant",
        "Runner",
        *(f"Batch {batch}" for batch in batches),
        "Best batch",
        "95 % interval",
        "Speed-up [95 %]",
    )
    return Section(
        "offline",
        "Offline throughput",
        tables=(
            Table(
                "Pictures a second, from the median batch. Interval and speed-up are those of the best "
                "batch; the speed-up is against FP32 at the same batch. A model of a fixed batch has one "
                "column only.",
                headers,
                tuple(_cells(row, best, batches) for row, best in rows),
                frozenset(headers[2:]),
            ),
        ),
    )


def _cells(row: Result, best: Throughput, batches: list[int]) -> tuple[str, ...]:
    found = {one.batch: significant(one.images_per_s) for one in row.offline}
    low, high = best.images_per_s_ci95 or (None, None)
    return (
        row.artifact,
        title_of(row.runner),
        *(found.get(batch, ABSENT) for batch in batches),
        str(best.batch),
        ABSENT if low is None or high is None else f"{significant(low)}–{significant(high)}",
        times(best.speedup),
    )
