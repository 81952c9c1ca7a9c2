"""Stage 2, as the front door calls it: read the manifest, bring each wanted artifact up to date."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgepress.artifact import Artifact, Format
from edgepress.dataset import DIGITS, Dataset, open_data
from edgepress.engine_card import unlink_with_card
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import require_disk
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.target import HOST, Target, target_of
from optimize.accuracy.budget import is_budgeted, with_layers
from optimize.accuracy.budget_stage import (
    BudgetRequest,
    require_judged,
    require_within_budget,
    settled,
    with_outcomes,
)
from optimize.calibration import CalibrationMethod, CalibrationTable, Sample
from optimize.calibration.calibrate import calibrated_table, warn_of_known
from optimize.improvement import DEFAULT_IMPROVEMENTS, Improvement
from optimize.improvement.sources import Sources, sources_of
from optimize.recipe import Recipe, recipe_named, recipe_of_artifact, recipes_for, require_suits
from optimize.step import Calibrated, Step, parent_of, requires, run, steps_for, versions

_LOGGER = logging.getLogger(__name__)
_DATA_OF_MODEL = {"vgg16-digits": DIGITS}


@dataclass(frozen=True)
class OptimizeRequest:
    """What `edgepress optimize` is asked for.

    Attributes:
        folder: Has a manifest.json; artifacts are added to it.
        target: Name of the target.
        recipes: Names of recipes; None for all that suit the target.
        data: Calibration DATA; None for the model's own, where it has some.
        samples: Number of calibration pictures, ≥ 1.
        seed: Of the draw.
        calibration: How ranges follow from the pictures.
        improvements: What is done to the FP32 network before it is quantized.
        budget: What INT8 may cost in accuracy; None for no such gate.
    """

    folder: Path
    target: str = HOST
    recipes: tuple[str, ...] | None = None
    data: str | None = None
    samples: int = 64
    seed: int = 0
    calibration: CalibrationMethod = CalibrationMethod.MINMAX
    improvements: frozenset[Improvement] = DEFAULT_IMPROVEMENTS
    budget: BudgetRequest | None = None


@dataclass(frozen=True)
class _Drawn:
    """The calibration pictures, and their description."""

    pictures: Dataset
    sample: Sample


@dataclass(frozen=True)
class _Work:
    """What steps work with."""

    drawn: _Drawn | None
    sources: Sources
    progress: Progress


def optimize_folder(request: OptimizeRequest, progress: Progress = silent) -> Manifest:
    """Bring the artifacts of the wanted recipes up to date.

    What is current is not made again, and then no framework is imported. The manifest is saved after
    each artifact: an interrupted run goes on where it stopped.

    Args:
        request: What is wanted.
        progress: Told "calibrate NAME" per picture and "optimize" per artifact.

    Returns:
        The manifest with all wanted artifacts.

    Raises:
        InputError: Bad request, missing data, a changed parent, a missing package, or no disk.
        ProofError: An artifact did not prove what its name promises; those before it are kept. Or a recipe
            has no version within the budget; all others are made.
    """
    with exclusive(request.folder):
        return _brought_up_to_date(request, progress)


def _brought_up_to_date(request: OptimizeRequest, progress: Progress) -> Manifest:
    manifest = Manifest.load(request.folder)
    steps = _plan(request, manifest)
    drawn = _draw(request, manifest) if any(s.recipe.calibrated_on for s in steps) else None
    if drawn is not None:
        warn_of_known(manifest, drawn.sample, [manifest.get(name) for name in _calibrated_ids(steps)])
    with sources_of(manifest, request.improvements) as sources:
        work = _Work(drawn, sources, progress)
        if request.budget is None or drawn is None:
            require_judged(request.budget, steps)
            return _made(steps, manifest, work)
        return _judged(request.budget, steps, manifest, drawn.sample, work)


def _judged(
    request: BudgetRequest, steps: tuple[Step, ...], manifest: Manifest, sample: Sample, work: _Work
) -> Manifest:
    """The manifest with the artifacts of all steps, those in INT8 within the budget."""
    data = request.data or sample.source

    def calibrated(parent: Artifact) -> Calibrated | None:
        judged = tuple(step for step in steps if is_budgeted(step.recipe))
        return _calibrated(_calibrate(judged, manifest, work), parent, work)

    outcomes = settled(request, data, steps, manifest, sample, calibrated, work.progress)
    manifest = _made(with_layers(steps, outcomes), manifest, work)
    manifest = with_outcomes(manifest, outcomes)
    require_within_budget(outcomes)
    return manifest


def _made(steps: tuple[Step, ...], manifest: Manifest, work: _Work) -> Manifest:
    """The manifest with the artifacts of all steps, those that are current being kept."""
    sample, progress = work.drawn.sample if work.drawn else None, work.progress
    pending = _pending(steps, manifest, sample)
    if not pending:
        _LOGGER.info("%d artifacts are up to date", len(steps))
        return manifest
    _require_disk(pending, manifest)
    table = _calibrate(pending, manifest, work)
    for done, step in enumerate(steps):
        progress("optimize", done, len(steps))
        if step in pending:
            parent = requires(step, manifest)
            calibrated = _calibrated(table, parent, work)
            artifact = run(step, manifest, step.key(parent, sample), calibrated, progress)
            manifest = _add(manifest, artifact)
            _LOGGER.info(
                "%s: %.1f MB in %.1f s",
                artifact.id,
                artifact.size_bytes / 1e6,
                artifact.provenance["wall_ns"] / 1e9,
            )
    progress("optimize", len(steps), len(steps))
    return manifest


def _add(manifest: Manifest, artifact: Artifact) -> Manifest:
    """Save the manifest with a new artifact, and drop what was made from its former content."""
    former = manifest.find(artifact.id)
    changed = former is not None and former.sha256 != artifact.sha256
    children = [a for a in manifest.artifacts if changed and a.parent == artifact.id]
    manifest = manifest.without(*(child.path for child in children)).with_artifact(artifact)
    manifest.save()
    for child in children:
        _LOGGER.info("%s: removed, it was made from the former %s", child.id, artifact.id)
        unlink_with_card(manifest.path_of(child))
    return manifest


def _plan(request: OptimizeRequest, manifest: Manifest) -> tuple[Step, ...]:
    """The steps that the request asks for, with those of their parents; exported parents are verified."""
    target = target_of(request.target)
    if request.recipes is None:
        recipes = _default_recipes(target, manifest)
    else:
        recipes = [recipe_named(name) for name in request.recipes]
        for recipe in recipes:
            require_suits(recipe, target)
    steps = steps_for(recipes, target, request.improvements)
    for step in steps:
        versions(step.recipe)
        if recipe_of_artifact(step.recipe.parent) is None:
            parent = parent_of(step, manifest)
            if not manifest.is_whole(parent):
                manifest.verify(parent)  # says what is wrong with it
    return steps


def _default_recipes(target: Target, manifest: Manifest) -> list[Recipe]:
    """All recipes that suit the target, less those whose format was not exported or package is absent."""
    suitable = recipes_for(target)
    exported = [r for r in suitable if manifest.find(_exported_root(r)) is not None]
    if not exported:
        raise InputError(
            f"{manifest.folder} has no artifact that can be optimized. Export the model with "
            "--format onnx or --format tflite."
        )
    skipped = sorted({_exported_root(r) for r in suitable} - {_exported_root(r) for r in exported})
    for root in skipped:
        _LOGGER.warning("Recipes that start from %s are skipped: it was not exported.", root)
    engines = [r for r in exported if r.format is Format.ENGINE]
    if engines:
        try:
            versions(engines[0])
        except MissingRuntimeError as error:
            _LOGGER.warning("TensorRT-RTX engines are skipped. %s", error)
            return [r for r in exported if r.format is not Format.ENGINE]
    return exported


def _exported_root(recipe: Recipe) -> str:
    parent = recipe_of_artifact(recipe.parent)
    return recipe.parent if parent is None else _exported_root(parent)


def _draw(request: OptimizeRequest, manifest: Manifest) -> _Drawn:
    model = manifest.model
    data = request.data or _DATA_OF_MODEL.get(model.name)
    if data is None:
        raise InputError(
            f"INT8 recipes need calibration pictures, and {model.name} has none of its own. Name them with "
            "--data (an image folder, an .npz or `digits`), or choose --recipe without `static`."
        )
    if request.samples < 1:
        raise InputError(f"--samples is {request.samples}, wanted at least 1. Give a larger number.")
    pool = open_data(data).calibration
    trained = pool.only(frozenset(model.trained_on))  # they cannot be evaluated any more
    pictures = (trained if len(trained) >= request.samples else pool).sample(request.samples, request.seed)
    sample = Sample.of(pictures, request.seed, model.preprocessing, request.calibration)
    is_equalized = Improvement.EQUALIZATION in request.improvements
    return _Drawn(pictures, replace(sample, is_equalized=is_equalized))


def _pending(steps: Sequence[Step], manifest: Manifest, sample: Sample | None) -> tuple[Step, ...]:
    """Steps whose artifact is missing, damaged or made from other things, or whose parent's is."""
    found: list[Step] = []
    for step in steps:
        parent = manifest.find(step.parent_id)
        made_anew = {other.artifact_id for other in found}
        if (
            parent is None
            or parent.id in made_anew
            or not step.has_card(manifest)
            or not manifest.is_current(step.artifact_id, step.key(parent, sample))
        ):
            found.append(step)
    return tuple(found)


