"""The stage: a folder that was optimized in; sensitivity.json, sensitivity.md and sensitivity.svg out."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import edgepress
from edgepress.artifact import Artifact
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.evaluation_data import data_for, evaluation_of, labels_for
from edgepress.files import sha256_of_json
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.layer import Layer
from edgepress.interface import Activation
from edgepress.lock import exclusive
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from edgepress.record import to_json
from optimize.accuracy.cost import Logits, accuracy_cost
from optimize.accuracy.fake_quantization import TENSORRT, Scheme
from optimize.accuracy.pictures import Pictures
from optimize.accuracy.sensitivity import responses_of
from optimize.accuracy.sensitivity_plot import write_sensitivity_plot
from optimize.accuracy.sensitivity_report import (
    SCHEMA_VERSION,
    SENSITIVITY,
    SENSITIVITY_PLOT,
    LayerSensitivity,
    SensitivityReport,
    ranked,
)
from optimize.calibration import CALIBRATION, CalibrationTable, Ranges
from optimize.improvement import Improvement
from optimize.improvement.sources import sources_of
from optimize.recipe import ONNX_FP32

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SensitivityRequest:
    """What `edgepress sensitivity` is asked for.

    Attributes:
        folder: Has a manifest.json and a calibration.json.
        data: DATA of the pictures; None for the model's own, where it has some.
        images: At most so many pictures, ≥ 1, none of which calibrated or trained.
        seed: Of the draw.
    """

    folder: Path
    data: str | None = None
    images: int = 64
    seed: int = 0


def measure_sensitivity(request: SensitivityRequest, progress: Progress = silent) -> SensitivityReport:
    """Quantize each layer of a folder's FP32 ONNX model alone, and write what the logits lose.

    A report of the same things is kept, and then nothing is run.

    Args:
        request: What is wanted.
        progress: Told "sensitivity" per picture.

    Returns:
        The layers, the most sensitive first.

    Raises:
        InputError: No manifest, no ONNX model, no calibration table of it, bad data, or a changed file.
        MissingRuntimeError: onnxruntime is not installed.
    """
    with exclusive(request.folder):
        manifest = Manifest.load(request.folder)
        artifact, table = _subject(manifest)
        data = data_for(manifest.model.name, request.data)
        chosen = evaluation_of(manifest, data, request.images, request.seed, (table.sample.to_json(),))
        pictures = Pictures(data, chosen.pictures, *labels_for(manifest.model, chosen.pictures))
        key = _key(artifact, table, pictures, TENSORRT)
        known = _known(request.folder, key)
        if known is not None:
            _LOGGER.info("%s is up to date", request.folder / SENSITIVITY)
            return known
        manifest.verify(artifact)
        ranges = table.ranges_of(artifact.sha256)
        improvements = {Improvement.EQUALIZATION} if table.sample.is_equalized else ()
        with sources_of(manifest, improvements) as sources:
            path = sources.path_of(artifact)
            layers = sensitivities(manifest, artifact, path, ranges, TENSORRT, pictures, progress)
        report = SensitivityReport(
            SCHEMA_VERSION,
            key,
            manifest.model.name,
            artifact.id,
            "int8 weights with a scale per output channel, and int8 activations, both symmetric",
            data,
            len(pictures.dataset),
            pictures.labels is not None,
            table.fingerprint,
            ranked(layers),
        )
        write_sensitivity_plot(request.folder / SENSITIVITY_PLOT, report)
        report.save(request.folder)
        return report


def sensitivities(
    manifest: Manifest,
    artifact: Artifact,
    path: Path,
    ranges: Ranges,
    scheme: Scheme,
    pictures: Pictures,
    progress: Progress = silent,
) -> tuple[LayerSensitivity, ...]:
    """What is lost by each weighted layer of an FP32 ONNX artifact quantized alone, in graph order.

    `path` is the file that `ranges` were taken from: the artifact's own, or an equalized copy.

    Raises:
        InputError: See `responses_of`.
    """
    interface = artifact.interface
    inputs = map(interface.filled, pictures.dataset.inputs(manifest.model.preprocessing, interface))
    total = len(pictures.dataset)
    found = responses_of(path, artifact.outputs[0].name, ranges, scheme, inputs, total, progress)
    activation: Activation = manifest.model.activation
    reference = interface.logits(found.reference, activation)
    known = {layer.name: layer for layer in inspect_onnx(path).layers}
    return tuple(
        _sensitivity(known[name], reference, interface.logits(scores, activation), pictures)
        for name, scores in found.layers.items()
    )


def _sensitivity(layer: Layer, reference: Logits, logits: Logits, pictures: Pictures) -> LayerSensitivity:
    cost = accuracy_cost(reference, logits, pictures.labels)
    return LayerSensitivity(
        layer.name,
        layer.kind,
        layer.parameters,
        layer.macs,
        layer.weight_bytes,
        cost.logit_snr_db,
        cost.agreement,
        cost.drop_points,
    )


def _subject(manifest: Manifest) -> tuple[Artifact, CalibrationTable]:
    artifact = manifest.find(ONNX_FP32)
    if artifact is None:
        raise InputError(
            f"Sensitivity is measured on {ONNX_FP32}, and {manifest.folder} has none. "
            "Export the model with --format onnx."
        )
    if manifest.path_of(artifact).is_dir():
        raise InputError(
            f"{artifact.id} of {manifest.folder} is a folder: a model of more than 2 GiB cannot be "
            "quantized. Use a smaller model."
        )
    table = CalibrationTable.load(manifest.folder)
    if table is None or artifact.sha256 not in table.graphs:
        raise InputError(
            f"{manifest.folder} has no {CALIBRATION} with the ranges of {artifact.id}. "
            f"Calibrate first: edgepress optimize {manifest.folder} --recipe tensorrt_static_wi8_ai8"
        )
    return artifact, table


def _key(artifact: Artifact, table: CalibrationTable, pictures: Pictures, scheme: Scheme) -> str:
    """Hash of everything that the report depends on."""
    return sha256_of_json(
        {
            "schema": SCHEMA_VERSION,
            "artifact": artifact.sha256,
            "table": table.fingerprint,
            "pictures": pictures.fingerprint,
            "scheme": to_json(scheme),
            "versions": versions(("onnxruntime",)),
        }
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of edgepress and of the packages that compute.

    Raises:
        MissingRuntimeError: One of them is not installed.
    """
    try:
        found = {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise MissingRuntimeError(str(error.name), "onnxruntime") from error
    return {"edgepress": edgepress.__version__, **found}


def _known(folder: Path, key: str) -> SensitivityReport | None:
    written: Sequence[Path] = (folder / SENSITIVITY, folder / SENSITIVITY_PLOT)
    if not all(path.is_file() for path in written):
        return None
    try:
        known = SensitivityReport.load(folder)
    except InputError as error:
        _LOGGER.info("measuring anew: %s", error)
        return None
    return known if known.key == key else None
