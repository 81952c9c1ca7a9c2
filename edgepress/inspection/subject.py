"""What the user points at (a model by name, a file, an artifact of a folder), and how it is opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepress.artifact import Artifact, Format, onnx_graph_of
from edgepress.engine_card import card_path, read_card
from edgepress.errors import InputError, MissingRuntimeError, unknown_choice
from edgepress.inspection.inspection_keras import inspect_keras
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.inspection_vgg16 import inspect_architecture
from edgepress.inspection.layer import Inspection
from edgepress.manifest import MANIFEST, Manifest
from edgepress.models.keras_file import load_keras_file, read_keras_file
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS

ARCHITECTURES = {architecture.name: architecture for architecture in (VGG16, VGG16_DIGITS)}

_NOT_TOLD = {
    Format.ENGINE: "Its layers are not told: an engine opens on its GPU only.",
    Format.SAVED_MODEL: "Its layers are not told: a SavedModel is a program, not a list of layers.",
}


@dataclass(frozen=True)
class Subject:
    """Something that was looked into.

    Attributes:
        name: As shown.
        file_bytes: Its size on disk; None for an architecture.
        inspection: Its layers; None where the file does not tell.
        notes: What the file itself does not tell, or cannot.
    """

    name: str
    file_bytes: int | None
    inspection: Inspection | None
    notes: tuple[str, ...] = ()


def look_into(text: str, variant: str | None = None) -> Subject:
    """Open a model, a file, or an artifact of a folder.

    Args:
        text: "vgg16", "vgg16-digits", a `.keras`, `.onnx`, `.tflite` or `.plan` file, or a folder with a
            manifest.
        variant: Id of the artifact, for a folder.

    Raises:
        InputError: There is no such thing, it is damaged, a folder without `variant`, or the reverse.
        MissingRuntimeError: What reads the file is not installed.
    """
    path = Path(text)
    if (path / MANIFEST).is_file():
        return _of_folder(Manifest.load(path), variant)
    if variant is not None:
        raise InputError(
            f"--variant names an artifact of a folder, and {text} is none with a {MANIFEST}. Leave it out."
        )
    if text in ARCHITECTURES:
        return Subject(text, None, inspect_architecture(ARCHITECTURES[text]))
    if not path.exists():
        if not path.suffix:
            raise unknown_choice("model", text, (*ARCHITECTURES, "FILE", "DIR"))
        raise InputError(f"There is no file at {path}. Check the path.")
    return _of_file(path, _manifest_beside(path))


def _of_folder(manifest: Manifest, variant: str | None) -> Subject:
    if variant is None:
        known = ", ".join(artifact.id for artifact in manifest.artifacts)
        raise InputError(f"{manifest.folder} has several artifacts. Name one with --variant: {known}.")
    artifact = manifest.get(variant)
    return _of_file(manifest.path_of(artifact), artifact)


def _manifest_beside(path: Path) -> Artifact | None:
    """What a manifest in the same folder says about a file."""
    if not (path.parent / MANIFEST).is_file():
        return None
    return next((a for a in Manifest.load(path.parent).artifacts if a.path == path.name), None)


def _of_file(path: Path, artifact: Artifact | None) -> Subject:
    if path.is_dir() and artifact is None:
        raise InputError(
            f"{path} is a folder without {MANIFEST}: wanted a .keras, .onnx or .tflite file, or a folder "
            "that `edgepress export` wrote."
        )
    if artifact is not None and artifact.format is Format.ONNX:
        path = onnx_graph_of(path)
    size = artifact.size_bytes if artifact is not None else path.stat().st_size if path.is_file() else None
    notes = _notes(artifact)
    try:
        if path.suffix == ".keras":
            return Subject(path.name, size, inspect_keras(load_keras_file(read_keras_file(path))), notes)
        if path.suffix == ".onnx":
            found = inspect_onnx(path)
            return Subject(path.name, size, found, (*notes, *_beside(path, found)))
        if path.suffix == ".tflite":
            return Subject(path.name, size, inspect_tflite(path), notes)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(str(error.name), "cpu") from error
    if artifact is not None and artifact.format in _NOT_TOLD:
        return Subject(path.name, size, None, (*notes, *_card(path), _NOT_TOLD[artifact.format]))
    raise InputError(
        f"{path} is nothing that edgepress can look into: a .keras, .onnx or .tflite file is wanted, or an "
        "artifact of a folder with a manifest.json."
    )


def _card(path: Path) -> tuple[str, ...]:
    """What the card of an engine says; nothing where there is none."""
    return read_card(path).lines if card_path(path).is_file() else ()


def _beside(path: Path, inspection: Inspection) -> Iterator[str]:
    """Where a model keeps its weights, if not in its file."""
    for name in inspection.weight_files:
        file = path.parent / name
        state = f"{file.stat().st_size / 1e6:.1f} MB" if file.is_file() else "which is missing"
        yield f"Keeps weights in {name}, {state}. Inspection reads shapes only and does not need it."


def _notes(artifact: Artifact | None) -> tuple[str, ...]:
    """What the manifest says about an artifact."""
    if artifact is None:
        return ()
    made = f"made by recipe {artifact.recipe} from {artifact.parent}" if artifact.recipe else "exported"
    notes = [f"{artifact.id}: {artifact.precision.value}, {made}."]
    if artifact.shares is not None:
        shares = artifact.shares.macs.items()
        macs = ", ".join(f"{100 * share:.1f} % {name}" for name, share in shares if share)
        notes.append(f"MACs: {macs} ({artifact.shares.proof.value}).")
    left_behind = artifact.content.left_behind if artifact.content is not None else ()
    notes.extend(f"{left.layer} computes in {left.computed.value}: {left.reason}." for left in left_behind)
    return tuple(notes)
