"""Whether one artifact is within the budget of its step, and where it leaves Keras' way if it is not."""

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact
from edgepress.errors import InputError
from edgepress.manifest import Manifest
from edgepress.metrics import Logits
from edgepress.parity.answers import LAYERS_OF, Answers, layers_of
from edgepress.parity.budget import Budget, budget_of
from edgepress.parity.distance import Distance, distance, least_db, through, unexplained_flips
from edgepress.parity.golden import GoldenSet
from edgepress.parity.layers import LayerFinding, first_diverging, sketch_of
from edgepress.parity.report import KERAS, ParityRow, ParityStatus

logger = logging.getLogger(__name__)

Indices = NDArray[np.intp]

_TRACED_PICTURES = 4
_FLAT = "flat pictures"


@dataclass(frozen=True)
class Bench:
    """What all rows are judged by.

    Attributes:
        manifest: Of the folder.
        golden: Its golden set.
    """

    manifest: Manifest
    golden: GoldenSet


@dataclass(frozen=True)
class _Judged:
    """Logits against a reference, on some of the golden pictures.

    Attributes:
        distance: Between both.
        least_db: SNR that was asked for.
        findings: What is not within the budget.
    """

    distance: Distance
    least_db: float
    findings: tuple[str, ...]


def row_of(
    bench: Bench, artifact: Artifact, answers: Answers, reference: str, reference_logits: Logits
) -> ParityRow:
    """Judge one artifact; one that fails is run again, and its first layer that diverges is named.

    Args:
        bench: What it is judged by.
        artifact: Its file is whole.
        answers: What it gives for the golden pictures.
        reference: Name of what it is compared with.
        reference_logits: The answers of that, (N, classes), finite.
    """
    budget = budget_of(artifact)
    row = ParityRow(
        artifact.id,
        artifact.sha256,
        artifact.precision,
        reference,
        budget.hop,
        answers.runner,
        ParityStatus.NOT_RUN,
    )
    if answers.absence is not None:
        return replace(row, reason=answers.absence)
    structured, flat = (bench.golden.of_kind(structured=wanted) for wanted in (True, False))
    keras = bench.golden.logits
    unfit = _unfit(answers, keras)
    if unfit is not None or answers.logits is None:
        layer = None if answers.logits is None else _layer(bench, artifact, budget, structured)
        return replace(row, status=ParityStatus.FAILED, findings=(unfit or "",), layer=layer)

    def against(wanted: Logits, some: Indices, floor_db: float, where: str) -> _Judged:
        seen = through(wanted[some], artifact.interface, bench.manifest.model.activation)
        return _judged(seen, np.asarray(answers.logits)[some], floor_db, budget.decisions_db, where)

    on_photos = against(reference_logits, structured, budget.structured_db, "photos")
    on_flat = against(reference_logits, flat, budget.flat_db or -math.inf, _FLAT)
    findings = list(on_photos.findings)
    from_keras = None
    if reference != KERAS:
        whole = against(keras, structured, budget.structured_db, "photos, against Keras")
        findings += whole.findings
        from_keras = whole.distance
    failed_on = structured if findings else flat
    findings += on_flat.findings
    return replace(
        row,
        status=ParityStatus.FAILED if findings else ParityStatus.PASSED,
        structured_db=on_photos.least_db,
        flat_db=on_flat.least_db if budget.flat_db is not None else None,
        structured=on_photos.distance,
        flat=on_flat.distance,
        from_keras=from_keras,
        findings=tuple(findings),
        layer=_layer(bench, artifact, budget, failed_on) if findings else None,
    )


def _unfit(answers: Answers, keras: Logits) -> str | None:
    """Why the logits cannot be compared at all, or None."""
    if answers.logits is None:
        return answers.failure
    if answers.logits.shape != keras.shape:
        return f"logits of shape {keras.shape} were wanted, got {answers.logits.shape}"
    broken = int(np.count_nonzero(~np.isfinite(answers.logits).all(axis=1)))
    return f"NaN or infinity among the logits of {broken} of {len(keras)} pictures" if broken else None


def _judged(
    reference: Logits, other: Logits, floor_db: float, decisions_db: float | None, where: str
) -> _Judged:
    """Compare logits. The SNR is judged first; the top class of a flat picture says nothing."""
    found = distance(reference, other)
    least = least_db(reference, floor_db)
    findings = []
    if found.snr_db is not None and found.snr_db < least:
        findings.append(f"{where}: SNR {found.snr_db:.1f} dB, wanted {least:.0f} dB")
    flips = unexplained_flips(reference, other, least if decisions_db is None else decisions_db)
    if len(flips) and where != _FLAT:
        findings.append(
            f"{where}: another top class for {len(flips)} of {len(reference)} pictures, "
            "which noise within the budget does not explain"
        )
    return _Judged(found, least, tuple(findings))


def _layer(bench: Bench, artifact: Artifact, budget: Budget, failed_on: Indices) -> LayerFinding | None:
    """The first layer that diverges, on a few of the pictures that showed it."""
    golden = bench.golden
    some = failed_on[:_TRACED_PICTURES]
    if artifact.format not in LAYERS_OF or not len(some):
        return None
    names = frozenset(name for layer in golden.layers for name in (layer.name, layer.merged) if name)
    seen: dict[str, list[NDArray[np.float32]]] = {}
    try:
        traced = layers_of(artifact, bench.manifest, golden.pictures[some], names)
        for index, values in zip(some, traced, strict=True):
            for layer in golden.layers:
                stored = values.get(layer.name, values.get(layer.merged))
                sketch = None if stored is None else sketch_of(layer, stored, layer.values[index])
                if sketch is not None:
                    seen.setdefault(layer.name, []).append(sketch)
    except InputError as error:
        logger.warning("%s: no layer is named: %s", artifact.id, error)
        return None
    sketches = {name: np.stack(found) for name, found in seen.items() if len(found) == len(some)}
    return first_diverging(golden, sketches, budget, some)
