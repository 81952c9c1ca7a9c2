"""Which artifact goes into a bundle, and why not the others."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.bundle_target import BundleTarget
from deploy.evidence import Evidence, Row
from edgepress.artifact import Artifact, Format, Runtime
from edgepress.errors import InputError, LimitError
from edgepress.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What the user allows.

    Attributes:
        max_drop_points: Largest loss in percentage points: of top-1, or of agreement without labels.
        max_latency_ms: Longest median of one inference as measured; None for any.
        max_bytes: Size of the largest model file; None for any.
    """

    max_drop_points: float = 1.0
    max_latency_ms: float | None = None
    max_bytes: int | None = None


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


def named(
    manifest: Manifest, target: BundleTarget, artifact_id: str, limits: Limits, evidence: Evidence | None
) -> Choice:
    """The artifact that the user names. It must be for the target, and keep to the limits of size and time.

    Without a measurement of it, the limit of time is left to the device, and a warning says so.

    Raises:
        InputError: There is none of that id, or it is not for the target.
        LimitError: It is larger or slower than allowed.
    """
    artifact = manifest.get(artifact_id)
    if (refusal := target.refusal(artifact)) is not None:
        raise InputError(f"{artifact_id} {refusal}. Choose another --variant, or leave it out.")
    row = None if evidence is None else evidence.rows.get(artifact.id)
    is_measured = row is not None and row.artifact_sha256 == artifact.sha256
    excess = _excess(artifact, row, limits) if is_measured else _excess_of_size(artifact, limits)
    if excess is not None:
        raise LimitError(f"{artifact_id} {excess}. Choose another --variant, or allow more.")
    if limits.max_latency_ms is not None and not is_measured:
        logger.warning("%s was not measured: `verify.py --latency` tells on the device", artifact_id)
    return Choice(artifact, "named by the user", {})


def by_evidence(manifest: Manifest, target: BundleTarget, evidence: Evidence, limits: Limits) -> Choice:
    """The fastest artifact that is surely faster than FP32 and loses little; else FP32 itself.

    Each artifact is compared with the FP32 artifact of its own runtime, so that each runtime has its best
    one; where the target has several runtimes, the medians decide between these.

    Args:
        manifest: Of the artifacts.
        target: What they must be for.
        evidence: What was measured.
        limits: What is allowed.

    Raises:
        InputError: No FP32 artifact for the target, or what was measured is not what lies there now.
        LimitError: Nothing keeps to the limits.
    """
    baselines = _baselines(manifest, target)
    rejected: dict[str, str] = {}
    fitting: list[tuple[Artifact, Row]] = []
    for artifact in manifest.artifacts:
        if artifact in baselines.values():
            continue
        row = evidence.rows.get(artifact.id)
        refusal = target.refusal(artifact) or _excess(artifact, row, limits)
        refusal = refusal or _doubt(artifact, evidence, limits.max_drop_points)
        if refusal is None and not any(_runs(target, artifact, runtime) for runtime in baselines):
            refusal = "has no FP32 artifact for its runtime to be compared with"
        if refusal is not None or row is None:
            rejected[artifact.id] = refusal or "was not measured"
        else:
            fitting.append((artifact, row))
    best: list[_Candidate] = []
    for runtime, baseline in baselines.items():
        own = [(artifact, row) for artifact, row in fitting if _runs(target, artifact, runtime)]
        if own:
            best.append(_fastest(own, baseline, evidence, rejected))
        elif (candidate := _fallback(baseline, evidence, limits, rejected)) is not None:
            best.append(candidate)
    return _between(best, rejected)


def _runs(target: BundleTarget, artifact: Artifact, runtime: Runtime) -> bool:
    choice = target.runtime_of(artifact)
    return choice is not None and choice.runtime is runtime


@dataclass(frozen=True)
class _Candidate:
    """The best artifact of one runtime; infinitely slow where its times are not known."""

    artifact: Artifact
    median_ns: float
    reason: str


def _fastest(
    fitting: list[tuple[Artifact, Row]], baseline: Artifact, evidence: Evidence, rejected: dict[str, str]
) -> _Candidate:
    """Of those that are surely faster than the FP32 artifact of one runtime."""
    artifact, row = min(fitting, key=lambda pair: pair[1].median_ns)
    slower = [other.id for other, _ in fitting if other is not artifact] + [baseline.id]
    rejected.update(dict.fromkeys(slower, f"is slower than {artifact.id}"))
    return _Candidate(artifact, row.median_ns, _reason(row, evidence))


