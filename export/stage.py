"""The stage: MODEL in, portable files and their manifest out."""

import importlib.metadata
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import edgepress
from edgepress.artifact import Artifact, Format, Precision, Runtime, TensorSpec
from edgepress.digests import remember_sha256
from edgepress.errors import InputError
from edgepress.files import make_folder, require_disk, sha256_of_json, sha256_of_path, size_bytes
from edgepress.labels import labels_of_data, read_labels
from edgepress.lock import exclusive
from edgepress.manifest import MANIFEST, Manifest, ModelCard
from edgepress.metrics import Logits
from edgepress.models.source import ModelChoice, ModelSource, resolve
from edgepress.models.vgg16 import Style
from edgepress.models.weights import fingerprint_of
from edgepress.parity import Parity
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.progress import Progress, silent
from export.logits import logits_model
from export.onnx_from_keras import onnx_from_keras
from export.saved_model_from_keras import saved_model_from_keras
from export.smoke import smoke_check, smoke_input
from export.tflite_from_keras import BATCH, tflite_from_keras

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
_DISK_MARGIN = 1.05
_SMOKE_SEED = 0


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


@dataclass(frozen=True)
class _Writer:
    """How one format is written.

    Attributes:
        artifact_id: In the manifest.
        file_name: Inside the folder.
        convert: Writes the network to a path.
        runtimes: Made for these; the first one proves it.
        batch: None where it is free.
    """

    artifact_id: str
    file_name: str
    convert: Callable[["keras.Model", Path], None]
    runtimes: tuple[Runtime, ...]
    batch: int | None


_WRITERS = {
    Format.SAVED_MODEL: _Writer(
        "saved_model-fp32", "saved_model-fp32", saved_model_from_keras, (Runtime.TENSORFLOW,), None
    ),
    Format.ONNX: _Writer(
        "onnx-fp32",
        "onnx-fp32.onnx",
        onnx_from_keras,
        (Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT),
        None,
    ),
    Format.TFLITE: _Writer("tflite-fp32", "tflite-fp32.tflite", tflite_from_keras, (Runtime.LITERT,), BATCH),
}
FORMATS = tuple(_WRITERS)


@dataclass(frozen=True)
class _Reference:
    """The network that every file must reproduce, with its answer to the smoke picture."""

    network: "keras.Model"
    card: ModelCard
    images: NDArray[np.float32]
    logits: Logits
    provenance: dict[str, Any]


def export_model(request: ExportRequest, progress: Progress = silent) -> Manifest:
    """Write the model in each format, prove each file against Keras, and record it in the manifest.

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
    key = _key(source, labels)
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
    if same is not None and not pending:
        return same
    make_folder(request.out)
    require_disk(
        request.out, int(source.weights_bytes * len(pending) * _DISK_MARGIN), f"Exporting {source.name}"
    )
    reference = _reference(source, _fitting(request, labels), progress)
    manifest = Manifest(request.out, reference.card, same.artifacts if same is not None else ())
    on_disk = former or manifest
    for done, artifact_format in enumerate(pending):
        progress("export", done, len(pending))
        manifest = manifest.with_artifact(_write(reference, artifact_format, on_disk, key))
        manifest.save()
        on_disk = manifest
        if former is not None:
            _remove_dropped(former, manifest)
    progress("export", len(pending), len(pending))
    return manifest


def _labels(request: ExportRequest, source: ModelSource) -> tuple[str, ...] | None:
    if request.labels is not None:
        return read_labels(request.labels)
    if source.labels is not None:
        return source.labels
    return labels_of_data(request.data) if request.data is not None else None


def _key(source: ModelSource, labels: tuple[str, ...] | None) -> str:
    """Hash of everything that the files depend on."""
    return sha256_of_json(
        {
            "model": source.name,
            "source": source.depends_on,
            "preprocess": source.mode.value,
            "labels": labels,
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
    ids = {writer.artifact_id for writer in _WRITERS.values()}
    exported = [artifact for artifact in manifest.artifacts if artifact.id in ids]
    return bool(exported) and all(artifact.key == key for artifact in exported)


def _is_current(manifest: Manifest | None, artifact_format: Format, key: str) -> bool:
    writer = _WRITERS[artifact_format]
    if manifest is None or not manifest.is_current(writer.artifact_id, key):
        return False
    logger.info("%s: up to date", writer.artifact_id)
    return True


def _reference(
    source: ModelSource, labels_for: Callable[[int], tuple[str, ...] | None], progress: Progress
) -> _Reference:
    loaded = source.load(progress)
    found = logits_model(loaded.model)
    network = found.network
    _, height, width, _ = network.inputs[0].shape
    class_count = int(network.outputs[0].shape[1])
    preprocessing = Preprocessing(source.mode, height, width)
    images = smoke_input(preprocessing, _SMOKE_SEED)
    card = ModelCard(
        source.name,
        source.weights,
        fingerprint_of(network),
        int(network.count_params()),
        class_count,
        labels_for(class_count),
        preprocessing,
        found.activation,
        source.trained_on,
    )
    logits = np.asarray(network(images, training=False), np.float32)
    return _Reference(network, card, images, logits, loaded.findings)


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


def _write(reference: _Reference, artifact_format: Format, on_disk: Manifest, key: str) -> Artifact:
    """Convert, prove, and only then put the file in its place."""
    writer = _WRITERS[artifact_format]
    path = on_disk.folder / writer.file_name
    start_ns = time.perf_counter_ns()
    with on_disk.placing(writer.file_name) as temporary:
        writer.convert(reference.network, temporary)
        parity = smoke_check(temporary, writer.runtimes[0], reference.images, reference.logits)
    wall_ns = time.perf_counter_ns() - start_ns
    size, digest = size_bytes(path), sha256_of_path(path)
    remember_sha256(on_disk.folder, writer.file_name, digest)
    found = (writer.artifact_id, size / 1e6, wall_ns / 1e9, _in_words(parity))
    logger.info("%s: %.1f MB in %.1f s, logits %s", *found)
    preprocessing = reference.card.preprocessing
    shape = (writer.batch, preprocessing.height, preprocessing.width, 3)
    return Artifact(
        writer.artifact_id,
        writer.file_name,
        artifact_format,
        Precision.FP32,
        writer.runtimes,
        (TensorSpec("images", shape, "float32"),),
        (TensorSpec("logits", (writer.batch, reference.card.class_count), "float32"),),
        digest,
        size,
        key,
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
            path.unlink(missing_ok=True)
        logger.info("%s: removed, it was made from another model", artifact.id)
