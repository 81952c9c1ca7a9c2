"""The verbs of the command line as functions of the same names: `edgepress.export(…)` and so on.

Only `parity` is called as `edgepress.api.parity(…)`, since `edgepress.parity` is the package behind it.
They do what the commands do, in this process, and print nothing of their own: give `progress` to be told how
far they are, and configure the loggers `edgepress`, `train`, `export`, `optimize`, `benchmark` and `deploy`
to read along. Errors are `edgepress.errors.EdgepressError`s. Enumerations can be given by their value: "onnx"
for `Format.ONNX`. Each function works alone in its folder: a second one, in any process, waits.
"""

import os
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgepress.artifact import Device, Format
from edgepress.errors import unknown_choice
from edgepress.interface import Interface, Layout, Pixels, Scores
from edgepress.preprocessing import PreprocessMode
from edgepress.progress import Progress, silent

if TYPE_CHECKING:
    from benchmark.measurement import Results
    from deploy.integrity.unpacking import Unpacked
    from deploy.stage import Bundle
    from edgepress.manifest import Manifest
    from edgepress.models.training_record import TrainingRecord
    from edgepress.models.vgg16 import Style
    from edgepress.parity.report import ParityReport
    from optimize.accuracy.sensitivity_report import SensitivityReport
    from train.pooling import Pooling

