"""Step: one recipe applied to one artifact: requires → apply → ensures.

The file is made under a temporary name and takes its place only when it has proven itself: right
precision, same signature, finite logits. So no artifact carries a name that its content has not earned.
"""

import importlib.metadata
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import edgepress
from edgepress.artifact import Artifact, Format, Precision, PrecisionShares, Proof, TensorSpec
from edgepress.digests import remember_sha256
from edgepress.engine_card import card_path, write_card
from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.files import scratch_folder, sha256_of_json, sha256_of_path, size_bytes
from edgepress.inspection.earned import earned_precision
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.layer import Inspection
from edgepress.interface import Interface
from edgepress.manifest import Manifest, ModelCard
from edgepress.progress import Progress, silent
from edgepress.runners import litert_runner, onnxruntime_runner
from edgepress.runners.runner import Runner
from edgepress.target import ComputeCapability, Target
from optimize.accuracy.promise import require_layers
from optimize.build_options import BuildOptions, Tf32
from optimize.calibration import GraphCalibration, Ranges, Sample
from optimize.engine_from_onnx import BuiltPlan, engine_from_onnx, tensorrt_rtx
from optimize.improvement import Improvement
from optimize.improvement.bias_correction import correct_biases
from optimize.improvement.onnx_biases import with_biases
from optimize.improvement.sources import NETWORK_OF
from optimize.layer_subset import convolutions_of, is_dense
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.onnx_validity import require_valid_onnx
from optimize.precision import content_of, require_promise
from optimize.recipe import RECIPES, NumberFormat, Part, Recipe, recipe_of_artifact
from optimize.tflite_fp16_from_fp32 import tflite_fp16_from_fp32
from optimize.tflite_int8_from_fp32 import tflite_int8_from_fp32

_LOGGER = logging.getLogger(__name__)

_SUFFIXES = {Format.ONNX: ".onnx", Format.TFLITE: ".tflite", Format.ENGINE: ".plan"}
_EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "litert-quantizer": "litert",
    "ai-edge-litert": "litert",
    "tensorrt-rtx": "tensorrt-rtx",
}

# A plan holds the weights of its source plus kernels. Seen: 1.00 × the source plus 0.3 to 2.5 MB, for
# vgg16-digits and for VGG16, in each precision. INT8 weights kept as FP32 would exceed the bound.
_PLAN_SHARE = (0.9, 1.25)
_PLAN_KERNEL_BYTES = 3 << 20

MIXED = "-mixed"
"""End of the id of an artifact that has only some of its layers quantized."""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One recipe for one target and, for engines, one GPU generation.

    Attributes:
        recipe: What to make.
        target: For what.
        capability: GPU generation of an engine.
        layers: Names of the layers that are quantized, the others being in float; None for all. What is made
            of such an artifact has them, too.
        improvements: What is done to the FP32 network before it is quantized.
    """

    recipe: Recipe
    target: Target
    capability: ComputeCapability | None = None
    layers: frozenset[str] | None = None
    improvements: frozenset[Improvement] = frozenset()

    @property
    def artifact_id(self) -> str:
        """Id of the artifact that the step makes, e.g. "engine-sm86-wf16_af16"."""
        if self.capability is None:
            return self._mixed(self.recipe.artifact_id)
        return self._mixed(self.recipe.artifact_id.replace("-", f"-{self.capability.value}-", 1))

    @property
    def parent_id(self) -> str:
        """Id of the artifact that the step starts from."""
        is_exported = recipe_of_artifact(self.recipe.parent) is None
        return self.recipe.parent if is_exported else self._mixed(self.recipe.parent)

    def _mixed(self, artifact_id: str) -> str:
        return artifact_id if self.layers is None else f"{artifact_id}{MIXED}"

    def with_layers(self, layers: frozenset[str] | None) -> "Step":
        """The same step for these layers."""
        return replace(self, layers=layers)

    @property
    def path(self) -> str:
        """File of the artifact, relative to the manifest's folder."""
        return f"{self.artifact_id}{_SUFFIXES[self.recipe.format]}"

    def has_card(self, manifest: Manifest) -> bool:
        """Whether the card that belongs beside the file is there; true for what has none."""
        return self.capability is None or card_path(manifest.folder / self.path).is_file()

    @property
    def bound_to(self) -> str | None:
        """Name of the target, if the artifact suits some targets only."""
        bound = self.recipe.isas is not None or self.recipe.format is Format.ENGINE
        return self.target.name if bound else None

    def key(self, parent: Artifact, sample: Sample | None) -> str:
        """Hash of everything that the result depends on."""
        chosen = {} if self.layers is None else {"layers": sorted(self.layers)}
        if self.recipe.calibrated_on:
            chosen["improvements"] = sorted(self.improvements)
        return sha256_of_json(
            {
                **chosen,
                "parent": parent.sha256,
                "recipe": self.recipe.name,
                "target": self.bound_to,
                "sample": self._sample_key(sample),
                "versions": versions(self.recipe),
            }
        )

    def _sample_key(self, sample: Sample | None) -> str | None:
        """Hash of what the result takes from calibration."""
        if sample is None or not self.recipe.reads_ranges:
            return None
        # FP16 asks only whether a value overflows, and that is the same by every method.
        return sample.fingerprint if self.recipe.calibrated_on else sample.observed_fingerprint


