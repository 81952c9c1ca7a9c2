"""The stage: a folder with a manifest in, parity.json out."""

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgepress
from edgepress.artifact import Artifact
from edgepress.errors import InputError
from edgepress.files import sha256_of_json
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.metrics import Logits
from edgepress.parity.answers import Answers, answers_of
from edgepress.parity.budget import BUDGETS, budget_of
from edgepress.parity.golden import GoldenSet, load_golden
from edgepress.parity.report import KERAS, PARITY, SCHEMA_VERSION, ParityReport, ParityStatus
from edgepress.parity.verdict import Bench, row_of
from edgepress.progress import Progress, silent
from edgepress.record import to_json
from edgepress.runners.runner import runner_kinds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParityRequest:
    """What `edgepress parity` is asked for.

    Attributes:
        folder: Has a manifest.json.
        variants: Ids of artifacts; None for all.
    """

    folder: Path
    variants: tuple[str, ...] | None = None


def check_folder(request: ParityRequest, progress: Progress = silent) -> ParityReport:
    """Compare a folder's artifacts with what they were made of, on its golden set, and write parity.json.

    A report of the same things in which nothing failed is kept, and then nothing is run.

    Args:
        request: What is wanted.
        progress: Told about artifacts.

    Returns:
        A row for every artifact: one that cannot be run here says so, and one that fails names the layer.

    Raises:
        InputError: No manifest, no or another golden set, an unknown variant, or an artifact that was
            changed. An existing parity.json stays as it is.
    """
    with exclusive(request.folder):
        manifest = Manifest.load(request.folder)
        golden = load_golden(request.folder, manifest.model.golden_sha256)
        chosen = _chosen(manifest, request.variants)
        key = _key(manifest, chosen)
        known = _known(request.folder, key)
        if known is not None and all(manifest.is_whole(artifact) for artifact in _needed(manifest, chosen)):
            logger.info("%s is up to date", request.folder / PARITY)
            return known
        report = _report(manifest, golden, chosen, key, progress)
        report.save(request.folder)
        return report


def _chosen(manifest: Manifest, variants: tuple[str, ...] | None) -> tuple[Artifact, ...]:
    if variants is None:
        return manifest.artifacts
    wanted = {manifest.get(variant).id for variant in variants}
    return tuple(artifact for artifact in manifest.artifacts if artifact.id in wanted)


def _parent(manifest: Manifest, artifact: Artifact) -> Artifact | None:
    return None if artifact.parent is None else manifest.find(artifact.parent)


def _needed(manifest: Manifest, chosen: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
    """The chosen artifacts and their parents, which are their references."""
    parents = {parent.id for artifact in chosen if (parent := _parent(manifest, artifact))}
    return tuple(artifact for artifact in manifest.artifacts if artifact in chosen or artifact.id in parents)


def _key(manifest: Manifest, chosen: tuple[Artifact, ...]) -> str:
    """Hash of everything that the report depends on."""
    needed = _needed(manifest, chosen)
    return sha256_of_json(
        {
            "schema": SCHEMA_VERSION,
            "model": to_json(manifest.model),
            "chosen": [artifact.id for artifact in chosen],
            "artifacts": [[a.id, a.sha256, a.parent, to_json(a.interface)] for a in needed],
            "budgets": [to_json(budget) for budget in BUDGETS.values()],
            "versions": {"edgepress": edgepress.__version__, **_versions()},
        }
    )


def _versions() -> dict[str, str | None]:
    return {kind.distribution: _version(kind.distribution) for kind in runner_kinds()}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _known(folder: Path, key: str) -> ParityReport | None:
    """A report of the same things without a failure."""
    if not (folder / PARITY).is_file():
        return None
    try:
        known = ParityReport.load(folder)
    except InputError as error:
        logger.info("comparing anew: %s", error)
        return None
    return known if known.key == key and not known.of_status(ParityStatus.FAILED) else None


def _report(
    manifest: Manifest, golden: GoldenSet, chosen: tuple[Artifact, ...], key: str, progress: Progress
) -> ParityReport:
    needed = _needed(manifest, chosen)
    for artifact in needed:
        manifest.verify(artifact)
    bench = Bench(manifest, golden)
    answers: dict[str, Answers] = {}
    rows = []
    for done, artifact in enumerate(needed):
        progress("parity", done, len(needed))
        answers[artifact.id] = answers_of(artifact, manifest, golden.pictures)
        if artifact in chosen:
            reference = _reference(artifact, answers, golden)
            rows.append(row_of(bench, artifact, answers[artifact.id], *reference))
    progress("parity", len(needed), len(needed))
    return ParityReport(
        SCHEMA_VERSION,
        key,
        str(manifest.model.golden_sha256),
        tuple(kind.value for kind in golden.kinds),
        tuple(BUDGETS[hop] for hop in dict.fromkeys(budget_of(artifact).hop for artifact in chosen)),
        tuple(rows),
    )


def _reference(artifact: Artifact, answers: Mapping[str, Answers], golden: GoldenSet) -> tuple[str, Logits]:
    """Name and logits of the parent, if it gave any that can be compared with; else those of Keras."""
    parent = answers.get(artifact.parent or "")
    logits = None if parent is None else parent.logits
    if logits is None or logits.shape != golden.logits.shape or not np.isfinite(logits).all():
        return KERAS, golden.logits
    return str(artifact.parent), logits
