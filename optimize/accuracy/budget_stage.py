"""The accuracy budget inside the stage: known outcomes are kept, new ones written, artifacts exchanged."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgepress.artifact import Artifact
from edgepress.engine_card import unlink_with_card
from edgepress.errors import InputError, ProofError
from edgepress.evaluation_data import evaluation_of, labels_for
from edgepress.files import require_disk
from edgepress.manifest import Manifest
from edgepress.progress import Progress
from edgepress.record import to_json
from optimize.accuracy.budget import Judge, is_budgeted, key_of
from optimize.accuracy.budget_report import BUDGET, SCHEMA_VERSION, Budget, BudgetOutcome, BudgetReport
from optimize.accuracy.pictures import Pictures
from optimize.calibration import Sample
from optimize.step import MIXED, Calibrated, Step, parent_of

_LOGGER = logging.getLogger(__name__)

CalibratedOf = Callable[[Artifact], Calibrated | None]


@dataclass(frozen=True)
class BudgetRequest:
    """What `edgepress optimize --max-drop` is asked for.

    Attributes:
        budget: What INT8 may cost.
        images: Judge on at most so many pictures, ≥ 1.
        data: DATA of these pictures; None for the rest of what calibrates.
        seed: Of their draw.
    """

    budget: Budget
    images: int = 500
    data: str | None = None
    seed: int = 0


def require_judged(request: BudgetRequest | None, steps: Sequence[Step]) -> None:
    """Refuse a budget where there is nothing to judge.

    Raises:
        InputError: No step quantizes layers.
    """
    if request is not None and not any(is_budgeted(step.recipe) for step in steps):
        raise InputError(
            "--max-drop judges INT8 recipes for ONNX and TFLite, and none is asked for. Add one with "
            "--recipe, such as tensorrt_static_wi8_ai8, or leave --max-drop out."
        )


def settled(
    request: BudgetRequest,
    data: str,
    steps: Sequence[Step],
    manifest: Manifest,
    sample: Sample,
    calibrated: CalibratedOf,
    progress: Progress,
) -> tuple[BudgetOutcome, ...]:
    """What became of each INT8 recipe for ONNX or TFLite, and budget.json and budget.md beside the manifest.

    An outcome of the same things is kept, and then nothing is run.

    Args:
        request: What is allowed.
        data: DATA that judges.
        steps: All steps; those that cannot be judged are passed over.
        manifest: Has the exported artifacts.
        sample: The pictures that calibrate: they do not judge.
        calibrated: Gives the ranges of an artifact.
        progress: Told about pictures.

    Raises:
        InputError: Bad data, or nothing to judge.
    """
    require_judged(request, steps)
    chosen = evaluation_of(manifest, data, request.images, request.seed, (sample.to_json(),))
    pictures = Pictures(data, chosen.pictures, *labels_for(manifest.model, chosen.pictures))
    known = _known(manifest.folder)
    judges: dict[str, Judge] = {}
    outcomes: list[BudgetOutcome] = []
    for step in steps:
        if not is_budgeted(step.recipe):
            continue
        parent = parent_of(step, manifest)
        key = key_of(step, parent, step.key(parent, sample), request.budget, pictures)
        outcome = next((found for found in known if found.key == key), None)
        if outcome is None:
            if parent.id not in judges:
                judges[parent.id] = _judge(request, manifest, parent, pictures, calibrated, progress)
            outcome = judges[parent.id].settle(step, key)
        outcomes.append(outcome)
        known = (*(found for found in known if found.recipe != outcome.recipe), outcome)
        BudgetReport(SCHEMA_VERSION, known).save(manifest.folder)
    return tuple(outcomes)


def _judge(
    request: BudgetRequest,
    manifest: Manifest,
    parent: Artifact,
    pictures: Pictures,
    calibrated: CalibratedOf,
    progress: Progress,
) -> Judge:
    manifest.verify(parent)
    # A version with most layers in float, and the copy whose biases are corrected.
    require_disk(manifest.folder, 2 * parent.size_bytes, "Trying versions for --max-drop")

    def ranges() -> Calibrated:
        found = calibrated(parent)
        if found is None:
            raise InputError(f"There are no ranges of {parent.id}. Name calibration pictures with --data.")
        return found

    return Judge(manifest, parent, request.budget, pictures, ranges, progress)


def _known(folder: Path) -> tuple[BudgetOutcome, ...]:
    if not (folder / BUDGET).is_file():
        return ()
    try:
        return BudgetReport.load(folder).outcomes
    except InputError as error:
        _LOGGER.info("judging anew: %s", error)
        return ()


def with_outcomes(manifest: Manifest, outcomes: Sequence[BudgetOutcome]) -> Manifest:
    """The manifest whose artifacts say what they were judged by, without those that did not stand.

    A version with layers in float takes the place of the one that has all in INT8, and the other way round;
    what was made of the other one goes with it. Where no version is within the budget, all stay.
    """
    for outcome in outcomes:
        if not outcome.passed:
            continue
        full, mixed = outcome.artifact, f"{outcome.artifact}{MIXED}"
        kept, dropped = (full, mixed) if outcome.layers is None else (mixed, full)
        manifest = _without(manifest, dropped, f"{kept} is what --max-drop chose")
        artifact = manifest.get(kept)
        provenance = {**artifact.provenance, "budget": to_json(outcome)}
        if provenance != artifact.provenance:
            manifest = manifest.with_artifact(replace(artifact, provenance=provenance))
            manifest.save()
    return manifest


def _without(manifest: Manifest, artifact_id: str, reason: str) -> Manifest:
    gone = [a for a in manifest.artifacts if artifact_id in {a.id, a.parent}]
    if not gone:
        return manifest
    manifest = manifest.without(*(artifact.path for artifact in gone))
    manifest.save()
    for artifact in gone:
        _LOGGER.info("%s: removed, %s", artifact.id, reason)
        unlink_with_card(manifest.path_of(artifact))
    return manifest


def require_within_budget(outcomes: Sequence[BudgetOutcome]) -> None:
    """The gate.

    Raises:
        ProofError: A recipe has no version within the budget; it says what was reached and what to do.
    """
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        reasons = " ".join(outcome.failure for outcome in failed)
        raise ProofError(f"The accuracy budget is not kept: {reasons}")
