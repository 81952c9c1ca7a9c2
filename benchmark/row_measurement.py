"""One row of the results: latency, throughput, the profiler's pass, then accuracy in a process of its own."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.accuracy import accuracy_of
from benchmark.decisions import decisions_of
from benchmark.interleave import Run
from benchmark.measurement import Result, Status
from benchmark.plan import Plan, offline_plan
from benchmark.preprocessing_doubt import preprocessing_doubt
from benchmark.profile_summary import profile_of
from benchmark.protocol import FailureKind, Open
from benchmark.quantities import Memory, Profile, Speedup, Throughput
from benchmark.roofline import Ceilings, roofline_of
from benchmark.rows import ACCURACY_ONLY, Row
from benchmark.station import Pictures, Station
from benchmark.summary import (
    device_latency_of,
    gpu_conduct_of,
    latency_of,
    own_speedup,
    paired_speedup,
    throughput_of,
)
from benchmark.worker_process import WorkerError
from edgepress.artifact import Artifact, Device, Proof
from edgepress.errors import InputError
from edgepress.evaluation_data import Labels
from edgepress.inspection.earned import earned_precision, inspected
from edgepress.inspection.layer import Inspection
from edgepress.interface import Interface, Pixels
from edgepress.manifest import Manifest
from edgepress.runners.runner import Purpose


@dataclass(frozen=True)
class Job:
    """Everything that all rows share.

    Attributes:
        manifest: Of the artifacts.
        station: Where they are measured.
        plan: How much.
        pictures: What is evaluated.
        threads: Of every runtime.
        seed: Of orders and draws.
        batches: Of the offline scenario; empty without it.
        ceilings: Of the station.
    """

    manifest: Manifest
    station: Station
    plan: Plan
    pictures: Pictures
    threads: int
    seed: int
    batches: tuple[int, ...]
    ceilings: Ceilings

    def open(self, artifact: Artifact, runner: str, device: Device) -> Open:
        """The request that opens an artifact."""
        path, activation = str(self.manifest.path_of(artifact)), self.manifest.model.activation
        return Open(runner, device, path, self.threads, artifact.interface, activation)

    def input(self, interface: Interface, batch: int) -> NDArray[Any]:
        """An input of `batch` pictures: the first ones, repeated where there are too few."""
        pictures = self.pictures.pictures
        chosen = pictures.take(range(min(batch, len(pictures))))
        loaded = [*chosen.inputs(self.manifest.model.preprocessing, interface)]
        images = np.concatenate(loaded)
        return images[np.arange(batch) % len(images)]

    def logits(self, row: Row) -> NDArray[np.float32]:
        """(N, classes) logits of all evaluation pictures, from a fresh process."""
        subject = self.open(row.artifact, row.runner, row.device)
        return self.station.logits(subject, self.pictures, self.manifest.model.preprocessing)


@dataclass(frozen=True)
class Reference:
    """The FP32 logits that all rows are compared with.

    Attributes:
        row: Where they come from.
        logits: (N, classes).
        labels: (N,) class indices in the model's order; None without.
        note: Why there are none.
    """

    row: Row
    logits: NDArray[np.float32]
    labels: Labels | None
    note: str | None


def measured_row(job: Job, row: Row, blank: Result, reference: Reference) -> Result:
    """The row with all that was measured; a failure becomes its reason, and the next row can go on."""
    inspection = _inspection(job, row)
    result = _earned(blank, inspection)
    try:
        if row.purpose is Purpose.LATENCY_AND_ACCURACY:
            measured = _with_latency(job, row, result, inspection)
        else:
            measured = replace(result, reason=ACCURACY_ONLY)
        return _with_accuracy(job, row, measured, reference)
    except WorkerError as error:
        skipped = error.failure.kind is FailureKind.MISSING
        status = Status.SKIPPED if skipped else Status.FAILED
        return replace(result, status=status, reason=error.failure.message)


def _inspection(job: Job, row: Row) -> Inspection | None:
    try:
        return inspected(job.manifest.path_of(row.artifact), row.artifact.format)
    except InputError:  # its runtime will refuse it, too, and that is the row's reason
        return None


def _earned(result: Result, inspection: Inspection | None) -> Result:
    """The row with the precision that its content has earned, whatever the manifest says."""
    if inspection is None:
        return result
    shares = inspection.shares(Proof.INSPECTED)
    return replace(result, shares=shares, precision=earned_precision(shares))


def _subjects(job: Job, row: Row) -> tuple[list[Open], Artifact | None]:
    """The row, and beside it the FP32 artifact of its format where that is another one."""
    baseline = job.manifest.baseline(row.artifact.format)
    subjects = [job.open(row.artifact, row.runner, row.device)]
    if baseline is not None and baseline.id != row.artifact.id:
        subjects.append(job.open(baseline, row.runner, row.device))
    return subjects, baseline


def _with_latency(job: Job, row: Row, result: Result, inspection: Inspection | None) -> Result:
    """Measure the row interleaved with the FP32 artifact of its runner; that artifact itself alone."""
    subjects, baseline = _subjects(job, row)
    runs = job.station.measure(subjects, job.input(row.artifact.interface, _batch(row)), job.plan, job.seed)
    latency = latency_of(runs[0])
    memory = _memory_of(runs[0])
    roofline = None if inspection is None else roofline_of(inspection, latency.median_ns, job.ceilings)
    profile, note = _profiled(job, subjects[0])
    return replace(
        result,
        latency=latency,
        speedup=_speedup(runs, baseline, job.seed),
        memory=memory,
        peak_rss_bytes=memory.peak_rss_bytes,
        evidence=runs[0].evidence,
        offline=tuple(_throughput(job, row, batch) for batch in _batches(job, row)),
        roofline=roofline,
        profile=profile,
        profile_note=note,
        device_latency=device_latency_of(runs[0]),
        gpu=gpu_conduct_of(runs[0]),
    )


def _speedup(runs: tuple[Run, ...], baseline: Artifact | None, seed: int) -> Speedup | None:
    if baseline is None:
        return None
    if len(runs) == 1:
        return own_speedup(baseline.id)
    return paired_speedup(runs[0], runs[1], baseline.id, seed)


def _memory_of(run: Run) -> Memory:
    before, after = run.prepared.device_used_bytes, run.occupied.device_used_bytes
    device = None if before is None or after is None else after - before
    told = run.device_memory
    return Memory(
        run.prepared.residence,
        run.loaded,
        run.occupied.residence,
        device,
        run.occupied.device_process_bytes,
        told.taken_bytes if told else None,
        told.activation_bytes if told else None,
    )


def _batch(row: Row) -> int:
    return row.artifact.interface.batch or 1


def _batches(job: Job, row: Row) -> tuple[int, ...]:
    """Those that the artifact can take: all of them, unless its batch is fixed."""
    fixed = row.artifact.interface.batch
    return tuple(batch for batch in job.batches if fixed is None or batch == fixed)


def _throughput(job: Job, row: Row, batch: int) -> Throughput:
    subjects, baseline = _subjects(job, row)
    images = job.input(row.artifact.interface, batch)
    runs = job.station.measure(subjects, images, offline_plan(job.plan), job.seed)
    return throughput_of(batch, runs[0], _speedup(runs, baseline, job.seed))


def _profiled(job: Job, subject: Open) -> tuple[Profile | None, str | None]:
    """The profiler's pass; that it failed is no reason to drop what was measured without it."""
    try:
        image = job.input(subject.interface, subject.interface.batch or 1)
        found = job.station.profile(subject, image, job.plan.profiled_runs)
    except WorkerError as error:
        return None, f"the profiler's pass failed: {error}"
    return (profile_of(found.layers, job.plan.profiled_runs) if found.layers else None), found.note


def _doubt(job: Job, row: Row, reference: Reference, snr_db: float | None) -> str | None:
    subject = job.open(row.artifact, row.runner, row.device)
    if subject.interface.pixels is Pixels.RGB:  # its preprocessing is inside, and cannot be exchanged
        return None
    return preprocessing_doubt(
        job.pictures.pictures,
        job.manifest.model.preprocessing,
        reference.logits,
        lambda images: job.station.infer(subject, subject.interface.arranged(images)),
        snr_db,
    )


def _with_accuracy(job: Job, row: Row, result: Result, reference: Reference) -> Result:
    logits = reference.logits if row == reference.row else job.logits(row)
    accuracy = accuracy_of(logits, reference.logits, reference.labels, reference.note)
    names = [picture.name for picture in job.pictures.pictures.pictures]
    decisions = decisions_of(logits, reference.logits, reference.labels, names, job.manifest.model)
    doubt = _doubt(job, row, reference, accuracy.logit_snr_db)
    return replace(result, accuracy=accuracy, decisions=decisions, preprocessing_doubt=doubt)
