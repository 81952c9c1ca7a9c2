"""Stage 3, from a folder with a manifest to its results.json."""

import logging
import platform
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgepress
from benchmark.accuracy import Labels, accuracy_of, labels_for
from benchmark.comparisons import with_comparisons
from benchmark.decisions import decisions_of
from benchmark.evaluation_data import Evaluation, data_for, evaluation_of
from benchmark.interleave import Run, measure
from benchmark.measurement import (
    BOUNDARY,
    RESULTS,
    SCHEMA_VERSION,
    Baseline,
    Data,
    Environment,
    Memory,
    Model,
    Result,
    Results,
    Status,
)
from benchmark.plan import FULL, QUICK, Plan
from benchmark.protocol import Evaluate, Evaluated, FailureKind, Open, Opened, Prepare, Prepared
from benchmark.rows import ACCURACY_ONLY, Purpose, Row, rows_of, skip_reason
from benchmark.summary import latency_of, own_speedup, paired_speedup
from benchmark.worker_process import PATIENCE_S, WorkerError, WorkerProcess
from edgepress.artifact import Artifact, Device, Format, Runtime
from edgepress.errors import InputError
from edgepress.files import sha256_of_json
from edgepress.inspection.earned import earned_precision, inspected_shares
from edgepress.lock import exclusive
from edgepress.machine import cuda_device_absence, this_machine, usable_cores
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.record import to_json

logger = logging.getLogger(__name__)

_PACKAGES = (
    *("ai-edge-litert", "keras", "numpy", "onnxruntime", "onnxruntime-gpu"),
    *("pillow", "scikit-learn", "tensorflow"),
)
_PATIENCE_PER_PICTURE_S = 30.0
_REFERENCES = (
    (Format.SAVED_MODEL, Runtime.TENSORFLOW, "tensorflow"),
    (Format.ONNX, Runtime.ONNXRUNTIME, "onnxruntime"),
    (Format.TFLITE, Runtime.LITERT, "ai_edge_litert"),
)


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to measure.

    Attributes:
        folder: With a manifest.json; results.json is written there.
        device: Where to measure.
        variants: Ids of artifacts; None for all.
        data: DATA to evaluate; None for the embedded model's own.
        quick: Fewer samples: for a look, not for a decision.
        threads: Of every runtime; None for all cores.
        limit: Evaluate at most so many pictures.
        seed: Of the order of blocks, the draw of pictures and the bootstrap.
        again: Measure also if the results that are there are of the same things: an unstable row may be
            stable on a quieter machine.
    """

    folder: Path
    device: Device = Device.CPU
    variants: tuple[str, ...] | None = None
    data: str | None = None
    quick: bool = False
    threads: int | None = None
    limit: int | None = None
    seed: int = 0
    again: bool = False


@dataclass(frozen=True)
class _Job:
    """Everything that all rows share."""

    manifest: Manifest
    plan: Plan
    data: str
    evaluation: Evaluation
    threads: int
    seed: int
    scratch: Path

    def open(self, artifact: Artifact, runner: Runtime, device: Device) -> Open:
        return Open(runner, device, str(self.manifest.path_of(artifact)), self.threads)


@dataclass(frozen=True)
class _Reference:
    """The FP32 logits that all rows are compared with."""

    row: Row
    logits: NDArray[np.float32]
    labels: Labels | None
    note: str | None


def benchmark_folder(request: BenchmarkRequest, progress: Progress = silent) -> Results:
    """Measure the artifacts of a folder and write its results.json.

    A row that fails is in the results with its reason, and the others go on. If nothing has changed since
    the last run, nothing is measured again.

    Raises:
        InputError: Bad request, no manifest, an artifact that was changed, or unusable DATA. An existing
            results.json stays as it is.
    """
    with exclusive(request.folder):
        return _brought_up_to_date(request, progress)


def _brought_up_to_date(request: BenchmarkRequest, progress: Progress) -> Results:
    manifest = Manifest.load(request.folder)
    absence = cuda_device_absence()
    if request.device is Device.CUDA and absence is not None:
        raise InputError(f"--device cuda: no CUDA device ({absence}). Use --device cpu.")
    if request.threads is not None and request.threads > usable_cores():
        raise InputError(
            f"--threads {request.threads}: this process may use {usable_cores()} cores. Give at most so many."
        )
    rows = rows_of(manifest, request.variants)
    data = data_for(manifest.model.name, request.data)
    evaluation = evaluation_of(manifest, data, request.limit, request.seed)
    reference_row = _reference_row(manifest)
    used = _used_artifacts(manifest, rows, reference_row)
    plan, threads = QUICK if request.quick else FULL, request.threads or usable_cores()
    with tempfile.TemporaryDirectory() as scratch:
        job = _Job(manifest, plan, data, evaluation, threads, request.seed, Path(scratch))
        blank = _blank(job, rows, reference_row, request.device)
        known = None if request.again else _known(request.folder, blank.key)
        if known is not None and all(manifest.is_whole(artifact) for artifact in used):
            logger.info("%s is up to date", request.folder / RESULTS)
            return known
        for artifact in used:
            manifest.verify(artifact)
        results = _filled(job, blank, rows, reference_row, progress)
    results.save(request.folder)
    return results


def _used_artifacts(manifest: Manifest, rows: tuple[Row, ...], reference: Row) -> tuple[Artifact, ...]:
    """Every artifact that is opened, once, in the manifest's order."""
    baselines = [manifest.baseline(row.artifact.format) for row in rows]
    used = {a.id for a in (*(row.artifact for row in rows), *baselines, reference.artifact) if a}
    return tuple(artifact for artifact in manifest.artifacts if artifact.id in used)


