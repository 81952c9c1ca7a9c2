"""The files of a bundle."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import edgepress
import edgepress.decoding
import edgepress.interface
import edgepress.preprocessing
from deploy.bundle_target import BundleTarget
from deploy.delivered import BUNDLE_MANIFEST
from deploy.evidence import Evidence
from deploy.golden import Golden, npz_bytes
from deploy.readme import readme
from deploy.runtime.verify import SUMS
from deploy.selection import Choice
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import sha256_of_file, write_json
from edgepress.manifest import Manifest
from edgepress.record import to_json

SCHEMA_VERSION = 1
GOLDEN_FILE = "golden.npz"
_MODEL = "model.onnx"
_ROOM = Path(__file__).parent
_SCRIPTS = {
    "infer.py": _ROOM / "runtime" / "infer.py",
    "verify.py": _ROOM / "runtime" / "verify.py",
    "decoding.py": Path(edgepress.decoding.__file__),
    "preprocessing.py": Path(edgepress.preprocessing.__file__),
    "interface.py": Path(edgepress.interface.__file__),
}


@dataclass(frozen=True)
class Contents:
    """Everything that a bundle is written from.

    Attributes:
        manifest: Of the artifacts.
        target: For which it is.
        choice: The artifact in it.
        evidence: What was measured, of this and of other artifacts; None without.
        golden: Pictures and what the model makes of them.
        versions: Of edgepress and of what the golden logits were computed with, by package.
        key: Hash of everything that the bundle depends on.
    """

    manifest: Manifest
    target: BundleTarget
    choice: Choice
    evidence: Evidence | None
    golden: Golden
    versions: Mapping[str, str]
    key: str


def sources() -> list[Path]:
    """The code that a bundle comes from: with another code, it is another bundle."""
    shared = [_SCRIPTS[name] for name in ("decoding.py", "preprocessing.py", "interface.py")]
    return [*sorted(_ROOM.rglob("*.py")), *shared]


def installed_versions(target: BundleTarget) -> dict[str, str]:
    """Of edgepress and of what runs the bundle here.

    Raises:
        MissingRuntimeError: One of them is not installed.
    """
    try:
        found = {package: metadata.version(package) for package in target.requirements}
    except metadata.PackageNotFoundError as error:
        raise MissingRuntimeError(str(error.name), "cpu") from error
    return {"edgepress": edgepress.__version__, **found}


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
    model, target, choice = contents.manifest.model, contents.target, contents.choice
    shutil.copyfile(contents.manifest.path_of(choice.artifact), folder / _MODEL)
    for name, path in _SCRIPTS.items():
        shutil.copyfile(path, folder / name)
    golden = contents.golden
    (folder / GOLDEN_FILE).write_bytes(npz_bytes({"pictures": golden.pictures, "logits": golden.logits}))
    texts = {
        "requirements.txt": _requirements(contents),
        "README.md": readme(model, target, choice),
    }
    if model.labels is not None:
        texts["labels.txt"] = "\n".join(model.labels) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    value = _manifest_value(contents)
    value["files"] = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
    write_json(folder / BUNDLE_MANIFEST, value)
    lines = [f"{sha256_of_file(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _requirements(contents: Contents) -> str:
    """What the golden logits were computed with, to the last digit."""
    pins = [
        f"{package}=={contents.versions[package].partition('+')[0]}"
        for package in contents.target.requirements
    ]
    return "# What this bundle was made and verified with. README.md says what else may do.\n" + "".join(
        f"{pin}\n" for pin in pins
    )


def _manifest_value(contents: Contents) -> dict[str, Any]:
    artifact, model, target = contents.choice.artifact, contents.manifest.model, contents.target
    return {
        "schema_version": SCHEMA_VERSION,
        "key": contents.key,
        "name": model.name,
        "target": {"name": target.name, "machines": list(target.machines), "runtime": target.runtime.value},
        "model": {
            "file": _MODEL,
            "artifact": artifact.id,
            "precision": artifact.precision.value,
            "recipe": artifact.recipe,
            "shares": to_json(artifact.shares),
            "inputs": to_json(artifact.inputs),
            "outputs": to_json(artifact.outputs),
            "interface": to_json(artifact.interface),
            "source": model.source,
            "fingerprint": model.fingerprint,
        },
        "preprocessing": model.preprocessing.to_json(),
        "activation": model.activation.value,
        "labels": list(model.labels) if model.labels is not None else None,
        "golden": _golden_value(contents.golden),
        "choice": {"reason": contents.choice.reason, "rejected": dict(contents.choice.rejected)},
        "evidence": _evidence_value(contents),
        "versions": dict(contents.versions),
        "accepted_versions": dict(target.requirements),
        "licences": {"scripts": "Apache-2.0", "model": "that of its weights; edgepress adds no terms"},
    }


def _golden_value(golden: Golden) -> dict[str, Any]:
    return {
        "file": GOLDEN_FILE,
        "tolerance": golden.tolerance.allowed.largest,
        "tolerance_rms": golden.tolerance.allowed.rms,
        "tolerance_rule": golden.tolerance.rule,
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
