"""results.json as a table for a spreadsheet: a line per row, units in the names of the columns."""

import csv
import io
from collections.abc import Iterator

from benchmark.measurement import Result, Results
from benchmark.profile_summary import UNKNOWN
from benchmark.report.memory import mapped_bytes
from benchmark.report.roofline import floor_ns, intensity, macs_per_s
from benchmark.report.throughput import best_throughput

Cell = str | int | float | None

_PRECISIONS = ("int8", "fp16", "fp32", UNKNOWN)


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
        ("runner", row.runner),
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
    )
    yield from _memory(row)
    yield from _gpu(row)
    yield from _throughput(row)
    yield from _roofline(row)
    yield from _what_ran(row)
    yield from (
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
    yield "restarts", len(found.restart_counts) if found else None
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


def _memory(row: Result) -> Iterator[tuple[str, Cell]]:
    found = row.memory
    yield "empty_rss_bytes", found.empty.rss_bytes if found else None
    yield "loaded_rss_bytes", found.loaded_rss_bytes if found else None
    yield "loaded_mapped_bytes", mapped_bytes(found)
    yield "peak_rss_bytes", row.peak_rss_bytes
    yield "device_bytes", found.device_bytes if found else None
    yield "device_process_bytes", found.device_process_bytes if found else None
    yield "device_taken_bytes", found.device_taken_bytes if found else None
    yield "device_activation_bytes", found.device_activation_bytes if found else None


def _gpu(row: Result) -> Iterator[tuple[str, Cell]]:
    times, gpu = row.device_latency, row.gpu
    yield "device_upload_ns", times.upload_ns if times else None
    yield "device_compute_ns", times.compute_ns if times else None
    yield "device_download_ns", times.download_ns if times else None
    yield "gpu_sm_mhz_low", min(gpu.sm_mhz) if gpu and gpu.sm_mhz else None
    yield "gpu_sm_mhz_high", max(gpu.sm_mhz) if gpu and gpu.sm_mhz else None
    yield "gpu_power_mw_high", max(gpu.power_mw) if gpu and gpu.power_mw else None
    yield "gpu_slowdowns", "; ".join(gpu.slowdowns) or None if gpu else None


def _throughput(row: Result) -> Iterator[tuple[str, Cell]]:
    best = best_throughput(row)
    yield "offline_images_per_s_best", best.images_per_s if best else None
    yield "offline_best_batch", best.batch if best else None
    yield "offline_speedup", best.speedup.median if best and best.speedup else None


def _roofline(row: Result) -> Iterator[tuple[str, Cell]]:
    found = row.roofline
    yield "macs", found.macs if found else None
    yield "moved_bytes", found.moved_bytes if found else None
    yield "macs_per_byte", intensity(found) if found else None
    yield "macs_per_s", macs_per_s(row, found) if found and row.latency else None
    yield "floor_ns", floor_ns(found) if found else None
    yield "achieved", found.achieved if found else None
    yield "bound_by", found.bound_by.value if found else None
    yield "roofline_note", found.note if found else None


def _what_ran(row: Result) -> Iterator[tuple[str, Cell]]:
    times = row.profile.precision_time_shares if row.profile else {}
    macs = row.shares.macs if row.shares else {}
    for name in _PRECISIONS:
        yield f"time_share_{name}", times.get(name, 0.0) if row.profile else None
    for name in _PRECISIONS[:-1]:
        yield f"mac_share_{name}", macs.get(name, 0.0) if row.shares else None
    places = row.profile.place_time_shares.items() if row.profile else ()
    yield "place_time_shares", "; ".join(f"{place} {share:.4f}" for place, share in places) or None
    yield "profile_note", row.profile_note


def _interval(name: str, interval: tuple[float, float] | None) -> Iterator[tuple[str, Cell]]:
    low, high = interval or (None, None)
    yield f"{name}_low", low
    yield f"{name}_high", high
