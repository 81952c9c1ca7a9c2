"""The stage: a folder of artifacts and evidence in, a bundle for one target that verified itself out."""

import logging
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle_target import BundleTarget, bundle_target_of
from deploy.contents import GOLDEN_FILE, Contents, fill, installed_versions, require_labels, sources
from deploy.delivered import is_current, place_of, require_place
from deploy.evidence import RESULTS, Evidence, read_evidence
from deploy.golden import Form, golden_of
from deploy.proof import prove
from deploy.selection import Choice, by_evidence, named
from edgepress.artifact import Artifact, Precision
from edgepress.dataset import Dataset, open_data
from edgepress.errors import InputError
from edgepress.files import atomic_path, require_disk, sha256_of_file, sha256_of_json
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.record import to_json

logger = logging.getLogger(__name__)

_MARGIN_BYTES = 1 << 24


@dataclass(frozen=True)
class BundleRequest:
    """What `edgepress bundle` is asked for.

    Attributes:
        folder: Has a manifest.json, and a results.json unless `variant` is given.
        target: Name of a bundle target.
        out: The bundle's folder; None for `folder`/bundle-TARGET.
        variant: Id of the artifact to take; None to choose by the evidence.
        max_drop: Largest loss in percentage points that the choice allows.
        data: DATA from which a few golden pictures are taken; None for that of results.json, if it is there.
    """

    folder: Path
    target: str
    out: Path | None = None
    variant: str | None = None
    max_drop: float = 1.0
    data: str | None = None


@dataclass(frozen=True)
class Bundle:
    """What was delivered.

    Attributes:
        folder: Of the bundle.
        target: Its target's name.
        artifact: Id of the artifact in it.
        reason: Why this one.
        rejected: Why not the others, by id.
    """

    folder: Path
    target: str
    artifact: str
    reason: str
    rejected: dict[str, str]


def bundle_folder(request: BundleRequest, progress: Progress = silent) -> Bundle:
    """Choose an artifact and pack it with everything that it needs on the device.

    The bundle runs its own verify.py and infer.py before it takes its place, so one that does not verify is
    never delivered. The same inputs give the same files, byte for byte. A bundle that is there and was made
    from the same things is left as it is. On failure, what was there stays as it was.

    Args:
        request: What to do.
        progress: Told "bundle" per step.

    Raises:
        InputError: Nothing to choose by, nothing for the target, a changed artifact, a label that fits on no
            line, something in the bundle's place that edgepress did not write, or too little disk.
        ProofError: The bundle does not verify.
    """
    if not request.max_drop >= 0:
        raise InputError(f"--max-drop wants 0 points or more. Received: {request.max_drop}.")
    target = bundle_target_of(request.target)
    with exclusive(request.folder):
        manifest = Manifest.load(request.folder)
        evidence = read_evidence(request.folder, target.runtime)
        choice = _chosen(request, manifest, target, evidence)
        require_labels(manifest.model.labels)
        out = request.out or request.folder / f"bundle-{target.name}"
        data = request.data or (evidence.data if evidence is not None else None)
        key = _key(request, manifest, choice, data)
        bundle = Bundle(out, target.name, choice.artifact.id, choice.reason, dict(choice.rejected))
        place = place_of(out)
        if is_current(place, key):
            logger.info("%s is up to date", out)
            return bundle
        require_place(place, manifest)
        manifest.verify(choice.artifact)
        require_disk(
            place.parent, choice.artifact.size_bytes + _MARGIN_BYTES, f"Bundling {choice.artifact.id}"
        )
        progress("bundle", 0, 3)
        golden = golden_of(
            manifest.path_of(choice.artifact),
            _baseline_path(manifest, target, choice.artifact),
            Form(manifest.model.preprocessing, choice.artifact.interface, manifest.model.activation),
            _real_pictures(data, is_asked_for=request.data is not None),
        )
        progress("bundle", 1, 3)
        versions = installed_versions(target)
        with atomic_path(place) as temporary:
            fill(temporary, Contents(manifest, target, choice, evidence, golden, versions, key))
            progress("bundle", 2, 3)
            prove(temporary, GOLDEN_FILE)
            require_place(place, manifest)  # it may have changed while the proof ran
        progress("bundle", 3, 3)
        return bundle


def _chosen(
    request: BundleRequest, manifest: Manifest, target: BundleTarget, evidence: Evidence | None
) -> Choice:
    if request.variant is not None:
        return named(manifest, target, request.variant)
    if evidence is None:
        raise InputError(
            f"{request.folder} has no {RESULTS} to choose by. Measure first: edgepress benchmark "
            f"{request.folder}; or name an artifact with --variant."
        )
    if evidence.thoroughness != "full":
        logger.warning("%s is of a quick benchmark: for a look, not for a decision", RESULTS)
    return by_evidence(manifest, target, evidence, request.max_drop)


def _key(request: BundleRequest, manifest: Manifest, choice: Choice, data: str | None) -> str:
    """Hash of everything that the bundle depends on."""
    results = request.folder / RESULTS
    return sha256_of_json(
        {
            "artifact": choice.artifact.sha256,
            "model": to_json(manifest.model),
            "results": sha256_of_file(results) if results.is_file() else None,
            "choice": [choice.reason, dict(choice.rejected)],
            "target": request.target,
            "data": data,
            "code": [sha256_of_file(path) for path in sources()],
            "versions": installed_versions(bundle_target_of(request.target)),
        }
    )


def _baseline_path(manifest: Manifest, target: BundleTarget, artifact: Artifact) -> Path:
    """The FP32 version of an artifact.

    Raises:
        InputError: There is none, or not as it was: what the quantization moved could not be told.
    """
    baseline = artifact if artifact.precision is Precision.FP32 else manifest.baseline(target.format)
    if baseline is None:
        raise InputError(
            f"{manifest.folder} has no FP32 artifact to compare {artifact.id} with. Export the model with "
            f"--format {target.format.value}."
        )
    return manifest.verify(baseline)


def _real_pictures(data: str | None, *, is_asked_for: bool) -> Dataset | None:
    """A few pictures of DATA; none if it was only mentioned in the results and is not there any more."""
    if data is None:
        return None
    try:
        return open_data(data).evaluation
    except InputError:
        if is_asked_for:
            raise
        logger.warning("%s is not there any more: the golden pictures are patterns only", data)
        return None
