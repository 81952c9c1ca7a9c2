"""Stage 3, from a folder with a manifest to its results.json."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmark.accuracy import accuracy_of
from benchmark.blank_results import blank_results
from benchmark.comparisons import with_comparisons
from benchmark.decisions import shown_flips
from benchmark.measurement import RESULTS, Result, Results, Status
from benchmark.preflight import Fitness
from benchmark.preparation import BenchmarkRequest, Preparation, prepared, used_artifacts
from benchmark.protocol import FailureKind
from benchmark.remote_station import RemoteStation
from benchmark.roofline import Ceilings
from benchmark.row_measurement import Job, Reference, measured_row
from benchmark.rows import Row
from benchmark.station import LocalStation, Pictures
from benchmark.thumbnails import thumbnails_of
from benchmark.worker_process import WorkerError
from edgepress.artifact import Device
from edgepress.errors import InputError
from edgepress.evaluation_data import labels_for
from edgepress.lock import exclusive
from edgepress.progress import Progress, silent

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted before it was measured"
Place = tuple[str, str, Device]
"""What tells rows apart: artifact, runner, device."""


def benchmark_folder(request: BenchmarkRequest, progress: Progress = silent) -> Results:
    """Measure the artifacts of a folder and write its results.json.

    A row that fails is in the results with its reason, and the others go on. Rows of an earlier run that
    measured the same things are kept; if there is nothing to add, nothing is measured. On Ctrl-C the rows
    that are finished are written, and the next run goes on from there.

    Raises:
        InputError: Bad request, no manifest, an artifact that was changed, or unusable DATA. An existing
            results.json stays as it is.
        KeyboardInterrupt: After the finished rows were written; without any, results.json stays as it is.
    """
    with exclusive(request.folder), tempfile.TemporaryDirectory() as scratch:
        if request.host is None:
            return _brought_up_to_date(prepared(request, LocalStation(Path(scratch))), progress)
        with RemoteStation(request.host, request.host_python, Path(scratch)) as station:
            return _brought_up_to_date(prepared(request, station), progress)


def _brought_up_to_date(run: Preparation, progress: Progress) -> Results:
    folder = run.request.folder
    blank = blank_results(run)
    known, again = _known(folder, blank.key), run.request.again
    used = used_artifacts(run)
    if (
        known is not None
        and not again
        and _complete(known)
        and all(run.manifest.is_whole(artifact) for artifact in used)
    ):
        logger.info("%s is up to date", folder / RESULTS)
        return known
    for artifact in used:
        run.manifest.verify(artifact)
    earlier = {} if known is None else {_place(row): row for row in known.results if _is_final(row)}
    finished: dict[Place, Result] = {}
    try:
        results = _filled(run, blank, {} if again else earlier, finished, progress)
    except KeyboardInterrupt:
        if finished:
            _save_part(run, blank, {**earlier, **finished})
        raise
    results.save(folder)
    return results


def _save_part(run: Preparation, blank: Results, finished: Mapping[Place, Result]) -> None:
    """Write what is finished; the rows that should have run and did not yet say so."""
    rows = tuple(
        finished.get(_place(row)) or (row if row.reason else _unfinished(row)) for row in blank.results
    )
    isa = blank.environment.machine["isa"]
    replace(blank, results=with_comparisons(rows, isa, run.request.seed)).save(run.request.folder)
    logger.warning(
        "interrupted: %d of %d rows are kept in %s; the same command goes on from there",
        len(finished),
        sum(row.reason is None for row in blank.results),
        run.request.folder / RESULTS,
    )


def _unfinished(row: Result) -> Result:
    return replace(row, status=Status.SKIPPED, reason=INTERRUPTED)


def _place(row: Row | Result) -> Place:
    artifact = row.artifact.id if isinstance(row, Row) else row.artifact
    return artifact, row.runner, row.device


def _is_final(row: Result) -> bool:
    return row.status is Status.OK


def _complete(known: Results) -> bool:
    return not known.failed() and all(row.reason != INTERRUPTED for row in known.results)


def _known(folder: Path, key: str) -> Results | None:
    """Results of the same things."""
    if not (folder / RESULTS).is_file():
        return None
    try:
        known = Results.load(folder)
    except InputError as error:
        logger.info("measuring anew: %s", error)
        return None
    return known if known.key == key else None


def _filled(
    run: Preparation,
    blank: Results,
    kept: Mapping[Place, Result],
    finished: dict[Place, Result],
    progress: Progress,
) -> Results:
    """Measure every row that is to run and is not among `kept`, and put it into `finished`."""
    to_run = [(row, result) for row, result in zip(run.rows, blank.results, strict=True) if not result.reason]
    total = 2 + len(to_run)
    progress("benchmark", 0, total)
    preflight = run.station.preflight(run.request.device)
    for finding in preflight:
        if finding.fitness is Fitness.DOUBT:
            logger.warning("%s: %s. %s", finding.subject, finding.found, finding.remedy or "")
    ceilings = run.station.ceilings(run.threads, run.request.device)
    progress("benchmark", 1, total)
    job = _job(run, ceilings)
    reference = _reference(job, run.reference)
    for done, (row, result) in enumerate(to_run, 2):
        progress("benchmark", done, total)
        place = _place(row)
        finished[place] = kept.get(place) or measured_row(job, row, result, reference)
    progress("benchmark", total, total)
    rows = tuple(finished.get(_place(result)) or result for result in blank.results)
    own = accuracy_of(reference.logits, reference.logits, reference.labels, reference.note)
    environment = replace(blank.environment, preflight=preflight, ceilings=ceilings)
    compared = with_comparisons(rows, environment.machine["isa"], job.seed)
    return replace(
        blank,
        environment=environment,
        baseline=replace(blank.baseline, top1=own.top1, top5=own.top5),
        data=replace(blank.data, thumbnails=_thumbnails(job, rows)),
        results=compared,
    )


def _job(run: Preparation, ceilings: Ceilings) -> Job:
    pictures = Pictures(run.data, run.evaluation.pictures)
    seed, batches = run.request.seed, run.request.offline
    return Job(run.manifest, run.station, run.plan, pictures, run.threads, seed, batches, ceilings)


def _thumbnails(job: Job, rows: tuple[Result, ...]) -> Mapping[str, str]:
    shown = [flip.picture for row in rows if row.decisions for flip in shown_flips(row.decisions)]
    return thumbnails_of(job.pictures.pictures, tuple(dict.fromkeys(shown)))


def _reference(job: Job, row: Row) -> Reference:
    """Run the FP32 reference first: data that cannot be read shows before anything is measured."""
    labels, note = labels_for(job.manifest.model, job.pictures.pictures)
    try:
        logits = job.logits(row)
    except WorkerError as error:
        text = f"The FP32 reference {row.artifact.id} cannot be evaluated: {error}"
        if error.failure.kind is FailureKind.INPUT:
            raise InputError(text) from error
        raise WorkerError(replace(error.failure, message=text)) from error
    return Reference(row, logits, labels, note)
