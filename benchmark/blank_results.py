"""The results before anything is measured, and the key by which a later run knows them."""

from dataclasses import replace

import edgepress
from benchmark.measurement import (
    BOUNDARY,
    SCHEMA_VERSION,
    Asked,
    Baseline,
    Data,
    Environment,
    Model,
    Result,
    Results,
    Status,
)
from benchmark.preparation import BenchmarkRequest, Preparation
from benchmark.rows import Row, skip_reason
from edgepress.decoding import DECODING_VERSION
from edgepress.files import sha256_of_json
from edgepress.record import to_json


def blank_results(run: Preparation) -> Results:
    """The results before anything is measured: rows that will not run are complete, with their reasons."""
    model, pictures, around = run.manifest.model, run.evaluation.pictures, run.around
    reference = run.reference
    blank = Results(
        SCHEMA_VERSION,
        "",
        BOUNDARY,
        Model(model.name, model.source, model.parameters, model.class_count),
        Environment(
            edgepress.__version__, around.python, around.packages, around.machine, (), None, run.station.host
        ),
        Baseline(reference.artifact.id, reference.runner, reference.device, None, None),
        Data(
            run.data,
            len(pictures),
            run.evaluation.left_out,
            pictures.fingerprint,
            model.preprocessing.to_json(),
            {},
        ),
        run.plan,
        _asked(run.request),
        tuple(_blank_row(row, run) for row in run.rows),
    )
    depends_on = [
        to_json(blank),
        reference.artifact.sha256,
        to_json(model),
        pictures.classes,
        DECODING_VERSION,
    ]
    return replace(blank, key=sha256_of_json(depends_on))


def _asked(request: BenchmarkRequest) -> Asked:
    return Asked(
        request.device,
        request.variants,
        request.runners,
        request.offline,
        request.threads,
        request.limit,
        request.seed,
    )


def _blank_row(row: Row, run: Preparation) -> Result:
    artifact = row.artifact
    reason = skip_reason(row, run.request.device, run.around.cuda_absence)
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
        threads=run.threads,
        batch=row.artifact.interface.batch or 1,
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
        offline=(),
        roofline=None,
        profile=None,
        profile_note=None,
        preprocessing_doubt=None,
        verdict=None,
        warnings=(),
    )
