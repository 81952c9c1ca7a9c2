"""The stage: MODEL in, portable files and their manifest out."""

import gc
import importlib.metadata
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import edgepress
from edgepress.artifact import Artifact, Format, Precision, Runtime
from edgepress.dataset import DIGITS
from edgepress.digests import remember_sha256
from edgepress.engine_card import unlink_with_card
from edgepress.errors import InputError
from edgepress.files import (
    make_folder,
    require_disk,
    scratch_folder,
    sha256_of_json,
    sha256_of_path,
    size_bytes,
    writing,
)
from edgepress.interface import PLAIN, Interface
from edgepress.labels import labels_of_data, read_labels
from edgepress.lock import exclusive
from edgepress.manifest import GOLDEN, MANIFEST, Manifest
from edgepress.models.source import ModelChoice, ModelSource, resolve
from edgepress.models.vgg16 import VGG16_DIGITS, Style
from edgepress.parity import Parity
from edgepress.preprocessing import PreprocessMode
from edgepress.progress import Progress, silent
from edgepress.record import to_json
from export.formats import FORMATS, WRITERS, Draft, draft_of
from export.onnx_from_keras import DEFAULT_OPSET
from export.reference import Reference, reference_of
from export.smoke import smoke_check

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
_DISK_MARGIN = 1.05


@dataclass(frozen=True)
class ExportRequest:
    """What the user asks for.

    Attributes:
        model: "vgg16", "vgg16-digits" or a `.keras` file.
        out: Folder for the files and manifest.json.
        cache: Folder for trained weights.
        weights: "imagenet", "random", a file, or None for the model's own default.
        style: How VGG16 is described; a user's model has its own.
        formats: What to write.
        preprocess: What pictures need; None for the model's own default.
        labels: Text file with a class name a line, or None.
        data: DATA whose class folders name the classes, or None.
        seed: For random weights and for training.
        interface: What the files take and give; a layout is ONNX' alone, TFLite always has a fixed batch.
        opset: Of ONNX.
    """

    model: str
    out: Path
    cache: Path
    weights: str | None = None
    style: Style = Style.FUNCTIONAL
    formats: tuple[Format, ...] = (Format.SAVED_MODEL, Format.ONNX, Format.TFLITE)
    preprocess: PreprocessMode | None = None
    labels: Path | None = None
    data: str | None = None
    seed: int = 0
    interface: Interface = PLAIN
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True)
class _Written:
    """A format whose file lies in the scratch folder."""

    draft: Draft
    path: Path
    wall_ns: int


def export_model(request: ExportRequest, progress: Progress = silent) -> Manifest:
    """Write the model in each format, prove each file against Keras, and record it in the manifest.

    With them comes golden.npz, Keras' answers to the golden pictures, by which `edgepress parity` judges.
    What is current is not made again, and then no framework is imported. A folder that holds another model,
    or this one made of other things, is taken over: its artifacts are dropped once the first new one is
    proven.
    Each file appears whole or not at all; what is finished stays if a later one fails.

    Args:
        request: What to do.
        progress: Told about training epochs and finished files.

    Raises:
        InputError: Bad input, or too little disk.
        MissingRuntimeError: A framework is not installed.
        ProofError: A file does not give Keras' logits.
    """
    source = resolve(
        ModelChoice(
            request.model, request.weights, request.style, request.preprocess, request.seed, request.cache
        )
    )
    labels = _labels(request, source)
    key = _key(request, source, labels)
    if not request.formats:
        raise InputError(f"No format to export. Give --format {'|'.join(f.value for f in FORMATS)}.")
    if not request.out.is_dir():
        make_folder(request.out)
    with exclusive(request.out):
        return _brought_up_to_date(request, source, labels, key, progress)


