"""The stage: a folder of artifacts and evidence in, a bundle for one target that verified itself out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.bundle_target import BundleTarget, bundle_target_of
from deploy.contents import GOLDEN_FILE, Contents, fill, installed_versions, require_labels, sources
from deploy.delivered import is_current, place_of, require_place
from deploy.evidence import RESULTS, Evidence, read_evidence
from deploy.golden import Form, Golden, golden_of
from deploy.integrity.archive import Archive, archive_of, archived, require_archive_place
from deploy.integrity.signing import sign, signer_with, write_public_key
from deploy.payload import payload_of, source_of
from deploy.proof import Wanted, prove
from deploy.runtime_choice import RuntimeChoice
from deploy.selection import Choice, Limits, by_evidence, named
from deploy.ways import runs_here, ways_of
from edgepress.artifact import Artifact, Format, Precision
from edgepress.dataset import Dataset, open_data
from edgepress.errors import InputError
from edgepress.files import atomic_path, require_disk, sha256_of_file, sha256_of_json
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.record import to_json

logger = logging.getLogger(__name__)

_MARGIN_BYTES = 1 << 24
_STEPS = 3


@dataclass(frozen=True)
class BundleRequest:
    """What `edgepress bundle` is asked for.

    Attributes:
        folder: Has a manifest.json, and a results.json unless `variant` is given.
        target: Name of a bundle target, or the path of a profile in TOML.
        out: The bundle's folder; None for `folder`/bundle-TARGET. The archive lies beside it.
        variant: Id of the artifact to take; None to choose by the evidence.
        limits: That the choice keeps to.
        data: DATA from which a few golden pictures are taken; None for that of results.json, if it is there.
        signing_key: File of the private key that the bundle is signed with; None to leave it unsigned.
    """

    folder: Path
    target: str
    out: Path | None = None
    variant: str | None = None
    limits: Limits = field(default_factory=Limits)
    data: str | None = None
    signing_key: Path | None = None


@dataclass(frozen=True)
class Bundle:
    """What was delivered.

    Attributes:
        folder: Of the bundle.
        target: Its target's name.
        artifact: Id of the artifact in it.
        reason: Why this one.
        rejected: Why not the others, by id.
        archive: The same as a `.tar.gz`.
        proof: What the bundle's own verify.py said here.
    """

    folder: Path
    target: str
    artifact: str
    reason: str
    rejected: Mapping[str, str]
    archive: Archive
    proof: str


@dataclass(frozen=True)
class _Job:
    """A request, with everything that was looked up for it."""

    request: BundleRequest
    manifest: Manifest
    target: BundleTarget
    evidence: Evidence | None
    choice: Choice
    runtime: RuntimeChoice
    data: str | None
    key: str


def bundle_folder(request: BundleRequest, progress: Progress = silent) -> Bundle:
    """Choose an artifact for a target, and pack it with everything that it needs on the device.

    The bundle runs its own verify.py and infer.py before it takes its place, so one that does not verify is
    never delivered; one for another machine must at least be found whole. The same inputs give the same
    files, byte for byte, and the same archive. A bundle that is there and was made from the same things is
    left as it is. On failure, what was there stays as it was.

    Args:
        request: What to do.
        progress: Told "bundle" per step.

    Raises:
        InputError: Nothing to choose by, nothing for the target, a changed artifact, a label that fits on no
            line, something in the bundle's place that edgepress did not write, or too little disk.
        LimitError: Nothing keeps to the limits.
        ProofError: The bundle does not verify.
    """
    _require_limits(request.limits)
    target = bundle_target_of(request.target)
    with exclusive(request.folder):
        job = _job(request, target)
        out = request.out or request.folder / f"bundle-{target.name}"
        place = place_of(out)
        require_archive_place(archive_of(place))
        signer = None if request.signing_key is None else signer_with(request.signing_key)
        if is_current(place, job.key, signer):
            logger.info("%s is up to date", out)
            proof = "up to date"
        else:
            proof = _deliver(job, place, progress)
        archive = archived(place, progress)
        shown = replace(archive, path=out.with_name(archive.path.name))
        choice = job.choice
        return Bundle(
            out, target.name, choice.artifact.id, choice.reason, dict(choice.rejected), shown, proof
        )


def _require_limits(limits: Limits) -> None:
    if not limits.max_drop_points >= 0:
        raise InputError(f"--max-drop wants 0 points or more. Received: {limits.max_drop_points}.")
    for flag, unit, value in (
        ("--max-latency-ms", "milliseconds", limits.max_latency_ms),
        ("--max-mb", "megabytes", limits.max_bytes),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{flag} wants {unit} above 0. Received: {value}.")


def _job(request: BundleRequest, target: BundleTarget) -> _Job:
    manifest = Manifest.load(request.folder)
    evidence = read_evidence(request.folder, [choice.runtime for choice in target.runtimes])
    choice = _chosen(request, manifest, target, evidence)
    require_labels(manifest.model.labels)
    runtime = target.runtime_of(choice.artifact)
    assert runtime is not None  # noqa: S101  # a choice is for the target
    data = request.data or (evidence.data if evidence is not None else None)
    key = _key(request, manifest, target, choice, data)
    return _Job(request, manifest, target, evidence, choice, runtime, data, key)


def _deliver(job: _Job, place: Path, progress: Progress) -> str:
    """Make the bundle, let it prove itself, and put it into its place."""
    manifest, choice, request = job.manifest, job.choice, job.request
    require_place(place, manifest)
    manifest.verify(choice.artifact)
    progress("bundle", 0, _STEPS)
    payload = payload_of(manifest, job.target, job.runtime, choice.artifact)
    copied = (source for source in payload.files.values() if isinstance(source, Path))
    largest_bytes = max(choice.artifact.size_bytes, sum(path.stat().st_size for path in copied))
    needed_bytes = 2 * largest_bytes + _MARGIN_BYTES  # the folder and the archive
    require_disk(place.parent, needed_bytes, f"Bundling {choice.artifact.id}")
    runtime = replace(job.runtime, requirements={**job.runtime.requirements, **payload.requirements})
    golden = _golden(job)
    progress("bundle", 1, _STEPS)
    versions = installed_versions(runtime)
    contents = Contents(
        manifest,
        job.target,
        runtime,
        choice,
        payload,
        request.limits,
        job.evidence,
        golden,
        versions,
        job.key,
    )
    with atomic_path(place) as temporary:
        fill(temporary, contents)
        progress("bundle", 2, _STEPS)
        public_key = None
        if request.signing_key is not None:
            sign(temporary, request.signing_key)
            public_key = write_public_key(request.signing_key, temporary.parent)
        wanted = Wanted.VALID if runs_here(job.target) else Wanted.WHOLE
        proof = prove(temporary, GOLDEN_FILE, wanted, public_key)
        require_place(place, manifest)  # it may have changed while the proof ran
    progress("bundle", 3, _STEPS)
    return proof


def _golden(job: _Job) -> Golden:
    """Of the file that is bundled; of what plans are built from, where they cannot run here."""
    source = source_of(job.manifest, job.choice.artifact)
    form = Form(
        job.manifest.model.preprocessing,
        source.interface,
        job.manifest.model.activation,
        ways_of(job.target, source),
    )
    return golden_of(
        job.manifest.verify(source),
        _baseline_path(job.manifest, source),
        form,
        _real_pictures(job.data, is_asked_for=job.request.data is not None),
    )


def _chosen(
    request: BundleRequest, manifest: Manifest, target: BundleTarget, evidence: Evidence | None
) -> Choice:
    if request.variant is not None:
        return named(manifest, target, request.variant, request.limits, evidence)
    fitting = ", ".join(artifact.id for artifact in manifest.artifacts if target.refusal(artifact) is None)
    if not fitting:
        raise _nothing_fits(manifest, target)
    if evidence is None:
        raise InputError(
            f"{request.folder} has no {RESULTS} to choose by. Measure first: edgepress benchmark "
            f"{request.folder}; or name an artifact with --variant: {fitting}."
        )
    if target.capabilities and not evidence.rows:
        raise InputError(
            f"Nothing in {request.folder} was measured on a GPU with {target.runtimes[0].runtime.value}, and "
            f"{target.name} is chosen for by that. Measure on one, or name an artifact with --variant: "
            f"{fitting}."
        )
    if evidence.thoroughness != "full":
        logger.warning("%s is of a quick benchmark: for a look, not for a decision", RESULTS)
    return by_evidence(manifest, target, evidence, request.limits)


def _nothing_fits(manifest: Manifest, target: BundleTarget) -> InputError:
    """Why each artifact is not for the target, with the numbers."""
    reasons = "; ".join(f"{artifact.id} {target.refusal(artifact)}" for artifact in manifest.artifacts)
    return InputError(f"{manifest.folder} has nothing for {target.name}: {reasons}. Make what fits it first.")


def _key(
    request: BundleRequest, manifest: Manifest, target: BundleTarget, choice: Choice, data: str | None
) -> str:
    """Hash of everything that the bundle depends on."""
    results = request.folder / RESULTS
    return sha256_of_json(
        {
            "artifact": choice.artifact.sha256,
            "engines": [a.sha256 for a in manifest.artifacts if a.format is Format.ENGINE],
            "model": to_json(manifest.model),
            "results": sha256_of_file(results) if results.is_file() else None,
            "choice": [choice.reason, dict(choice.rejected)],
            "limits": to_json(request.limits),
            "target": to_json(target),
            "data": data,
            "code": [sha256_of_file(path) for path in sources()],
            "versions": [installed_versions(runtime) for runtime in target.runtimes],
        }
    )


def _baseline_path(manifest: Manifest, artifact: Artifact) -> Path:
    """The FP32 version of an artifact.

    Raises:
        InputError: There is none, or not as it was: what the quantization moved could not be told.
    """
    baseline = artifact if artifact.precision is Precision.FP32 else manifest.baseline(artifact.format)
    if baseline is None:
        raise InputError(
            f"{manifest.folder} has no FP32 artifact to compare {artifact.id} with. Export the model with "
            f"--format {artifact.format.value}."
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