@dataclass(frozen=True)
class Calibrated:
    """What is known about a step's parent, and what it comes from.

    Attributes:
        graph: Ranges and channel means of the parent.
        sample: The pictures and the method.
        fingerprint: Of the whole table.
        source: The file that was calibrated: the exported one, or an equalized copy.
        preparation: What was done to it, for the provenance.
    """

    graph: GraphCalibration
    sample: Sample
    fingerprint: str
    source: Path
    preparation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranges(self) -> Ranges:
        """What integers are to stand for."""
        return self.graph.ranges


def steps_for(
    recipes: Iterable[Recipe], target: Target, improvements: frozenset[Improvement] = frozenset()
) -> tuple[Step, ...]:
    """The steps for these recipes and for the recipes of their parents, parents first."""
    wanted: set[str] = set()
    for recipe in recipes:
        needed: Recipe | None = recipe
        while needed is not None:
            wanted.add(needed.name)
            needed = recipe_of_artifact(needed.parent)
    found: list[Step] = []
    for recipe in RECIPES:  # the table has parents before children
        if recipe.name not in wanted:
            continue
        if recipe.format is Format.ENGINE:
            found.extend(Step(recipe, target, capability) for capability in target.capabilities)
        else:
            found.append(Step(recipe, target, improvements=improvements))
    return tuple(found)


def versions(recipe: Recipe) -> dict[str, str]:
    """Versions of the packages that make the result.

    Raises:
        MissingRuntimeError: One of them is not installed.
    """
    found = {package: _version(package) for package in recipe.packages}
    return {"edgepress": edgepress.__version__, **found}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingRuntimeError(package, _EXTRAS[package]) from error


def requires(step: Step, manifest: Manifest) -> Artifact:
    """The artifact that the step starts from, every byte of it checked against its SHA-256.

    Raises:
        InputError: The manifest has none, or its file is missing or was changed.
    """
    parent = parent_of(step, manifest)
    manifest.verify(parent)
    return parent


def parent_of(step: Step, manifest: Manifest) -> Artifact:
    """The artifact that the step starts from.

    Raises:
        InputError: The manifest has none, or it is an ONNX model of more than 2 GiB.
    """
    parent = manifest.find(step.parent_id)
    if parent is None:
        name = step.recipe.parent.partition("-")[0]
        raise InputError(
            f"Recipe {step.recipe.name!r} needs {step.recipe.parent}, and {manifest.folder} has none. "
            f"Export the model with --format {name}."
        )
    if parent.format is Format.ONNX and manifest.path_of(parent).is_dir():
        raise InputError(
            f"Recipe {step.recipe.name!r} works on one file, and {parent.id} of {manifest.folder} is a "
            "folder: one ONNX file cannot hold its weights. Take recipes of another format with --recipe."
        )
    return parent


