"""What a bundle carries for its delivery: the model in its form, and the code that runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.bundle_target import BundleTarget, Delivery
from deploy.runtime_choice import RuntimeChoice
from edgepress.artifact import Artifact, Format, Runtime
from edgepress.manifest import Manifest

RUNTIME_ROOM = Path(__file__).parent / "runtime"
Source = Path | bytes | Callable[[Path], None]
"""A file to copy, its content, or what writes it to a path."""

_BACKENDS: Mapping[Runtime, str] = {
    Runtime.ONNXRUNTIME: "onnxruntime_backend.py",
    Runtime.LITERT: "litert_backend.py",
}
_MODELS = {Format.ONNX: "model.onnx", Format.TFLITE: "model.tflite"}


@dataclass(frozen=True)
class Payload:
    """The part of a bundle that depends on its delivery.

    Attributes:
        files: Where each comes from, by its path in the bundle (POSIX, relative); `backend.py` among them.
        model_file: The one that the backend opens.
        entries: What the bundle's manifest says beside what all say, by name.
        steps: What the person on the device does before `verify.py`, a line each, for README.md.
    """

    files: Mapping[str, Source]
    model_file: str
    entries: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


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
    backend = RUNTIME_ROOM / _BACKENDS[choice.runtime]
    return Payload({name: manifest.path_of(artifact), "backend.py": backend}, name)


_Maker = Callable[[Manifest, BundleTarget, RuntimeChoice, Artifact], Payload]
_PAYLOADS: Mapping[Delivery, _Maker] = {Delivery.FILE: _file}