def _require_disk(pending: Sequence[Step], manifest: Manifest) -> None:
    needed = 0.0
    for step in pending:
        root = manifest.get(_exported_root(step.recipe))
        needed += root.size_bytes * step.recipe.size_share
    improved = {step.recipe.calibrated_on for step in pending if step.improvements}
    copies = (manifest.get(artifact_id).size_bytes for artifact_id in improved if artifact_id)
    needed += max(copies, default=0)
    if pending:
        require_disk(manifest.folder, round(needed), f"Optimizing with {len(pending)} recipes")


def _calibrate(pending: Sequence[Step], manifest: Manifest, work: _Work) -> CalibrationTable | None:
    """The table with the ranges that the pending steps need; ranges of the same pictures are reused."""
    drawn = work.drawn
    ids = _calibrated_ids(pending)
    if drawn is None or not ids:
        return None
    wanted = [manifest.get(artifact_id) for artifact_id in ids]
    return calibrated_table(manifest, drawn.pictures, drawn.sample, wanted, work.sources, work.progress)


def _calibrated_ids(steps: Sequence[Step]) -> tuple[str, ...]:
    """Ids of the exported artifacts whose ranges these steps need."""
    ids = (step.recipe.calibrated_on or step.parent_id for step in steps if step.recipe.reads_ranges)
    return tuple(dict.fromkeys(ids))


def _calibrated(table: CalibrationTable | None, parent: Artifact, work: _Work) -> Calibrated | None:
    if table is None or parent.sha256 not in table.graphs:
        return None
    graph, source = table.graph_of(parent.sha256), work.sources.path_of(parent)
    return Calibrated(graph, table.sample, table.fingerprint, source, work.sources.provenance(parent))
