"""results.json as a table for a spreadsheet: a line per row, units in the names of the columns."""

import csv
import io
from collections.abc import Iterator

from benchmark.measurement import Result, Results

Cell = str | int | float | None


def csv_text(results: Results) -> str:
    """The text of report.csv (RFC 4180): every row, also those that did not run, with their reasons.

    Numbers are not rounded; an empty cell is a value that is not known.
    """
    lines = [dict(_cells(row, results)) for row in results.results]
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, fieldnames=list(lines[0]) if lines else ["artifact"], lineterminator="\r\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _cells(row: Result, results: Results) -> Iterator[tuple[str, Cell]]:
    yield from (
        ("artifact", row.artifact),
        ("format", row.format.value),
        ("precision", row.precision.value),
        ("promised", row.promised.value),
        ("recipe", row.recipe),
        ("runner", row.runner.value),
        ("device", row.device.value),
        ("threads", row.threads),
        ("batch", row.batch),
        ("status", row.status.value),
        ("reason", row.reason),
    )
    yield from _times(row)
    yield from _accuracy(row)
    yield from (
        ("verdict", row.verdict.state.value if row.verdict else None),
        ("verdict_reasons", "; ".join(row.verdict.reasons) if row.verdict else None),
        ("size_bytes", row.size_bytes),
        ("peak_rss_bytes", row.peak_rss_bytes),
        ("warnings", "; ".join(row.warnings)),
        ("evidence", row.evidence),
        ("cpu", str(results.environment.machine["cpu"])),
        ("plan", results.plan.thoroughness.value),
        ("data", results.data.source),
        ("artifact_sha256", row.artifact_sha256),
    )


def _times(row: Result) -> Iterator[tuple[str, Cell]]:
    found, speedup, other = row.latency, row.speedup, row.speedup_vs_fp16
    yield "median_ns", found.median_ns if found else None
    yield from _interval("median_ns", found.median_ci95_ns if found else None)
    yield "p90_ns", found.p90_ns if found else None
    yield "p99_ns", found.p99_ns if found else None
    yield "cv", found.cv if found else None
    yield "samples", len(found.samples_ns) if found else None
    yield "others_cpu", found.others_cpu if found else None
    yield "load_ns", found.load_ns if found else None
    yield "first_ns", found.first_ns if found else None
    yield "speedup", speedup.median if speedup else None
    yield from _interval("speedup", speedup.ci95 if speedup else None)
    yield "speedup_against", speedup.against if speedup else None
    yield "speedup_vs_fp16", other.median if other else None
    yield from _interval("speedup_vs_fp16", other.ci95 if other else None)


def _accuracy(row: Result) -> Iterator[tuple[str, Cell]]:
    found = row.accuracy
    yield "images", found.images if found else None
    yield "top1", found.top1 if found else None
    yield from _interval("top1", found.top1_ci95 if found else None)
    yield "top5", found.top5 if found else None
    yield from _interval("top5", found.top5_ci95 if found else None)
    yield "agreement", found.agreement if found else None
    yield "logit_snr_db", found.logit_snr_db if found else None
    yield "kl_nats", found.kl_nats if found else None
    yield "mcnemar_p", found.mcnemar_p if found else None


def _interval(name: str, interval: tuple[float, float] | None) -> Iterator[tuple[str, Cell]]:
    low, high = interval or (None, None)
    yield f"{name}_low", low
    yield f"{name}_high", high