def run(
    step: Step,
    manifest: Manifest,
    key: str,
    calibrated: Calibrated | None,
    progress: Progress = silent,
) -> Artifact:
    """Make the artifact of a step. It is left to the caller to put it into the manifest.

    An engine's card is written once the plan has its place. Until then the former card is there, which the
    plan's SHA-256 does not fit.

    Args:
        step: What to make.
        manifest: Has the parent; as it is on disk.
        key: Of the result, see `Step.key`.
        calibrated: Ranges of the parent; None where there are none.
        progress: Told how much of an engine is built.

    Returns:
        The artifact, whose file is in place and proven.

    Raises:
        InputError: The parent is missing or changed, or a package is missing.
        ProofError: The result did not prove what its name promises. Nothing is left behind.
    """
    parent = requires(step, manifest)
    started_ns = time.perf_counter_ns()
    with manifest.placing(step.path) as temporary:
        source, built = manifest.path_of(parent), None
        if step.capability is not None:
            built = _engine(step.recipe, step.capability, source, temporary, progress)
            made = built.provenance
        else:
            made = apply(step, source, temporary, calibrated)
        artifact = _ensures(step, parent, manifest.model, temporary, _excused(step, made))
    remember_sha256(manifest.folder, artifact.path, artifact.sha256)
    if built is not None:
        card = built.card(artifact.sha256, artifact.size_bytes, parent.sha256, _fingerprint_of(parent))
        write_card(card, manifest.path_of(artifact))
    provenance = {
        **made,
        "versions": versions(step.recipe),
        "wall_ns": time.perf_counter_ns() - started_ns,
    }
    if calibrated is not None and step.recipe.calibrated_on:
        provenance["calibration"] = {"fingerprint": calibrated.fingerprint, **calibrated.sample.to_json()}
        provenance["improvements"] = sorted(step.improvements)
        provenance.update(calibrated.preparation)
    return replace(artifact, key=key, provenance=provenance)


def _engine(
    recipe: Recipe, capability: ComputeCapability, source: Path, temporary: Path, progress: Progress
) -> BuiltPlan:
    tf32 = Tf32.ON if recipe.activations is NumberFormat.TF32 else Tf32.OFF
    return engine_from_onnx(tensorrt_rtx(), source, temporary, capability, BuildOptions(tf32=tf32), progress)


def _fingerprint_of(parent: Artifact) -> str | None:
    """Of the ranges in an INT8 file, which its engine takes over."""
    calibration = parent.provenance.get("calibration")
    return str(calibration["fingerprint"]) if calibration else None


def apply(step: Step, source: Path, temporary: Path, calibrated: Calibrated | None) -> Mapping[str, Any]:
    """Write the file of a step, other than an engine's, which nothing is known about yet.

    Args:
        step: What to make.
        source: File of its parent; unchanged.
        temporary: New file.
        calibrated: Ranges of the parent; None where there are none.

    Returns:
        Provenance.

    Raises:
        InputError: The recipe needs ranges that are missing, or a layer is unknown.
    """
    recipe = step.recipe
    if recipe.name == "tflite_wf16_af32":
        return tflite_fp16_from_fp32(source, temporary)
    if recipe.name == "onnx_wf16_af16":
        return _halved(recipe, source, temporary, calibrated)
    if calibrated is None:
        raise InputError(f"Recipe {recipe.name!r} needs calibration pictures. Name them with --data.")
    layers = step.layers
    if layers is None and recipe.part is Part.DENSE:
        layers = convolutions_of(calibrated.source)
    if Improvement.BIAS_CORRECTION not in step.improvements:
        return _quantized(recipe, calibrated.source, temporary, calibrated.ranges, layers)
    return _corrected(step, temporary, calibrated, layers)