def _fallback(
    baseline: Artifact, evidence: Evidence, limits: Limits, rejected: dict[str, str]
) -> _Candidate | None:
    """FP32 itself; None if it does not keep to the limits."""
    row = evidence.rows.get(baseline.id)
    if (excess := _excess(baseline, row, limits)) is not None:
        rejected[baseline.id] = excess
        return None
    is_known = row is not None and row.doubt is None and row.artifact_sha256 == baseline.sha256
    median_ns = row.median_ns if row is not None and is_known else math.inf
    return _Candidate(baseline, median_ns, "nothing else is surely faster within the allowed loss")


def _between(best: list[_Candidate], rejected: dict[str, str]) -> Choice:
    """Of the best of each runtime the fastest; the first of those whose times are not known."""
    if not best:
        reasons = "; ".join(f"{name} {reason}" for name, reason in rejected.items())
        raise LimitError(f"Nothing keeps to the limits: {reasons}. Allow more, or make a smaller version.")
    chosen = min(best, key=lambda candidate: candidate.median_ns)
    for other in best:
        if other is not chosen:
            is_slower = math.isfinite(other.median_ns)  # and so is the chosen one's, then
            how = "is slower" if is_slower else "is not shown to be faster"
            rejected[other.artifact.id] = f"{how} than {chosen.artifact.id}"
    return Choice(chosen.artifact, chosen.reason, rejected)


def _baselines(manifest: Manifest, target: BundleTarget) -> dict[Runtime, Artifact]:
    """The FP32 artifact of each of the target's runtimes that has one, in their order."""
    found: dict[Runtime, Artifact] = {}
    for choice in target.runtimes:
        baseline = manifest.baseline(target.format_of(choice.runtime))
        if baseline is not None and target.runtime_of(baseline) is choice:
            found[choice.runtime] = baseline
    if not found:
        runtimes = " or ".join(choice.runtime.value for choice in target.runtimes)
        artifact_format = target.format_of(target.runtimes[0].runtime)
        how = (
            "Optimize it with recipe engine_wf32_af32"
            if artifact_format is Format.ENGINE
            else f"Export the model with --format {artifact_format.value}"
        )
        raise InputError(f"{manifest.folder} has no FP32 artifact for {runtimes}. {how}.")
    return found


def _reason(row: Row, evidence: Evidence) -> str:
    assert row.speedup is not None  # noqa: S101  # `_doubt` refuses what has none
    low, high = row.speedup.ci95
    return (
        f"{row.speedup.median:.2f} times as fast as {row.speedup.against} (95 % interval {low:.2f} to "
        f"{high:.2f}), {row.median_ns / 1e6:.3g} ms, with a loss of {_loss_points(row, evidence):.2f} "
        f"points on {row.accuracy.images} pictures"
    )


def _excess(artifact: Artifact, row: Row | None, limits: Limits) -> str | None:
    """By what an artifact exceeds the limits of size and time; None if it does not."""
    if (excess := _excess_of_size(artifact, limits)) is not None:
        return excess
    if limits.max_latency_ms is None:
        return None
    if row is None:
        return f"was not measured, and at most {limits.max_latency_ms:g} ms are allowed"
    if row.doubt is not None:
        return f"was measured, but its times are {row.doubt}"
    median_ms = row.median_ns / 1e6
    if median_ms > limits.max_latency_ms:
        return f"takes {median_ms:.3g} ms, and at most {limits.max_latency_ms:g} ms are allowed"
    return None


def _excess_of_size(artifact: Artifact, limits: Limits) -> str | None:
    if limits.max_bytes is None or artifact.size_bytes <= limits.max_bytes:
        return None
    return f"has {artifact.size_bytes / 1e6:.1f} MB, and at most {limits.max_bytes / 1e6:g} MB are allowed"


def _doubt(artifact: Artifact, evidence: Evidence, max_drop_points: float) -> str | None:
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
    if loss > max_drop_points:
        return f"loses {loss:.2f} points, and at most {max_drop_points:g} are allowed"
    return None


def _loss_points(row: Row, evidence: Evidence) -> float:
    """Percentage points of top-1, or of agreement where there are no labels."""
    if row.accuracy.top1 is None or evidence.baseline_top1 is None:
        return 100 * (1 - row.accuracy.agreement)
    return 100 * (evidence.baseline_top1 - row.accuracy.top1)