def _reference_row(manifest: Manifest) -> Row:
    """The first FP32 artifact whose runtime is installed."""
    for file_format, runner, package in _REFERENCES:
        artifact = manifest.baseline(file_format)
        if artifact is not None and find_spec(package) is not None:
            return Row(artifact, runner, Device.CPU)
    raise InputError(
        f"{manifest.folder} has no FP32 artifact that a runtime here can run, so there is nothing to compare "
        "with. Export one (edgepress export MODEL --format onnx), or install its runtime (make setup)."
    )


def _known(folder: Path, key: str) -> Results | None:
    """Results of the same things, unless a row had failed."""
    if not (folder / RESULTS).is_file():
        return None
    try:
        known = Results.load(folder)
    except InputError as error:
        logger.info("measuring anew: %s", error)
        return None
    return known if known.key == key and not known.failed() else None


def _blank(job: _Job, rows: tuple[Row, ...], reference: Row, device: Device) -> Results:
    """The results before anything is measured: rows that will not run are complete, with their reasons."""
    model, pictures = job.manifest.model, job.evaluation.pictures
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    machine = this_machine().to_json()
    blank = Results(
        SCHEMA_VERSION,
        "",
        BOUNDARY,
        Model(model.name, model.source, model.parameters, model.class_count),
        Environment(edgepress.__version__, platform.python_version(), packages, machine),
        Baseline(reference.artifact.id, reference.runner, reference.device, None, None),
        Data(job.data, len(pictures), job.evaluation.left_out, pictures.fingerprint),
        job.plan,
        tuple(_blank_row(row, device, job.threads) for row in rows),
    )
    depends_on = [to_json(blank), reference.artifact.sha256, job.seed, to_json(model), pictures.classes]
    return replace(blank, key=sha256_of_json(depends_on))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blank_row(row: Row, device: Device, threads: int) -> Result:
    artifact = row.artifact
    reason = skip_reason(row, device, cuda_device_absence())
    return Result(
        artifact=artifact.id,
        artifact_sha256=artifact.sha256,
        format=artifact.format,
        precision=artifact.precision,
        promised=artifact.precision,
        shares=None,
        recipe=artifact.recipe,
        runner=row.runner,
        device=row.device,
        threads=threads,
        batch=1,
        status=Status.SKIPPED if reason else Status.OK,
        reason=reason,
        latency=None,
        speedup=None,
        speedup_vs_fp16=None,
        accuracy=None,
        decisions=None,
        size_bytes=artifact.size_bytes,
        peak_rss_bytes=None,
        memory=None,
        evidence=None,
        verdict=None,
        warnings=(),
    )