def _corrected(
    step: Step, temporary: Path, calibrated: Calibrated, layers: frozenset[str] | None
) -> Mapping[str, Any]:
    """Quantize a copy whose biases take back what rounding its weights will move."""
    recipe, source = step.recipe, calibrated.source
    with scratch_folder(temporary.parent) as scratch:
        added: tuple[str, ...] = ()
        if recipe.format is Format.ONNX:
            biased = scratch / f"biased-{source.name}"
            added = with_biases(source, biased, layers)
            source = biased if added else source
        corrected = scratch / calibrated.source.name
        with NETWORK_OF[recipe.format](source, corrected) as network:
            names = correct_biases(network, calibrated.graph.channel_means, recipe.weights.levels, layers)
            left = network.layers.keys() & (layers or network.layers.keys()) - set(names)
        if left:
            _LOGGER.info("%s: no bias to correct: %s", step.artifact_id, ", ".join(sorted(left)))
        made = _quantized(recipe, corrected, temporary, calibrated.ranges, layers)
    return {**made, "bias_corrected_layers": list(names), **({"added_biases": list(added)} if added else {})}


def _halved(
    recipe: Recipe, source: Path, temporary: Path, calibrated: Calibrated | None
) -> Mapping[str, Any]:
    if calibrated is None:
        _LOGGER.info(
            "%s: nothing was calibrated, so no activation is held against FP16's 65,504. Ask for an INT8 "
            "recipe with it.",
            recipe.name,
        )
        return onnx_fp16_from_fp32(source, temporary, None)
    # A value that a method clips still has to fit into FP16.
    made = onnx_fp16_from_fp32(calibrated.source, temporary, calibrated.graph.observed)
    return {**made, **calibrated.preparation}


def _quantized(
    recipe: Recipe, source: Path, temporary: Path, ranges: Ranges, layers: frozenset[str] | None
) -> Mapping[str, Any]:
    if recipe.family == "tensorrt":
        return onnx_tensorrt_qdq_from_fp32(source, temporary, ranges, layers=layers, rest=recipe.rest)
    if recipe.format is Format.TFLITE:
        return tflite_int8_from_fp32(recipe, source, temporary, ranges, layers=layers)
    return onnx_qdq_from_fp32(recipe, source, temporary, ranges, layers=layers)


def _excused(step: Step, made: Mapping[str, Any]) -> dict[str, str]:
    """The nodes that are left in float, with the reason, out of a conversion's provenance."""
    if step.layers is not None:
        return dict.fromkeys(made.get("float_layers", []), "left in float for the accuracy budget")
    islands = made.get("fp32_islands", [])
    return {node: island["reason"] for island in islands for node in island["nodes"]}


def _ensures(
    step: Step, parent: Artifact, model: ModelCard, path: Path, excused: Mapping[str, str] = _NONE
) -> Artifact:
    """Prove the produced file and describe it; `key` and `provenance` are filled in by the caller."""
    recipe, content = step.recipe, parent.content
    if recipe.format is Format.ENGINE:
        inputs, outputs, shares = _infer_engine(step, parent, path)
    else:
        inspection = inspect_onnx(path) if recipe.format is Format.ONNX else inspect_tflite(path)
        if step.layers is None:
            require_promise(recipe, inspection, excused)
        else:
            require_layers(recipe, inspection, step.layers)
        _require_signature(recipe, parent, inspection)
        if recipe.format is Format.ONNX:
            left = _left_in_float(step, inspection, excused)
            require_valid_onnx(path, qdq_for_tensorrt=recipe.family == "tensorrt", left_in_float=left)
        _require_finite_logits(recipe, model, parent.interface, path)
        inputs, outputs = inspection.inputs, inspection.outputs
        shares, content = inspection.shares(Proof.INSPECTED), content_of(inspection, recipe, excused)
    return Artifact(
        id=step.artifact_id,
        path=step.path,
        format=recipe.format,
        precision=earned_precision(shares),
        runtimes=recipe.runtimes,
        inputs=inputs,
        outputs=outputs,
        sha256=sha256_of_path(path),
        size_bytes=size_bytes(path),
        key="",
        recipe=recipe.name,
        parent=parent.id,
        target=step.bound_to,
        shares=shares,
        content=content,
        interface=replace(parent.interface, batch=inputs[0].shape[0]),
    )


