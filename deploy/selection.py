"""Which artifact goes into a bundle, and why not the others."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.bundle_target import BundleTarget
from deploy.evidence import Evidence, Row, Speedup
from edgepress.artifact import Artifact
from edgepress.errors import InputError
from edgepress.manifest import Manifest


@dataclass(frozen=True)
class Choice:
    """The artifact that is bundled.

    Attributes:
        artifact: It.
        reason: Why it, in words.
        rejected: Why not the others, by id.
    """

    artifact: Artifact
    reason: str
    rejected: Mapping[str, str]


def named(manifest: Manifest, target: BundleTarget, artifact_id: str) -> Choice:
    """The artifact that the user names.

    Raises:
        InputError: There is none of that id, or it is not for the target.
    """
    artifact = manifest.get(artifact_id)
    if (refusal := target.refusal(artifact)) is not None:
        raise InputError(f"{artifact_id} {refusal}. Choose another --variant, or leave it out.")
    return Choice(artifact, "named by the user", {})


def by_evidence(manifest: Manifest, target: BundleTarget, evidence: Evidence, max_drop: float) -> Choice:
    """The fastest artifact that is surely faster than FP32 and loses little; else FP32 itself.

    Args:
        manifest: Of the artifacts.
        target: What they must be for.
        evidence: What was measured.
        max_drop: Largest loss in percentage points: of top-1, or of agreement with FP32 without labels.

    Raises:
        InputError: No FP32 artifact for the target, or what was measured is not what lies there now.
    """
    baseline = manifest.baseline(target.format)
    if baseline is None or target.refusal(baseline) is not None:
        raise InputError(
            f"{manifest.folder} has no FP32 artifact for {target.runtime.value}. Export the model with "
            f"--format {target.format.value}."
        )
    rejected: dict[str, str] = {}
    best: tuple[Artifact, Speedup, Row] | None = None
    for artifact in manifest.artifacts:
        refusal = target.refusal(artifact) or _doubt(artifact, evidence, max_drop)
        row = evidence.rows.get(artifact.id)
        if artifact.id == baseline.id:
            continue
        if refusal is not None or row is None or row.speedup is None:
            rejected[artifact.id] = refusal or "was not measured"
        elif best is None or row.speedup.median > best[1].median:
            if best is not None:
                rejected[best[0].id] = f"is slower than {artifact.id}"
            best = (artifact, row.speedup, row)
        else:
            rejected[artifact.id] = f"is slower than {best[0].id}"
    if best is None:
        return Choice(baseline, "nothing else is surely faster within the allowed loss", rejected)
    artifact, speedup, row = best
    rejected[baseline.id] = f"is slower than {artifact.id}"
    low, high = speedup.ci95
    loss = _loss_points(row, evidence)
    reason = (
        f"{speedup.median:.2f} times as fast as {speedup.against} (95 % interval {low:.2f} to {high:.2f}), "
        f"with a loss of {loss:.2f} points on {row.accuracy.images} pictures"
    )
    return Choice(artifact, reason, rejected)


def _doubt(artifact: Artifact, evidence: Evidence, max_drop: float) -> str | None:
    """Why the measurement speaks against an artifact; None if it does not."""
    row = evidence.rows.get(artifact.id)
    if row is None:
        return "was not measured"
    if row.artifact_sha256 != artifact.sha256:
        raise InputError(
            f"results.json was measured on another {artifact.id} than the one that is there. Measure anew: "
            "edgepress benchmark."
        )
    if row.doubt is not None:
        return f"was measured, but its times are {row.doubt}"
    if row.speedup is None or row.speedup.ci95[0] <= 1:
        shown = "" if row.speedup is None else f" ({row.speedup.median:.2f}×, from {row.speedup.ci95[0]:.2f})"
        return f"is not shown to be faster than FP32{shown}"
    loss = _loss_points(row, evidence)
    if loss > max_drop:
        return f"loses {loss:.2f} points, and at most {max_drop:g} are allowed"
    return None


def _loss_points(row: Row, evidence: Evidence) -> float:
    """Percentage points of top-1, or of agreement where there are no labels."""
    if row.accuracy.top1 is None or evidence.baseline_top1 is None:
        return 100 * (1 - row.accuracy.agreement)
    return 100 * (evidence.baseline_top1 - row.accuracy.top1)
