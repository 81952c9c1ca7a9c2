"""What a TensorRT engine is built with, and what a version of TensorRT refuses of it in time."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType

from edgepress.engine_card import BatchRange, HardwareCompatibility
from edgepress.errors import InputError
from edgepress.tensorrt_flavour import Feature, has, require

MOST_OPTIMIZATION = 5


class Tf32(Enum):
    """Whether FP32 products may be computed with 10 bits of mantissa on tensor cores (Ampere and later)."""

    OFF = "off"
    ON = "on"


class VersionCompatibility(Enum):
    """Which TensorRT runs the plan."""

    EXACT = "exact"  # the version that built it
    LATER = "later"  # that one and later ones; a bigger plan, with a runtime in it


class WeightsInPlan(Enum):
    """Whether the plan has its weights for good."""

    FIXED = "fixed"
    REFITTABLE = "refittable"  # they can be exchanged for others
    STRIPPED = "stripped"  # they are left out, and come from the ONNX file before the first run


class LayerDetail(Enum):
    """What an inspector can tell of the plan; the value is TensorRT's name for it."""

    NAMES = "LAYER_NAMES_ONLY"
    EVERYTHING = "DETAILED"  # precisions and formats too


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built. Its precision is not among them: that is the ONNX file's.

    Attributes:
        tf32: Of products in FP32.
        batch: That the plan takes, for a graph with an open batch; None for the graph's own, or 1.
        workspace_bytes: Most device memory that a layer's kernels may use; None for all there is.
        optimization_level: 0 (fast to build) to 5 (fast to run); None for TensorRT's own default, 3.
        timing_cache: Folder in which timings of kernels are kept between builds, one file for each TensorRT
            version and GPU; None for none.
        hardware: On which GPUs beside its own the plan runs.
        versions: Which TensorRT runs the plan.
        weights: Whether the plan has them.
        detail: What an inspector can tell of the plan.
    """

    tf32: Tf32 = Tf32.OFF
    batch: BatchRange | None = None
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    hardware: HardwareCompatibility = HardwareCompatibility.NONE
    versions: VersionCompatibility = VersionCompatibility.EXACT
    weights: WeightsInPlan = WeightsInPlan.FIXED
    detail: LayerDetail = LayerDetail.EVERYTHING


PLAIN_BUILD = BuildOptions()

_LEAVE_IT_OUT = "Leave it out, or build with a TensorRT that has it."
_HARDWARE = {
    HardwareCompatibility.AMPERE_PLUS: Feature.HARDWARE_AMPERE_PLUS,
    HardwareCompatibility.SAME_COMPUTE_CAPABILITY: Feature.HARDWARE_SAME_CAPABILITY,
}
_WEIGHTS = {WeightsInPlan.REFITTABLE: Feature.REFIT, WeightsInPlan.STRIPPED: Feature.STRIPPED_PLAN}


def require_possible(trt: ModuleType, options: BuildOptions) -> None:
    """Refuse what cannot be built, before anything is.

    Raises:
        InputError: A value is out of its range, or this TensorRT has no such option.
    """
    for feature in _features(options):
        require(trt, feature, _LEAVE_IT_OUT)
    level, batch, workspace = options.optimization_level, options.batch, options.workspace_bytes
    if level is not None and not 0 <= level <= MOST_OPTIMIZATION:
        raise InputError(f"The optimization level is {level}, wanted 0 to {MOST_OPTIMIZATION}.")
    if workspace is not None and workspace < 1:
        raise InputError(f"The workspace is limited to {workspace} bytes, wanted at least 1.")
    if batch is not None and not 1 <= batch.least <= batch.usual <= batch.most:
        raise InputError(
            f"The batch is {batch.least} to {batch.most}, tuned for {batch.usual}: wanted 1 ≤ least ≤ usual "
            "≤ most. Give them in this order."
        )


def _features(options: BuildOptions) -> list[Feature]:
    wanted = [
        _HARDWARE.get(options.hardware),
        _WEIGHTS.get(options.weights),
        Feature.VERSION_COMPATIBLE if options.versions is VersionCompatibility.LATER else None,
        Feature.TIMING_CACHE if options.timing_cache is not None else None,
    ]
    return [feature for feature in wanted if feature is not None]


def flags_of(options: BuildOptions) -> frozenset[str]:
    """Names of the builder's flags that are set; TF32, which is set by default, is cleared where missing."""
    names: set[str] = set()
    if options.tf32 is Tf32.ON:
        names.add("TF32")
    if options.versions is VersionCompatibility.LATER:
        names.add("VERSION_COMPATIBLE")
    if options.weights is WeightsInPlan.REFITTABLE:
        names.add("REFIT")
    if options.weights is WeightsInPlan.STRIPPED:
        names |= {"STRIP_PLAN", "REFIT_IDENTICAL"}
    return frozenset(names)


def builds_without_gpu(trt: ModuleType) -> bool:
    """Whether this TensorRT builds for named compute capabilities, with no GPU."""
    return has(trt, Feature.BUILDS_WITHOUT_GPU)
