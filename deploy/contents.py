"""The files of a bundle."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import edgepress
import edgepress.decoding
import edgepress.interface
import edgepress.isa
import edgepress.preprocessing
from deploy.bundle_target import BundleTarget, Delivery
from deploy.delivered import BUNDLE_MANIFEST
from deploy.evidence import Evidence
from deploy.golden import Golden, npz_bytes
from deploy.payload import RUNTIME_ROOM, Payload, Source, source_of
from deploy.readme import readme
from deploy.runtime.checksums import SUMS
from deploy.runtime_choice import RuntimeChoice
from deploy.selection import Choice, Limits
from deploy.vendored import modules_for
from edgepress.errors import InputError
from edgepress.files import sha256_of_file, write_json
from edgepress.manifest import Manifest
from edgepress.record import to_json

SCHEMA_VERSION = 2
GOLDEN_FILE = "golden.npz"
_ROOM = Path(__file__).parent
_OF_THE_TOOLKIT = (edgepress.decoding, edgepress.preprocessing, edgepress.interface, edgepress.isa)
_SCRIPTS = {
    **{
        f"{name}.py": RUNTIME_ROOM / f"{name}.py"
        for name in (
            *("infer", "verify", "bundle", "checks", "checksums", "latency", "signature", "version_range"),
        )
    },
    **{Path(str(module.__file__)).name: Path(str(module.__file__)) for module in _OF_THE_TOOLKIT},
}


@dataclass(frozen=True)
class Contents:
    """Everything that a bundle is written from.

    Attributes:
        manifest: Of the artifacts.
        target: For which it is.
        runtime: That executes it there.
        choice: The artifact in it.
        payload: The files of its delivery.
        limits: That the user set.
        evidence: What was measured, of this and of other artifacts; None without.
        golden: Pictures and what the model makes of them.
        versions: Of edgepress and of what the golden logits were computed with, by package.
        key: Hash of everything that the bundle depends on.
    """

    manifest: Manifest
    target: BundleTarget
    runtime: RuntimeChoice
    choice: Choice
    payload: Payload
    limits: Limits
    evidence: Evidence | None
    golden: Golden
    versions: Mapping[str, str]
    key: str


def sources() -> list[Path]:
    """The code that a bundle comes from: with another code, it is another bundle."""
    carried = modules_for(("deploy.runtime.tensorrt_backend", "deploy.runtime.build")).values()
    return sorted({*_ROOM.rglob("*.py"), *_SCRIPTS.values(), *carried})


def installed_versions(runtime: RuntimeChoice) -> dict[str, str]:
    """Of edgepress and of what runs the bundle, as far as it is here: a Jetson's TensorRT is only there."""
    found = {"edgepress": edgepress.__version__}
    for package in runtime.requirements:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def require_labels(labels: tuple[str, ...] | None) -> None:
    """Refuse what does not fit into a text file with one name a line.

    Raises:
        InputError: A label has a line break, or is no Unicode text.
    """
    for label in labels or ():
        if label.splitlines() != [label] or any("\ud800" <= character <= "\udfff" for character in label):
            raise InputError(
                f"The label {label!r} does not fit on a line of labels.txt. Export the model again with "
                "other names, in a file given with --labels."
            )