def _left_in_float(step: Step, inspection: Inspection, excused: Mapping[str, str]) -> frozenset[str]:
    """The layers that the step itself does not quantize."""
    if step.layers is not None:
        return frozenset(excused)
    return frozenset(
        layer.name
        for layer in inspection.layers
        if step.recipe.promised(dense=is_dense(layer.kind))[1] is not Precision.INT8
    )


def _infer_engine(
    step: Step, parent: Artifact, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], PrecisionShares]:
    """What an engine holds, concluded from its source and its size: it opens on a GPU only."""
    low, high = (round(share * parent.size_bytes) for share in _PLAN_SHARE)
    size = size_bytes(path)
    if not low <= size <= high + _PLAN_KERNEL_BYTES:
        raise ProofError(
            f"{step.artifact_id}: the plan has {size} bytes; from a source of {parent.size_bytes} wanted "
            f"{low} to {high + _PLAN_KERNEL_BYTES}, so its weights are not in the source's precision. "
            "Leave this recipe out for this model."
        )
    if parent.shares is not None:
        shares = replace(parent.shares, proof=Proof.INFERRED)
    else:
        everything = {"int8": 0.0, "fp16": 0.0, "fp32": 1.0}  # an exported parent is FP32 throughout
        shares = PrecisionShares(everything, everything, 0, 0, Proof.INFERRED)
    return _with_batch(parent.inputs), _with_batch(parent.outputs), shares


def _with_batch(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The signature of an engine: an open batch has become 1."""
    return tuple(replace(spec, shape=(spec.shape[0] or 1, *spec.shape[1:])) for spec in specs)


def _require_signature(recipe: Recipe, parent: Artifact, inspection: Inspection) -> None:
    is_integer = recipe.activations.precision is Precision.INT8
    integer_io = recipe.format is Format.TFLITE and is_integer and recipe.part is not Part.IO
    for before, after in zip(
        (*parent.inputs, *parent.outputs), (*inspection.inputs, *inspection.outputs), strict=True
    ):
        dtype = (
            "int8" if integer_io and before.dtype == "float32" else before.dtype
        )  # pixels stay as they are
        if (after.name, after.shape, after.dtype) != (before.name, before.shape, dtype):
            raise ProofError(
                f"{recipe.name}: wanted {before.name} {dtype} {before.shape}, got {after.name} {after.dtype} "
                f"{after.shape}. Leave this recipe out for this model."
            )


def _require_finite_logits(recipe: Recipe, model: ModelCard, interface: Interface, path: Path) -> None:
    """Run the file once on the CPU, on noise that went through the model's own preprocessing."""
    preprocessing = model.preprocessing
    shape = (1, preprocessing.height, preprocessing.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    runner: Runner
    if recipe.format is Format.ONNX:
        runner = onnxruntime_runner.on_cpu(path, 0)
    else:
        runner = litert_runner.on_cpu(path, 0)
    with runner:
        scores = interface.run(runner.infer, interface.feed(noise, preprocessing))
    logits = interface.logits(scores, model.activation)
    if logits.shape != (1, model.class_count) or not np.all(np.isfinite(logits)):
        raise ProofError(
            f"{recipe.name}: wanted {model.class_count} finite logits, got {logits.shape} with "
            f"{int(np.sum(~np.isfinite(logits)))} that are not finite. Leave this recipe out for this model."
        )
