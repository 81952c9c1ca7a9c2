"""Which artifact goes into a bundle, and why not the others."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.bundle_target import BundleTarget
from deploy.evidence import Evidence, Row
from edgepress.artifact import Artifact, Format
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

    Where the target has several runtimes, each artifact is compared with the FP32 artifact of its own, and
    the medians decide between them.

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
        if artifact in baselines:
            continue
        row = evidence.rows.get(artifact.id)
        refusal = target.refusal(artifact) or _excess(artifact, row, limits)
        refusal = refusal or _doubt(artifact, evidence, limits.max_drop_points)
        if refusal is not None or row is None:
            rejected[artifact.id] = refusal or "was not measured"
        else:
            fitting.append((artifact, row))
    if not fitting:
        return _fallback(baselines, evidence, limits, rejected)
    artifact, row = min(fitting, key=lambda pair: pair[1].median_ns)
    slower = [other.id for other, _ in fitting if other is not artifact] + [b.id for b in baselines]
    rejected.update(dict.fromkeys(slower, f"is slower than {artifact.id}"))
    return Choice(artifact, _reason(row, evidence), rejected)


def _baselines(manifest: Manifest, target: BundleTarget) -> tuple[Artifact, ...]:
    """The FP32 artifact of each of the target's runtimes, in their order; without a double."""
    found = {}
    for choice in target.runtimes:
        baseline = manifest.baseline(target.format_of(choice.runtime))
        if baseline is not None and target.runtime_of(baseline) is choice:
            found[baseline.id] = baseline
    if not found:
        runtimes = " or ".join(choice.runtime.value for choice in target.runtimes)
        artifact_format = target.format_of(target.runtimes[0].runtime)
        how = (
            "Optimize it with recipe engine_wf32_af32"
            if artifact_format is Format.ENGINE
            else f"Export the model with --format {artifact_format.value}"
        )
        raise InputError(f"{manifest.folder} has no FP32 artifact for {runtimes}. {how}.")
    return tuple(found.values())


def _fallback(
    baselines: tuple[Artifact, ...], evidence: Evidence, limits: Limits, rejected: dict[str, str]
) -> Choice:
    """FP32 itself, on the fastest runtime that keeps to the limits."""
    fitting: list[tuple[float, Artifact]] = []
    for artifact in baselines:
        row = evidence.rows.get(artifact.id)
        excess = _excess(artifact, row, limits)
        if excess is not None:
            rejected[artifact.id] = excess
        else:
            fitting.append((float("inf") if row is None or row.doubt else row.median_ns, artifact))
    if not fitting:
        reasons = "; ".join(f"{name} {reason}" for name, reason in rejected.items())
        raise LimitError(f"Nothing keeps to the limits: {reasons}. Allow more, or make a smaller version.")
    artifact = min(fitting, key=lambda pair: pair[0])[1]
    rejected.update(
        {other.id: f"is slower than {artifact.id}" for _, other in fitting if other is not artifact}
    )
    return Choice(artifact, "nothing else is surely faster within the allowed loss", rejected)


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