def _filled(
    job: _Job, blank: Results, rows: tuple[Row, ...], reference_row: Row, progress: Progress
) -> Results:
    """Measure every row that is to run, one after the other."""
    first = next(job.evaluation.pictures.take([0]).inputs(job.manifest.model.preprocessing))
    np.save(job.scratch / "input.npy", first)
    total = 1 + sum(result.status is Status.OK for result in blank.results)
    progress("benchmark", 0, total)
    reference = _reference(job, reference_row)
    done = 1
    filled: list[Result] = []
    for row, result in zip(rows, blank.results, strict=True):
        if result.status is Status.OK:
            progress("benchmark", done, total)
            filled.append(_measured(job, row, _inspected(job, row, result), reference))
            done += 1
        else:
            filled.append(result)
    progress("benchmark", total, total)
    own = accuracy_of(reference.logits, reference.logits, reference.labels, reference.note)
    baseline = replace(blank.baseline, top1=own.top1, top5=own.top5)
    isa = blank.environment.machine["isa"]
    return replace(blank, baseline=baseline, results=with_comparisons(tuple(filled), isa, job.seed))


def _reference(job: _Job, row: Row) -> _Reference:
    """Run the FP32 reference first: data that cannot be read shows before anything is measured."""
    labels, note = labels_for(job.manifest.model, job.evaluation.pictures)
    try:
        logits = _logits(job, row)
    except WorkerError as error:
        text = f"The FP32 reference {row.artifact.id} cannot be evaluated: {error}"
        if error.failure.kind is FailureKind.INPUT:
            raise InputError(text) from error
        raise WorkerError(replace(error.failure, message=text)) from error
    return _Reference(row, logits, labels, note)


def _inspected(job: _Job, row: Row, result: Result) -> Result:
    """The row with the precision that its content has earned, whatever the manifest says."""
    try:
        shares = inspected_shares(job.manifest.path_of(row.artifact), row.artifact.format)
    except InputError:  # its runtime will refuse it, too, and that is the row's reason
        return result
    if shares is None:
        return result
    return replace(result, shares=shares, precision=earned_precision(shares))


def _measured(job: _Job, row: Row, result: Result, reference: _Reference) -> Result:
    """Latency, then accuracy in a process of its own; a failure becomes the row's reason."""
    try:
        if row.purpose is Purpose.LATENCY_AND_ACCURACY:
            measured = _with_latency(job, row, result)
        else:
            measured = replace(result, reason=ACCURACY_ONLY)
        logits = reference.logits if row == reference.row else _logits(job, row)
    except WorkerError as error:
        skipped = error.failure.kind is FailureKind.MISSING
        status = Status.SKIPPED if skipped else Status.FAILED
        return replace(result, status=status, reason=error.failure.message)
    found = accuracy_of(logits, reference.logits, reference.labels, reference.note)
    names = [picture.name for picture in job.evaluation.pictures.pictures]
    decided = decisions_of(logits, reference.logits, reference.labels, names, job.manifest.model)
    return replace(measured, accuracy=found, decisions=decided)


def _with_latency(job: _Job, row: Row, result: Result) -> Result:
    """Measure the row interleaved with the FP32 artifact of its runner; that artifact itself alone."""
    baseline = job.manifest.baseline(row.artifact.format)
    subjects = [job.open(row.artifact, row.runner, row.device)]
    if baseline is not None and baseline.id != row.artifact.id:
        subjects.append(job.open(baseline, row.runner, row.device))
    runs = measure(subjects, job.scratch / "input.npy", job.plan, job.seed)
    speedup = None
    if baseline is not None:
        own = len(runs) == 1
        speedup = own_speedup(baseline.id) if own else paired_speedup(runs[0], runs[1], baseline.id, job.seed)
    return _with_run(replace(result, speedup=speedup), runs[0])


def _with_run(result: Result, run: Run) -> Result:
    memory = Memory(run.empty_rss_bytes, run.residence)
    return replace(
        result,
        latency=latency_of(run),
        memory=memory,
        peak_rss_bytes=memory.peak_rss_bytes,
        evidence=run.evidence,
    )


def _logits(job: _Job, row: Row) -> NDArray[np.float32]:
    """(N, classes) logits of all evaluation pictures, from a fresh process."""
    pictures = job.evaluation.pictures
    path = job.scratch / "logits.npy"
    request = Evaluate(
        job.data,
        tuple(picture.name for picture in pictures.pictures),
        job.manifest.model.preprocessing.to_json(),
        str(path),
    )
    with WorkerProcess() as process:
        process.ask(Prepare(row.runner), Prepared)
        process.ask(job.open(row.artifact, row.runner, row.device), Opened)
        process.ask(request, Evaluated, PATIENCE_S + _PATIENCE_PER_PICTURE_S * len(pictures))
    logits: NDArray[np.float32] = np.load(path)
    return logits