Choice = TypeVar("Choice", bound=Enum)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where trained weights and features are kept between runs (XDG base directory specification)."""
    base = environment.get("XDG_CACHE_HOME") or os.path.join(  # noqa: PTH118  # expanduser of a mapping
        environment.get("HOME", "."), ".cache"
    )
    return Path(base) / "edgepress"


def train(
    data: str | Path,
    out: str | Path,
    *,
    model: str = "vgg16",
    weights: str | Path | None = None,
    trainable_blocks: int = 0,
    pooling: "Pooling | str" = "average",
    hidden: int = 256,
    dropout: float = 0.5,
    epochs: int = 30,
    patience: int = 5,
    batch: int = 32,
    learning_rate: float | None = None,
    validation: float = 0.2,
    augment: int = 0,
    labels: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> "TrainingRecord":
    """Train a classifier on your pictures, on VGG16's convolutions.

    Args:
        data: Pictures with labels: an image folder (class/*.jpg), an `.npz`, or "digits".
        out: The `.keras` file; its history and learning curves are written beside it.
        model: Whose convolutions: "vgg16" or "vgg16-digits".
        weights: "imagenet", "random" or a file; None for the model's own.
        trainable_blocks: Last blocks of convolutions to train, too, after the head; 0 freezes all.
        pooling: Over the last feature map: "average", "max" or "flatten".
        hidden: Width of the new hidden layer; 0 for none.
        dropout: Share in [0, 1) of its outputs.
        epochs: At most, of the head, and again of fine-tuning.
        patience: Epochs without a lower validation loss after which it stops; 0 for never.
        batch: Pictures a step.
        learning_rate: Of Adam for the head, None for 0.001; fine-tuning goes on with a tenth of it.
        validation: Share of the pictures that chooses the epoch and does not train.
        augment: Random views of each training picture beside itself.
        labels: Text file with the class names in the order of the outputs.
        seed: Of split, weights, order and views.
        progress: Told about feature vectors and steps.

    Returns:
        What is also recorded in the file: labels, preprocessing, accuracy.

    Raises:
        InputError: Bad data or settings, or weights that do not fit.

    Examples:
        >>> record = edgepress.train("digits", "out/mine.keras", model="vgg16-digits", epochs=2)
        >>> len(record.labels), record.validation_accuracy > 0.9
        (10, True)
    """
    from train.network import Head
    from train.plan import TrainRequest
    from train.pooling import Pooling
    from train.stage import train_model

    request = TrainRequest(
        data=str(data),
        out=Path(out),
        cache=cache_folder(os.environ),
        model=model,
        weights=_text(weights),
        head=Head(_member(Pooling, pooling), hidden, dropout),
        trainable_blocks=trainable_blocks,
        epochs=epochs,
        patience=patience,
        batch=batch,
        learning_rate=learning_rate,
        validation=validation,
        augment=augment,
        labels=None if labels is None else Path(labels),
        seed=seed,
    )
    return train_model(request, progress)


def export(
    model: str | Path,
    out: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    style: "Style | str" = "functional",
    formats: Iterable[Format | str] = ("saved_model", "onnx", "tflite"),
    preprocess: PreprocessMode | str | None = None,
    labels: str | Path | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    layout: Layout | str = "nhwc",
    batch: int | None = None,
    pixels: Pixels | str = "preprocessed",
    scores: Scores | str = "logits",
    opset: int = 17,
    progress: Progress = silent,
) -> "Manifest":
    """Turn a Keras model into SavedModel, ONNX and TFLite, each proven against Keras.

    Args:
        model: "vgg16", "vgg16-digits" or a `.keras` file.
        out: Folder for the files and manifest.json; `out/NAME` by default.
        weights: "imagenet", "random" or a file; None for the model's own default.
        style: How VGG16 is described: "sequential" or "functional".
        formats: What to write: "saved_model", "onnx", "tflite".
        preprocess: What pictures need: "caffe", "tf", "torch" or "none"; None if the model says it.
        labels: Text file with a class name a line, in the model's order.
        data: Image folder whose class folders name the classes.
        seed: Of random weights.
        layout: Order of the axes of the ONNX input: "nhwc" or "nchw".
        batch: Pictures in an input; None for any number (TFLite: 1).
        pixels: What the input holds: "preprocessed", or "rgb" as decoded, the preprocessing being inside.
        scores: What the output holds: "logits" or "probabilities".
        opset: Version of ONNX' operators, 17 to 21.
        progress: Told about training epochs and finished files.

    Returns:
        The manifest of the folder.

    Raises:
        InputError: Bad input, a missing package, or too little disk.
        ProofError: A file does not give Keras' logits.

    Examples:
        >>> manifest = edgepress.export("vgg16-digits", "out/digits", formats=["onnx", "tflite"])
        >>> [artifact.id for artifact in manifest.artifacts]
        ['onnx-fp32', 'tflite-fp32']
        >>> manifest.model.parameters
        955098
    """
    from edgepress.models.vgg16 import Style
    from export.stage import ExportRequest, export_model

    request = ExportRequest(
        model=str(model),
        out=Path(out) if out is not None else Path("out") / Path(model).stem,
        cache=cache_folder(os.environ),
        weights=_text(weights),
        style=_member(Style, style),
        formats=tuple(dict.fromkeys(_member(Format, item) for item in formats)),
        preprocess=None if preprocess is None else _member(PreprocessMode, preprocess),
        labels=None if labels is None else Path(labels),
        data=_text(data),
        seed=seed,
        interface=Interface(_member(Layout, layout), _member(Pixels, pixels), _member(Scores, scores), batch),
        opset=opset,
    )
    return export_model(request, progress)


def optimize(
    folder: str | Path,
    *,
    target: str = "host",
    recipes: Iterable[str] | None = None,
    data: str | Path | None = None,
    samples: int = 64,
    calibration: str = "minmax",
    improve: Iterable[str] = ("bias-correction",),
    seed: int = 0,
    max_drop: float | None = None,
    strict: bool = False,
    budget_images: int = 500,
    budget_data: str | Path | None = None,
    progress: Progress = silent,
) -> "Manifest":
    """Make FP16 and INT8 versions and TensorRT-RTX engines of what was exported.

    Args:
        folder: Has a manifest.json; artifacts are added to it.
        target: Device to press for; its instruction set picks the INT8 format.
        recipes: Names of recipes; None for all that suit the target.
        data: Calibration pictures: "digits", an image folder or an `.npz`; None for the model's own.
        samples: Number of calibration pictures.
        calibration: How the ranges of activations follow from them: "minmax", "moving-average", "percentile",
            "entropy" or "mse".
        improve: What is done to the FP32 network before: "equalization", "bias-correction".
        seed: Of the drawing.
        max_drop: Top-1 that INT8 may lose against FP32, in percentage points; layers go back to float
            until it does not lose more. None for no such gate.
        strict: Hold that against the 95 % bound of the drop.
        budget_images: Pictures that it is judged on.
        budget_data: Where they are from; None for what is left of `data`.
        progress: Told about calibration pictures and finished artifacts.

    Returns:
        The manifest with all wanted artifacts.

    Raises:
        InputError: Bad input, a missing package, or too little disk.
        ProofError: An artifact did not prove what its name promises; those before it are kept.

    Examples:
        >>> manifest = edgepress.optimize("out/digits", recipes=["tflite_static_wi8_ai8"])
        >>> pressed = manifest.get("tflite-static_wi8_ai8")
        >>> pressed.precision.value, pressed.size_bytes < 0.3 * manifest.get("tflite-fp32").size_bytes
        ('int8', True)
    """
    from optimize.accuracy.budget_report import Budget
    from optimize.accuracy.budget_stage import BudgetRequest
    from optimize.calibration import CalibrationMethod
    from optimize.improvement import Improvement
    from optimize.stage import OptimizeRequest, optimize_folder

    budget = None
    if max_drop is not None:
        budget = BudgetRequest(Budget(max_drop, strict), budget_images, _text(budget_data), seed)
    request = OptimizeRequest(
        folder=Path(folder),
        target=target,
        recipes=None if recipes is None else tuple(recipes),
        data=_text(data),
        samples=samples,
        seed=seed,
        budget=budget,
        calibration=_member(CalibrationMethod, calibration),
        improvements=frozenset(_member(Improvement, name) for name in improve),
    )
    return optimize_folder(request, progress)


def sensitivity(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    images: int = 64,
    seed: int = 0,
    progress: Progress = silent,
) -> "SensitivityReport":
    """Rank the layers by what the logits lose if one alone is quantized.

    Args:
        folder: That was optimized: it has a calibration.json. The report is written there.
        data: Pictures: "digits", an image folder or an `.npz`; None for the model's own.
        images: At most so many of them.
        seed: Of the drawing.
        progress: Told about pictures.

    Returns:
        What sensitivity.json says: the most sensitive layer first.

    Raises:
        InputError: Bad input, no calibration of the ONNX model, or a file that was changed.

    Examples:
        >>> manifest = edgepress.optimize("out/digits", recipes=["tensorrt_static_wi8_ai8"], max_drop=1)
        >>> report = edgepress.sensitivity("out/digits", images=8)
        >>> len(report.layers), report.layers[0].logit_snr_db > 30
        (16, True)
    """
    from optimize.accuracy.sensitivity_stage import SensitivityRequest, measure_sensitivity

    return measure_sensitivity(SensitivityRequest(Path(folder), _text(data), images, seed), progress)


def parity(
    folder: str | Path, *, variants: Iterable[str] | None = None, progress: Progress = silent
) -> "ParityReport":
    """Prove that every version still computes what Keras does, and name the layer where one does not.

    Args:
        folder: With a manifest.json and the golden set of its export; parity.json is written there.
        variants: Ids of artifacts; None for all.
        progress: Told about artifacts.

    Returns:
        What parity.json says. A row that failed, or could not be run here, is there with its reason.

    Raises:
        InputError: Bad input, or an artifact or the golden set was changed. An existing parity.json stays.

    Examples:
        >>> report = edgepress.api.parity("out/digits", variants=["tflite-fp32", "tflite-static_wi8_ai8"])
        >>> [(row.artifact, row.reference, row.status.value) for row in report.rows]
        [('tflite-fp32', 'keras', 'passed'), ('tflite-static_wi8_ai8', 'tflite-fp32', 'passed')]
        >>> report.rows[0].structured.snr_db > 100
        True
    """
    from edgepress.parity.stage import ParityRequest, check_folder

    chosen = None if variants is None else tuple(variants)
    return check_folder(ParityRequest(Path(folder), chosen), progress)


def benchmark(
    folder: str | Path,
    *,
    device: Device | str = "cpu",
    variants: Iterable[str] | None = None,
    data: str | Path | None = None,
    quick: bool = False,
    threads: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    again: bool = False,
    runners: Iterable[str] | None = None,
    offline: Iterable[int] = (),
    host: str | None = None,
    host_python: str = "python3",
    progress: Progress = silent,
) -> "Results":
    """Measure latency, memory and accuracy of each version against FP32, and write results and report.

    Args:
        folder: With a manifest.json; results.json and its reports (.html, .md, .csv) are written there.
        device: Where to measure: "cpu" or "cuda".
        variants: Ids of artifacts; None for all.
        data: Pictures to evaluate: "digits", an image folder or an `.npz`; None for the model's own.
        quick: Fewer samples: for a look, not for a decision.
        threads: Of every runtime; None for all cores.
        limit: Evaluate at most so many pictures.
        seed: Of the order of blocks, the draw of pictures and the bootstrap.
        again: Measure also if the results that are there are of the same things.
        runners: Only these ("onnxruntime", "openvino", …), and every version that they can load; None for
            the runners that the versions were made for.
        offline: Also pictures a second in batches of this many.
        host: Measure on this device over SSH ("user@device"); None for this machine.
        host_python: Python there, 3.10 or later, with numpy and a runtime.
        progress: Told about rows.

    Returns:
        What results.json says. A row that failed or was skipped is there with its reason.

    Raises:
        InputError: Bad input, or an artifact that was changed. An existing results.json stays as it is.

    Examples:
        >>> results = edgepress.benchmark("out/digits", quick=True, limit=50)
        >>> results.baseline.artifact
        'onnx-fp32'
        >>> row = next(r for r in results.results if r.artifact == "tflite-static_wi8_ai8")
        >>> row.status.value, row.accuracy.images, row.accuracy.agreement > 0.9
        ('ok', 50, True)
    """
    from benchmark.preparation import BenchmarkRequest
    from benchmark.report.writing import refresh_report
    from benchmark.stage import benchmark_folder

    request = BenchmarkRequest(
        folder=Path(folder),
        device=_member(Device, device),
        variants=None if variants is None else tuple(variants),
        data=_text(data),
        quick=quick,
        threads=threads,
        limit=limit,
        seed=seed,
        again=again,
        runners=None if runners is None else tuple(runners),
        offline=tuple(offline),
        host=host,
        host_python=host_python,
    )
    results = benchmark_folder(request, progress)
    refresh_report(request.folder)
    return results


def bundle(
    folder: str | Path,
    *,
    target: str = "linux-x64-cpu",
    out: str | Path | None = None,
    variant: str | None = None,
    max_drop: float = 1.0,
    max_latency_ms: float | None = None,
    max_mb: float | None = None,
    sign: str | Path | None = None,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> "Bundle":
    """Pack the best version for a device, with scripts that run and verify it there.

    Args:
        folder: With a manifest.json, and a results.json unless `variant` is given.
        target: Kind of device, or the path of a profile in TOML.
        out: Folder of the bundle, which has the archive beside it; `folder`/bundle-TARGET by default.
        variant: Id of the artifact; None to choose by results.json.
        max_drop: Largest loss of top-1 that the choice allows, in percentage points.
        max_latency_ms: Longest median of one inference, as in results.json; None for any.
        max_mb: Size of the largest model file in megabytes; None for any.
        sign: File of an Ed25519 private key in PEM; None to leave the bundle unsigned.
        data: Pictures for the golden inputs; None for those of results.json.
        progress: Told about steps.

    Returns:
        What was delivered, and why.

    Raises:
        InputError: Nothing to choose by, or nothing for the target.
        LimitError: Nothing keeps to the limits.
        ProofError: The bundle does not verify. Nothing is delivered then.

    Examples:
        >>> delivered = edgepress.bundle("out/digits", variant="onnx-fp32")
        >>> str(delivered.folder), delivered.artifact
        ('out/digits/bundle-linux-x64-cpu', 'onnx-fp32')
    """
    from deploy.selection import Limits
    from deploy.stage import BundleRequest, bundle_folder

    request = BundleRequest(
        folder=Path(folder),
        target=target,
        out=None if out is None else Path(out),
        variant=variant,
        limits=Limits(max_drop, max_latency_ms, None if max_mb is None else round(max_mb * 1e6)),
        data=_text(data),
        signing_key=None if sign is None else Path(sign),
    )
    return bundle_folder(request, progress)


def unpack(
    archive: str | Path,
    out: str | Path | None = None,
    *,
    public_key: str | Path | None = None,
    progress: Progress = silent,
) -> "Unpacked":
    """Unpack a bundle's archive, if every file and its signature are what they should be.

    Args:
        archive: The `.tar.gz` of a bundle, of whatever origin.
        out: Folder of the bundle, missing or empty; None for the archive's name without its suffix.
        public_key: PEM file of the Ed25519 key with which it must be signed; None to check no signature.
        progress: Told about MiB of the archive.

    Returns:
        Where it is, and what was found.

    Raises:
        InputError: It is no archive of a bundle, or holds what could harm. Nothing is left then.
        ProofError: A file or the signature is not what it should be. Nothing is left then.

    Examples:
        >>> from deploy.integrity.archive import write_archive
        >>> packed = write_archive(delivered.folder)
        >>> unpacked = edgepress.unpack(packed.path, "out/unpacked")
        >>> str(unpacked.folder), unpacked.signature
        ('out/unpacked', None)
    """
    from deploy.integrity.unpacking import unpack as unpack_archive

    key = None if public_key is None else Path(public_key)
    return unpack_archive(Path(archive), None if out is None else Path(out), key, progress=progress)


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)


def _member(kind: type[Choice], value: "Choice | str") -> Choice:
    """The member of an enumeration that has this value.

    Raises:
        InputError: There is none; the nearest is suggested.
    """
    known = {member.value: member for member in kind}
    found = known.get(value.value if isinstance(value, kind) else value)
    if found is None:
        raise unknown_choice(kind.__name__.lower(), str(value), known)
    return found