def fill(folder: Path, contents: Contents) -> None:
    """Make `folder` and write all files into it; the checksums last."""
    folder.mkdir()
    for name, source in files_of(contents).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            path.write_bytes(source)
        elif isinstance(source, Path):
            shutil.copyfile(source, path)
        else:
            source(path)
    value = _manifest_value(contents)
    value["files"] = {name: sha256_of_file(path) for name, path in _written(folder).items()}
    write_json(folder / BUNDLE_MANIFEST, value)
    lines = [f"{sha256_of_file(path)}  {name}\n" for name, path in _written(folder).items()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _written(folder: Path) -> dict[str, Path]:
    """All files of a folder, by their POSIX paths in it, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return dict(sorted((path.relative_to(folder).as_posix(), path) for path in paths))


def files_of(contents: Contents) -> dict[str, Source]:
    """Where each file of a bundle comes from, except for the manifest and the checksums."""
    model, golden = contents.manifest.model, contents.golden
    texts = {
        "requirements.txt": _requirements(contents),
        "README.md": readme(contents),
    }
    if model.labels is not None:
        texts["labels.txt"] = "\n".join(model.labels) + "\n"
    return {
        **_SCRIPTS,
        **contents.payload.files,
        GOLDEN_FILE: npz_bytes({"pictures": golden.pictures, "logits": golden.logits}),
        **{name: text.encode() for name, text in texts.items()},
    }


def _requirements(contents: Contents) -> str:
    """What the golden logits were computed with, to the last digit; else ranges."""
    target, versions, lines = contents.target, contents.versions, []
    is_as_here = target.delivery is not Delivery.BUILD  # a Jetson has another Python, with other packages
    for package, wanted in contents.runtime.requirements.items():
        if package in target.brings:
            continue
        is_pinned = is_as_here and package in versions and not wanted.startswith("==")
        lines.append(
            f"{package}=={versions[package].partition('+')[0]}" if is_pinned else f"{package}{wanted}"
        )
    what = "was made and verified with" if is_as_here else "takes"
    return f"# What this bundle {what}. README.md says more.\n" + "".join(f"{line}\n" for line in lines)


def _manifest_value(contents: Contents) -> dict[str, Any]:
    model, target = contents.manifest.model, contents.target
    return {
        "schema_version": SCHEMA_VERSION,
        "key": contents.key,
        "name": model.name,
        "target": {
            "name": target.name,
            "delivery": target.delivery.value,
            "machines": list(target.machines),
            "runtime": contents.runtime.runtime.value,
            "isas": to_json(target.isas) if target.delivery is Delivery.FILE else [],  # of the server
            "capabilities": list(target.capabilities),
            "brings": list(target.brings),
        },
        "model": _model_value(contents),
        "preprocessing": model.preprocessing.to_json(),
        "activation": model.activation.value,
        "labels": list(model.labels) if model.labels is not None else None,
        "golden": _golden_value(contents.golden),
        "limits": {
            "latency_ms": contents.limits.max_latency_ms,
            "drop_points": contents.limits.max_drop_points,
            "bytes": contents.limits.max_bytes,
        },
        "choice": {"reason": contents.choice.reason, "rejected": dict(contents.choice.rejected)},
        "evidence": _evidence_value(contents),
        "versions": {**dict.fromkeys(contents.runtime.requirements, ""), **contents.versions},
        "accepted_versions": dict(contents.runtime.requirements),
        "licences": {"scripts": "Apache-2.0", "model": "that of its weights; edgepress adds no terms"},
        **contents.payload.entries,
    }


def _model_value(contents: Contents) -> dict[str, Any]:
    artifact, model = contents.choice.artifact, contents.manifest.model
    calibration = source_of(contents.manifest, artifact).provenance.get("calibration")
    return {
        "file": contents.payload.model_file,
        "artifact": artifact.id,
        "sha256": artifact.sha256,
        "bytes": artifact.size_bytes,
        "precision": artifact.precision.value,
        "recipe": artifact.recipe,
        "made_for": artifact.target,
        "shares": to_json(artifact.shares),
        "inputs": to_json(artifact.inputs),
        "outputs": to_json(artifact.outputs),
        "interface": to_json(artifact.interface),
        "calibration": calibration["fingerprint"] if isinstance(calibration, Mapping) else None,
        "made_with": artifact.provenance.get("versions"),
        "source": model.source,
        "fingerprint": model.fingerprint,
    }


def _golden_value(golden: Golden) -> dict[str, Any]:
    return {
        "file": GOLDEN_FILE,
        "tolerance": golden.tolerance.allowed.largest,
        "tolerance_rms": golden.tolerance.allowed.rms,
        "tolerance_rule": golden.tolerance.rule,
        "execution": golden.execution,
        "executions": {name: to_json(deviation) for name, deviation in golden.executions.items()},
    }


def _evidence_value(contents: Contents) -> dict[str, Any]:
    """What was measured on this very file, or why nothing is said."""
    artifact, evidence = contents.choice.artifact, contents.evidence
    row = evidence.rows.get(artifact.id) if evidence is not None else None
    if row is None or evidence is None:
        return {"status": "not measured", "reason": f"no result for {artifact.id} was there"}
    if row.artifact_sha256 != artifact.sha256:
        return {
            "status": "not measured",
            "reason": f"the results that were there are of another {artifact.id} "
            f"(SHA-256 {row.artifact_sha256[:12]}…)",
        }
    measured = {**to_json(row), "thoroughness": evidence.thoroughness, "machine": dict(evidence.machine)}
    return {"status": "measured", **measured}
