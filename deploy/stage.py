"""The stage: a folder of artifacts and evidence in, a bundle for one target that verified itself out."""

import json
import logging
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import edgepress
import edgepress.preprocessing
from deploy.bundle_target import BundleTarget, bundle_target_of
from deploy.evidence import RESULTS, Evidence, read_evidence
from deploy.golden import Golden, golden_of, npz_bytes
from deploy.readme import readme
from deploy.selection import Choice, by_evidence, named
from edgepress.dataset import Dataset, open_data
from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.files import atomic_path, require_disk, sha256_of_file, sha256_of_json, write_json
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.record import to_json

logger = logging.getLogger(__name__)

BUNDLE_MANIFEST = "manifest.json"
SUMS = "manifest.sha256"
SCHEMA_VERSION = 1
_MODEL = "model.onnx"
_GOLDEN = "golden.npz"
_RUNTIME = Path(__file__).with_name("runtime")
_SCRIPTS = ("infer.py", "verify.py")
_PACKAGES = ("numpy", "onnxruntime", "pillow")
_PATIENCE_S = 600
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
    from the same things is left as it is.

    Args:
        request: What to do.
        progress: Told "bundle" per step.

    Raises:
        InputError: Nothing to choose by, nothing for the target, a changed artifact, or too little disk.
        ProofError: The bundle does not verify. One that was there stays as it is.
    """
    target = bundle_target_of(request.target)
    with exclusive(request.folder):
        manifest = Manifest.load(request.folder)
        evidence = read_evidence(request.folder, target.runtime)
        choice = _chosen(request, manifest, target, evidence)
        out = request.out or request.folder / f"bundle-{target.name}"
        data = request.data or (evidence.data if evidence is not None else None)
        key = _key(request, manifest, choice, data)
        bundle = Bundle(out, target.name, choice.artifact.id, choice.reason, dict(choice.rejected))
        if _is_current(out, key):
            logger.info("%s is up to date", out)
            return bundle
        _require_place(out)
        manifest.verify(choice.artifact)
        require_disk(out.parent, choice.artifact.size_bytes + _MARGIN_BYTES, f"Bundling {choice.artifact.id}")
        progress("bundle", 0, 3)
        golden = golden_of(
            manifest.path_of(choice.artifact),
            _baseline_path(manifest, target, choice),
            target.runtime,
            manifest.model.preprocessing,
            _real_pictures(data, is_asked_for=request.data is not None),
        )
        progress("bundle", 1, 3)
        with atomic_path(out) as temporary:
            _fill(temporary, manifest, target, choice, evidence, golden, key)
            progress("bundle", 2, 3)
            _prove(temporary)
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
            "scripts": [sha256_of_file(_RUNTIME / name) for name in _SCRIPTS],
            "versions": _versions(),
        }
    )


def _versions() -> dict[str, str]:
    """Of edgepress and of what runs the bundle here.

    Raises:
        MissingRuntimeError: One of them is not installed.
    """
    try:
        found = {package: metadata.version(package) for package in _PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise MissingRuntimeError(str(error.name), "cpu") from error
    return {"edgepress": edgepress.__version__, **found}


def _is_current(out: Path, key: str) -> bool:
    """Whether the bundle that is there was made from the same things and is whole."""
    try:
        value = json.loads((out / BUNDLE_MANIFEST).read_text(encoding="utf-8"))
        lines = (out / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    if not isinstance(value, dict) or value.get("key") != key:
        return False
    sums = [line.partition("  ") for line in lines]
    return all((out / name).is_file() and sha256_of_file(out / name) == digest for digest, _, name in sums)


def _require_place(out: Path) -> None:
    """A folder that is there is replaced only if it is a bundle."""
    if out.exists() and not (out / SUMS).is_file():
        raise InputError(f"{out} is there and is no bundle. Give another --out, or remove it.")


def _baseline_path(manifest: Manifest, target: BundleTarget, choice: Choice) -> Path:
    baseline = manifest.baseline(target.format)
    return manifest.path_of(baseline if baseline is not None else choice.artifact)


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


def _fill(
    folder: Path,
    manifest: Manifest,
    target: BundleTarget,
    choice: Choice,
    evidence: Evidence | None,
    golden: Golden,
    key: str,
) -> None:
    """Write all files; the checksums last."""
    folder.mkdir()
    model = manifest.model
    shutil.copyfile(manifest.path_of(choice.artifact), folder / _MODEL)
    for name in _SCRIPTS:
        shutil.copyfile(_RUNTIME / name, folder / name)
    shutil.copyfile(edgepress.preprocessing.__file__, folder / "preprocessing.py")
    (folder / _GOLDEN).write_bytes(npz_bytes({"pictures": golden.pictures, "logits": golden.logits}))
    (folder / "requirements.txt").write_text("\n".join(target.requirements) + "\n")
    if model.labels is not None:
        (folder / "labels.txt").write_text("\n".join(model.labels) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(model, target.name, choice), encoding="utf-8")
    value = _manifest_value(manifest, target, choice, evidence, golden, key)
    value["files"] = {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}
    write_json(folder / BUNDLE_MANIFEST, value)
    lines = [f"{sha256_of_file(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _manifest_value(
    manifest: Manifest,
    target: BundleTarget,
    choice: Choice,
    evidence: Evidence | None,
    golden: Golden,
    key: str,
) -> dict[str, Any]:
    artifact, model = choice.artifact, manifest.model
    row = evidence.rows.get(artifact.id) if evidence is not None else None
    return {
        "schema_version": SCHEMA_VERSION,
        "key": key,
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
            "source": model.source,
            "fingerprint": model.fingerprint,
        },
        "preprocessing": model.preprocessing.to_json(),
        "activation": model.activation.value,
        "labels": list(model.labels) if model.labels is not None else None,
        "golden": {"file": _GOLDEN, "tolerance": golden.tolerance, "tolerance_rule": golden.rule},
        "choice": {"reason": choice.reason, "rejected": dict(choice.rejected)},
        "evidence": None
        if row is None or evidence is None
        else {**to_json(row), "thoroughness": evidence.thoroughness, "machine": dict(evidence.machine)},
        "versions": _versions(),
        "licences": {"scripts": "Apache-2.0", "model": "that of its weights; edgepress adds no terms"},
    }


def _prove(folder: Path) -> None:
    """Run the bundle's own scripts in fresh processes that know nothing of this one."""
    verdict = _run(folder, "verify.py")
    if verdict.returncode != 0:
        raise ProofError(f"The bundle does not verify ({_last_line(verdict)}). Nothing was delivered.")
    picture = folder.parent / "golden.npy"
    with np.load(folder / _GOLDEN, allow_pickle=False) as arrays:
        pictures, logits = arrays["pictures"], arrays["logits"]
    np.save(picture, pictures)
    answers = _run(folder, "infer.py", str(picture.absolute()), "--json", "--top", "1")
    if answers.returncode != 0:
        raise ProofError(f"The bundle's infer.py fails: {_last_line(answers)} Nothing was delivered.")
    found = [answer["answers"][0]["class"] for answer in json.loads(answers.stdout)]
    if found != [int(i) for i in logits.argmax(axis=1)]:
        raise ProofError("The bundle's infer.py gives other classes than the model. Nothing was delivered.")


def _run(folder: Path, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-B", "-s", "-E", script, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    useful = [line for line in lines if line not in {"INVALID", "COULD NOT RUN"}]
    return useful[-1] if useful else f"it said nothing (exit code {done.returncode}, {platform.system()})"