def _brought_up_to_date(
    request: ExportRequest,
    source: ModelSource,
    labels: tuple[str, ...] | None,
    key: str,
    progress: Progress,
) -> Manifest:
    """Export what the folder lacks."""
    former = Manifest.load(request.out) if (request.out / MANIFEST).is_file() else None
    same = former if former is not None and _is_of_key(former, key) else None
    pending = [f for f in request.formats if not _is_current(same, f, key)]
    golden = None if same is None else _golden_sha256(same)
    if same is not None and golden is not None and not pending:
        return same
    make_folder(request.out)
    require_disk(
        request.out, int(source.weights_bytes * len(pending) * _DISK_MARGIN), f"Exporting {source.name}"
    )
    with scratch_folder(request.out) as scratch:
        reference, written = _written(request, source, labels, pending, scratch, progress)
        gc.collect()  # the network: files are proven without its weights beside theirs
        return _proven(request, reference, written, former, same, key, progress)


def _written(
    request: ExportRequest,
    source: ModelSource,
    labels: tuple[str, ...] | None,
    pending: Sequence[Format],
    scratch: Path,
    progress: Progress,
) -> tuple[Reference, list[_Written]]:
    """Load the network, ask it, convert its architecture into every format, and only then write the files."""
    network, reference = reference_of(
        source, _fitting(request, labels), _golden_data(request, source), progress
    )
    converted = [
        draft_of(network, reference.card, WRITERS[form], request.interface, request.opset) for form in pending
    ]
    found = []
    for draft, write in converted:
        path = scratch / draft.file_name
        start_ns = time.perf_counter_ns()
        with writing(request.out / draft.file_name):
            write(path)
        found.append(_Written(draft, path, time.perf_counter_ns() - start_ns))
    return reference, found


def _proven(
    request: ExportRequest,
    reference: Reference,
    written: Sequence[_Written],
    former: Manifest | None,
    same: Manifest | None,
    key: str,
    progress: Progress,
) -> Manifest:
    """Prove one file after the other, and put each in its place."""
    manifest = Manifest(request.out, reference.card, same.artifacts if same is not None else ())
    on_disk = former or manifest
    golden = None if same is None else _golden_sha256(same)
    if not written:  # the golden set alone is missing, or was changed
        manifest = _with_golden(manifest, _write_golden(reference, on_disk))
        manifest.save()
        return manifest
    # TensorFlow keeps the memory of what it once loaded: its file is proven last.
    in_order = sorted(written, key=lambda one: one.draft.writer.runtimes[0] is Runtime.TENSORFLOW)
    for done, found in enumerate(in_order):
        progress("export", done, len(written))
        artifact = _prove(reference, found, on_disk, key)
        golden = golden or _write_golden(reference, on_disk.without(artifact.path))
        manifest = _with_golden(manifest.with_artifact(artifact), golden)
        manifest.save()
        on_disk = manifest
        if former is not None:
            _remove_dropped(former, manifest)
    manifest = _in_asked_order(manifest, written)
    manifest.save()
    progress("export", len(written), len(written))
    return manifest


def _in_asked_order(manifest: Manifest, written: Sequence[_Written]) -> Manifest:
    """A manifest whose new artifacts stand in the order in which they were asked for."""
    ids = [found.draft.writer.artifact_id for found in written]
    asked = iter(ids)
    artifacts = (manifest.get(next(asked)) if a.id in ids else a for a in manifest.artifacts)
    return replace(manifest, artifacts=tuple(artifacts))


def _labels(request: ExportRequest, source: ModelSource) -> tuple[str, ...] | None:
    if request.labels is not None:
        return read_labels(request.labels)
    if source.labels is not None:
        return source.labels
    return labels_of_data(request.data) if request.data is not None else None


def _key(request: ExportRequest, source: ModelSource, labels: tuple[str, ...] | None) -> str:
    """Hash of everything that the files depend on."""
    return sha256_of_json(
        {
            "model": source.name,
            "source": source.depends_on,
            "preprocess": source.mode.value,
            "labels": labels,
            "interface": to_json(request.interface),
            "opset": request.opset,
            "versions": _versions(),
        }
    )


