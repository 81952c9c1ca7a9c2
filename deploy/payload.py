"""What a bundle carries for its delivery: the model in its form, and the code that runs it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.bundle_target import BundleTarget, Delivery
from deploy.mobile.metadata import obstacle_to_readers, with_metadata
from deploy.plans import plans_for
from deploy.runtime_choice import RuntimeChoice
from deploy.triton.config import name_from, triton_model_of
from deploy.triton.repository import LABELS, manifest_entry, model_path, repository_files, server_steps
from deploy.vendored import modules_for
from edgepress.artifact import Artifact, Format, Runtime
from edgepress.manifest import Manifest
from edgepress.tensorrt_flavour import facts_for

logger = logging.getLogger(__name__)

RUNTIME_ROOM = Path(__file__).parent / "runtime"
Source = Path | bytes | Callable[[Path], None]
"""A file to copy, its content, or what writes it to a path."""

_BACKENDS: Mapping[Runtime, str] = {
    Runtime.ONNXRUNTIME: "onnxruntime_backend.py",
    Runtime.LITERT: "litert_backend.py",
    Runtime.TENSORRT: "tensorrt_backend.py",
    Runtime.TENSORRT_RTX: "tensorrt_backend.py",
}
_ON_A_GPU = ("deploy.runtime.tensorrt_backend",)
_BUILDING = (*_ON_A_GPU, "deploy.runtime.build")
_MODELS = {Format.ONNX: "model.onnx", Format.TFLITE: "model.tflite"}


@dataclass(frozen=True)
class Payload:
    """The part of a bundle that depends on its delivery.

    Attributes:
        files: Where each comes from, by its path in the bundle (POSIX, relative); `backend.py` among them.
        model_file: The one that the backend opens.
        entries: What the bundle's manifest says beside what all say, by name.
        steps: What the person on the device does before `verify.py`, a line each, for README.md.
        requirements: Ranges of packages that are narrower than the target's: a plan is bound to its version.
    """

    files: Mapping[str, Source]
    model_file: str
    entries: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    requirements: Mapping[str, str] = field(default_factory=dict)


def payload_of(
    manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact
) -> Payload:
    """The payload of an artifact that is for the target.

    Raises:
        InputError: Something that the delivery needs is missing.
    """
    return _PAYLOADS[target.delivery](manifest, target, choice, artifact)


def source_of(manifest: Manifest, artifact: Artifact) -> Artifact:
    """What can be run here in its stead: the file itself, or the ONNX file that a plan was built from.

    Raises:
        InputError: The manifest has no such file any more.
    """
    if artifact.format is not Format.ENGINE:
        return artifact
    return manifest.get(str(artifact.parent))


def _file(manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact) -> Payload:
    """The file as it is."""
    del target
    name = _MODELS[artifact.format]
    return Payload({name: manifest.path_of(artifact), "backend.py": _backend(choice)}, name)


def _backend(choice: RuntimeChoice) -> Path:
    return RUNTIME_ROOM / _BACKENDS[choice.runtime]


def _plans(manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact) -> Payload:
    """Plans for as many of the target's GPUs as there are, each with its card."""
    plans = plans_for(manifest, target, choice, artifact)
    covered = ", ".join(each for each in target.capabilities if each not in plans.missing)
    missing = f"; none for {', '.join(plans.missing)}" if plans.missing else ""
    return Payload(
        {**modules_for(_ON_A_GPU), **plans.files, "backend.py": _backend(choice)},
        plans.file_of(artifact),
        {"plans": plans.entries, "plans_missing": list(plans.missing)},
        (f"nvidia-smi --query-gpu=compute_cap --format=csv   # there are plans for {covered}{missing}",),
        {facts_for(choice.runtime).distribution: f"=={plans.version}"},
    )


def _build(manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact) -> Payload:
    """Strongly typed ONNX, and what makes an engine of it on the device."""
    name = _MODELS[artifact.format]
    return Payload(
        {
            **modules_for(_BUILDING),
            name: manifest.path_of(artifact),
            "backend.py": _backend(choice),
            "build.py": RUNTIME_ROOM / "build.py",
        },
        name,
        steps=(*target.steps, "python build.py   # minutes: TensorRT tries kernels on this GPU"),
    )


def _mobile(manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact) -> Payload:
    """The TFLite file, which carries its own description and its labels."""
    del target
    name, path = _MODELS[artifact.format], manifest.path_of(artifact)
    obstacle = obstacle_to_readers(manifest.model, artifact)
    if obstacle is not None:
        logger.warning("Readers of TFLite Metadata cannot feed this file: %s", obstacle)
    files: dict[str, Source] = {
        name: lambda place: _write_described(path, place, manifest, artifact),
        "backend.py": _backend(choice),
    }
    return Payload(files, name, {"metadata_readers": obstacle or "can feed it"})


def _write_described(source: Path, place: Path, manifest: Manifest, artifact: Artifact) -> None:
    with_metadata(source, place, manifest.model, artifact)


def _repository(
    manifest: Manifest, target: BundleTarget, choice: RuntimeChoice, artifact: Artifact
) -> Payload:
    """A model repository, and a client of the server in the place of a runtime."""
    del target, choice
    labels = manifest.model.labels
    model = triton_model_of(
        artifact, name_from(manifest.model.name), label_file=None if labels is None else LABELS
    )
    files: dict[str, Source] = {
        **repository_files(manifest.path_of(artifact), model, labels),
        "backend.py": RUNTIME_ROOM / "triton_backend.py",
    }
    return Payload(files, model_path(model), {"triton": dict(manifest_entry(model))}, server_steps(model))


_Maker = Callable[[Manifest, BundleTarget, RuntimeChoice, Artifact], Payload]
_PAYLOADS: Mapping[Delivery, _Maker] = {
    Delivery.FILE: _file,
    Delivery.MOBILE: _mobile,
    Delivery.REPOSITORY: _repository,
    Delivery.PLANS: _plans,
    Delivery.BUILD: _build,
}
