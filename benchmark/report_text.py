"""The words and figures of a report, the same for Markdown and HTML."""

from dataclasses import dataclass

from benchmark.decisions import Decisions
from benchmark.measurement import BOUNDARY, RESULTS, Accuracy, Basis, Result, Results, Speedup, State, Status
from benchmark.plan import Thoroughness
from edgepress.artifact import Precision
from edgepress.metrics import resolvable_share

ABSENT = "–"
_SIGNIFICANT = 0.05

HEADERS = (
    "Variant",
    "Runner",
    "Device",
    "Precision",
    "Median ms",
    "p90 ms",
    "Speed-up [95 %]",
    "Top-1 %",
    "Top-5 %",
    "Agreement %",
    "SNR dB",
    "Size MB",
    "Peak MB",
    "Notes",
)
FLIP_HEADERS = ("Picture", "Label", "FP32", "This version", "FP32's margin")
CLASS_HEADERS = ("Class", "Pictures", "Right with FP32", "Right with this version")
_SHOWN_FLIPS = 20
SKIPPED_HEADERS = ("Variant", "Runner", "Device", "Status", "Reason")


@dataclass(frozen=True)
class Table:
    """Rows of finished text.

    Attributes:
        headers: Of the columns.
        rows: As many cells as headers each.
        notes: Footnotes; a row names them by number, counted from 1.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def milliseconds(duration_ns: float | None) -> str:
    """Three significant digits, e.g. "0.475", "12.3", "204"."""
    if duration_ns is None:
        return ABSENT
    value = duration_ns / 1e6
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def megabytes(size_bytes: int | None) -> str:
    """Millions of bytes, e.g. "1.0", "553"."""
    if size_bytes is None:
        return ABSENT
    value = size_bytes / 1e6
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float | None) -> str:
    """Share in [0, 1] as a percentage with two decimals, without the sign."""
    return ABSENT if share is None else f"{share * 100:.2f}"


def decibels(accuracy: Accuracy | None) -> str:
    """SNR of the logits, or "identical"."""
    if accuracy is None or (accuracy.logit_snr_db is None and not accuracy.logits_identical):
        return ABSENT
    return "identical" if accuracy.logit_snr_db is None else f"{accuracy.logit_snr_db:.1f}"


def times(speedup: Speedup | None) -> str:
    """Speed-up with its interval, e.g. "1.77× [1.70, 1.82]"; the baseline is "1 (baseline)"."""
    if speedup is None:
        return ABSENT
    if speedup.basis is Basis.DEFINITION:
        return "1 (baseline)"
    low, high = speedup.ci95
    return f"{speedup.median:.2f}× [{low:.2f}, {high:.2f}]"


def measured_table(results: Results) -> Table:
    """Rows that ran, runner by runner, with numbered footnotes."""
    ran = [row for row in results.results if row.status is Status.OK]
    runners = list(dict.fromkeys((row.runner, row.device) for row in ran))
    ran.sort(key=lambda row: runners.index((row.runner, row.device)))
    notes = tuple(dict.fromkeys(note for row in ran for note in _notes(row)))
    return Table(HEADERS, tuple(_cells(row, notes) for row in ran), notes)


def absent_table(results: Results) -> Table:
    """Rows that did not run, with their reasons."""
    absent = (row for row in results.results if row.status is not Status.OK)
    return Table(
        SKIPPED_HEADERS,
        tuple(
            (row.artifact, row.runner.value, row.device.value, row.status.value, row.reason or ABSENT)
            for row in absent
        ),
    )


def _notes(row: Result) -> tuple[str, ...]:
    """Reason, verdict and warnings, the gravest first."""
    verdict = row.verdict
    doubts = () if verdict is None else tuple(f"{verdict.state.value.upper()}: {r}" for r in verdict.reasons)
    return ((row.reason,) if row.reason else ()) + doubts + row.warnings


def _cells(row: Result, notes: tuple[str, ...]) -> tuple[str, ...]:
    accuracy, latency = row.accuracy, row.latency
    return (
        row.artifact,
        row.runner.value,
        row.device.value,
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
        ", ".join(str(notes.index(note) + 1) for note in _notes(row)),
    )


def summary(results: Results) -> tuple[str, ...]:
    """What came out, in sentences; the first one names the best speed-up and what it costs."""
    timed = [row for row in results.results if row.latency is not None]
    ran = [row for row in timed if row.verdict is None or row.verdict.state is State.VALID]
    sentences = [_best_speedup(ran, results)] if ran or not timed else []
    if doubtful := len(timed) - len(ran):
        sentences.append(
            f"{doubtful} of {len(timed)} times were disturbed and are not counted here: see the notes, and "
            "measure --again on a quiet machine."
        )
    if ran:
        quickest = min(ran, key=lambda row: row.latency.median_ns if row.latency else 0)
        latency = milliseconds(quickest.latency.median_ns if quickest.latency else None)
        sentences.append(
            f"The lowest latency of all is {latency} ms an image: {quickest.artifact} "
            f"on {quickest.runner.value}."
        )
    if failed := results.failed():
        sentences.append(f"{len(failed)} rows failed: {', '.join(row.artifact for row in failed)}.")
    if results.plan.thoroughness is Thoroughness.QUICK:
        sentences.append("These are quick measurements: for a look, not for a decision.")
    return tuple(sentences)


def _best_speedup(ran: list[Result], results: Results) -> str:
    faster = [
        (row, row.speedup)
        for row in ran
        if row.precision is not Precision.FP32 and row.speedup is not None and row.speedup.ci95[0] > 1
    ]
    if not faster:
        return "No version is shown to be faster than its own FP32 artifact on this machine."
    row, speedup = max(faster, key=lambda pair: pair[1].median)
    low, high = speedup.ci95
    share = _share_of_size(row, speedup.against, results)
    return (
        f"{row.artifact} ({row.precision.value.upper()}) runs {speedup.median:.2f} times as fast as "
        f"{speedup.against} on {row.runner.value} (95 % interval {low:.2f} to {high:.2f}){share}; "
        f"{_cost(row.accuracy, results)}."
    )


def _share_of_size(row: Result, against: str, results: Results) -> str:
    baseline = next((other for other in results.results if other.artifact == against), None)
    return f" at {row.size_bytes / baseline.size_bytes:.0%} of its size" if baseline else ""


def _cost(accuracy: Accuracy | None, results: Results) -> str:
    """What a version costs in accuracy, in words."""
    if accuracy is None:
        return "its accuracy is not known"
    images = f"{accuracy.images} pictures" if accuracy.images > 1 else "1 picture"
    if accuracy.top1 is None or results.baseline.top1 is None:
        return f"it gives the same top class as FP32 on {percent(accuracy.agreement)} % of {images}"
    points = (accuracy.top1 - results.baseline.top1) * 100
    p = accuracy.mcnemar_p
    sure = (
        "" if p is None else f", {'more than' if p < _SIGNIFICANT else 'within'} chance (McNemar p = {p:.2g})"
    )
    change = "unchanged" if points == 0 else f"{points:+.2f} points{sure}"
    return f"top-1 is {percent(accuracy.top1)} % on {images} ({change})"


@dataclass(frozen=True)
class Detail:
    """What one version decides otherwise than FP32.

    Attributes:
        title: A sentence.
        flips: The pictures whose top class changed, the clearest cases first.
        classes: Classes of which this version gets another number right.
    """

    title: str
    flips: Table
    classes: Table


def details(results: Results) -> tuple[Detail, ...]:
    """One for each row with flips, the most first; a row whose decisions are all the same has none."""
    found = [row for row in results.results if row.decisions is not None and row.decisions.flips]
    found.sort(key=lambda row: -len(row.decisions.flips) if row.decisions else 0)
    return tuple(_detail(row, row.decisions) for row in found if row.decisions is not None)


def _detail(row: Result, decisions: Decisions) -> Detail:
    images = row.accuracy.images if row.accuracy else 0
    flips = sorted(decisions.flips, key=lambda flip: -(flip.margin or 0))
    changed = [c for c in decisions.classes if c.right != c.reference_right]
    changed.sort(key=lambda c: c.right - c.reference_right)
    return Detail(
        f"{row.artifact} on {row.runner.value}: {len(flips)} of {images} pictures have another top class",
        Table(
            FLIP_HEADERS,
            tuple(
                (
                    f.picture,
                    f.label or ABSENT,
                    f.reference,
                    f.found,
                    ABSENT if f.margin is None else f"{f.margin:.2f}",
                )
                for f in flips[:_SHOWN_FLIPS]
            ),
            (f"and {len(flips) - _SHOWN_FLIPS} more in {RESULTS}",) if len(flips) > _SHOWN_FLIPS else (),
        ),
        Table(
            CLASS_HEADERS,
            tuple((c.name, str(c.images), str(c.reference_right), str(c.right)) for c in changed),
        ),
    )


def facts(results: Results) -> tuple[tuple[str, str], ...]:
    """Environment and data, as pairs of name and value."""
    machine, plan, data = results.environment.machine, results.plan, results.data
    memory = machine["memory_bytes"]
    left_out = f", {data.left_out} left out because they trained or calibrated" if data.left_out else ""
    return (
        ("Model", f"{results.model.name} ({results.model.parameters:,} parameters; {results.model.source})"),
        ("CPU", f"{machine['cpu']} ({machine['isa']}), {machine['cores']} cores"),
        ("Memory", f"{memory / 1e9:.1f} GB" if memory else "unknown"),
        ("CUDA device", f"none ({machine['cuda_absence']})" if machine["cuda_absence"] else "present"),
        ("System", f"{machine['system']}, Python {results.environment.python}"),
        (
            "Packages",
            ", ".join(f"{name} {version}" for name, version in results.environment.packages.items()),
        ),
        ("edgepress", results.environment.edgepress),
        ("Pictures", f"{data.source}: {data.evaluated} evaluated{left_out}"),
        ("Resolution", _resolution(results)),
        ("Reference", f"{results.baseline.artifact} on {results.baseline.runner.value}"),
        (
            "Plan",
            f"{plan.thoroughness.value}: {plan.pairs} pairs of blocks of at least "
            f"{plan.block.duration_ns / 1e6:.0f} ms and {plan.block.count} inferences",
        ),
    )


def _resolution(results: Results) -> str:
    """The smallest difference of top-1 that so many pictures could show."""
    count = results.data.evaluated
    if all(row.accuracy is None or row.accuracy.resolvable is None for row in results.results):
        return f"{count} pictures without labels of the model: agreement only"
    points = 100 * resolvable_share(count, 0)
    return f"{count} pictures cannot show a difference of top-1 below {points:.2g} points (McNemar, p < 0.05)"


METHOD = (
    f"Inside the stopwatch: {BOUNDARY}.",
    "Each version runs in a fresh process with one runtime, beside a fresh process of the FP32 artifact of "
    "the same runner, device and threads; blocks alternate in random order, and the process that waits is "
    "stopped.",
    "Speed-up is the median over pairs of neighbouring blocks of FP32's median over the version's; the "
    "interval is the percentile bootstrap (95 %) within one pair of processes. FP32's own row is measured "
    "alone, at another time, so two medians of the table need not have this ratio.",
    "Accuracy is computed in processes of its own, on pictures that calibration has not seen; agreement and "
    "SNR compare logits with the FP32 reference. p90 needs 64 samples, p99 needs 662; no sample is "
    "discarded.",
    "Peak memory is the process's highest resident memory above that of the same process with only the "
    "runtime imported; a memory-mapped model file counts as far as it was read. Size is bytes on disk.",
)