def _versions() -> dict[str, str | None]:
    """Versions of edgepress and of what it converts with; None for what is not installed."""
    return {"edgepress": edgepress.__version__, **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_of_key(manifest: Manifest, key: str) -> bool:
    """Whether a manifest is of the same model made of the same things."""
    ids = {writer.artifact_id for writer in WRITERS.values()}
    exported = [artifact for artifact in manifest.artifacts if artifact.id in ids]
    return bool(exported) and all(artifact.key == key for artifact in exported)


def _is_current(manifest: Manifest | None, artifact_format: Format, key: str) -> bool:
    writer = WRITERS[artifact_format]
    if manifest is None or not manifest.is_current(writer.artifact_id, key):
        return False
    logger.info("%s: up to date", writer.artifact_id)
    return True


def _golden_sha256(manifest: Manifest) -> str | None:
    """SHA-256 of the golden set in the folder, if it is the one that the manifest names."""
    path, named = manifest.folder / GOLDEN, manifest.model.golden_sha256
    return named if named is not None and path.is_file() and sha256_of_path(path) == named else None


def _golden_data(request: ExportRequest, source: ModelSource) -> str | None:
    return request.data or (DIGITS if source.name == VGG16_DIGITS.name else None)


def _with_golden(manifest: Manifest, sha256: str) -> Manifest:
    return replace(manifest, model=replace(manifest.model, golden_sha256=sha256))


def _write_golden(reference: Reference, on_disk: Manifest) -> str:
    """Write the golden set and give its SHA-256. `on_disk` is the manifest that lies there."""
    with on_disk.placing(GOLDEN) as temporary:
        reference.golden.save(temporary)
    return sha256_of_path(on_disk.folder / GOLDEN)


def _fitting(
    request: ExportRequest, labels: tuple[str, ...] | None
) -> Callable[[int], tuple[str, ...] | None]:
    """Labels for a number of classes: those of --labels must fit, those of DATA are taken if they do."""

    def labels_for(class_count: int) -> tuple[str, ...] | None:
        if labels is None or len(labels) == class_count:
            return labels
        if request.labels is None:
            logger.info("the %d classes of the data are not the %d of the model", len(labels), class_count)
            return None
        raise InputError(
            f"{request.labels} has {len(labels)} class names, and the model has {class_count} classes. "
            "Give one name a line, in the order of the outputs."
        )

    return labels_for


def _prove(reference: Reference, written: _Written, on_disk: Manifest, key: str) -> Artifact:
    """Run a written file, and only then put it in its place."""
    draft, writer = written.draft, written.draft.writer
    path = on_disk.folder / draft.file_name
    start_ns = time.perf_counter_ns()
    with on_disk.placing(draft.file_name) as temporary:
        written.path.replace(temporary)
        golden = reference.golden  # its first picture, the drawn one, is the smoke check's
        answers = (golden.pictures[:1], golden.logits[:1], reference.others)
        parity = smoke_check(temporary, writer.runtimes[0], draft.promise, *answers)
    wall_ns = written.wall_ns + time.perf_counter_ns() - start_ns
    size, digest = size_bytes(path), sha256_of_path(path)
    remember_sha256(on_disk.folder, draft.file_name, digest)
    found = (writer.artifact_id, size / 1e6, wall_ns / 1e9, _in_words(parity))
    logger.info("%s: %.1f MB in %.1f s, logits %s", *found)
    return Artifact(
        writer.artifact_id,
        draft.file_name,
        writer.format,
        Precision.FP32,
        writer.runtimes,
        draft.inputs,
        draft.outputs,
        digest,
        size,
        key,
        interface=draft.promise.interface,
        provenance={
            **reference.provenance,
            "versions": _versions(),
            "wall_ns": wall_ns,
            "smoke_snr_db": round(parity.snr_db, 1) if math.isfinite(parity.snr_db) else "identical",
        },
    )


def _in_words(parity: Parity) -> str:
    if math.isinf(parity.snr_db):
        return "identical to Keras'"
    return f"within {parity.snr_db:.0f} dB of Keras'"


def _remove_dropped(former: Manifest, manifest: Manifest) -> None:
    """Remove the files of a former manifest that the new one does not name."""
    kept = {artifact.path for artifact in manifest.artifacts}
    for artifact in former.artifacts:
        if artifact.path in kept:
            continue
        path = former.path_of(artifact)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            unlink_with_card(path)
        logger.info("%s: removed, it was made from another model", artifact.id)
