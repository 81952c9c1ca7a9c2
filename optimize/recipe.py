"""Recipes: what `optimize` can make, as data. The name says everything and can be decoded.

    <family>_[static_]w<weights>_a<activations>

    family       onnx      ONNX for ONNX Runtime (Q/DQ also at the outputs, int32 bias)
                 tensorrt  ONNX for TensorRT (Q/DQ only at the inputs of weighted layers, float bias)
                 tflite    TFLite for LiteRT
                 engine    TensorRT-RTX engine, one file per compute capability
    static       activation ranges are fixed by calibration
    weights,     f32, f16  floating point
    activations  i8, u8    8-bit integer, signed or unsigned
                 i7        signed 7-bit values in 8-bit storage, so that 16-bit sums cannot saturate

All integer weights are quantized per output channel, activations per tensor.
"""

from dataclasses import dataclass
from enum import Enum

from edgepress.artifact import Format, Precision, Runtime
from edgepress.errors import InputError, unknown_choice
from edgepress.machine import Isa
from edgepress.target import Target


class NumberFormat(str, Enum):
    """How a number is represented; the value is the spelling in a recipe's name."""

    F32 = "f32"
    F16 = "f16"
    I8 = "i8"
    U8 = "u8"
    I7 = "i7"

    @property
    def precision(self) -> Precision:
        """The precision class of this format."""
        if self is NumberFormat.F32:
            return Precision.FP32
        return Precision.FP16 if self is NumberFormat.F16 else Precision.INT8


class Granularity(str, Enum):
    """Over how much of a weight tensor one scale holds."""

    NONE = "none"  # floating point
    PER_CHANNEL = "per-channel"


@dataclass(frozen=True)
class Recipe:
    """One way to make an optimized artifact.

    Attributes:
        name: Decodable name, see the module's docstring.
        parent: Id of the artifact that it starts from.
        format: On-disk form of the result.
        weights: How weights are stored.
        activations: How activations are represented while computing.
        runtimes: What executes the result, the main one first.
        packages: Distributions whose version changes the result.
        isas: The instruction sets that it suits; None if the CPU does not matter.
        calibrated_on: Id of the exported FP32 artifact whose activation ranges it needs, or None.
    """

    name: str
    parent: str
    format: Format
    weights: NumberFormat
    activations: NumberFormat
    runtimes: tuple[Runtime, ...]
    packages: tuple[str, ...]
    isas: frozenset[Isa] | None = None
    calibrated_on: str | None = None

    @property
    def granularity(self) -> Granularity:
        """Granularity of the weight scales."""
        integer = self.weights.precision is Precision.INT8
        return Granularity.PER_CHANNEL if integer else Granularity.NONE

    @property
    def reads_ranges(self) -> bool:
        """Whether activation ranges change the result: they quantize it, or check its FP16 for overflow."""
        in_onnx = self.format is Format.ONNX
        return self.calibrated_on is not None or (in_onnx and self.activations is NumberFormat.F16)

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.name.partition("_")[0]

    @property
    def artifact_id(self) -> str:
        """Id of the artifact it makes (engines have the compute capability in theirs, see Step)."""
        return self.name.replace("_", "-", 1)


ONNX_FP32 = "onnx-fp32"
TFLITE_FP32 = "tflite-fp32"

_ORT = (Runtime.ONNXRUNTIME,)
_ONNX_ANYWHERE = (Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT)
# Not ONNX Runtime on the CPU: there it computes in FP32 with rounding added, slower than FP32 itself.
_TENSORRT_ONNX = (
    Runtime.ONNXRUNTIME_TENSORRT,
    Runtime.TENSORRT,
    Runtime.TENSORRT_RTX,
    Runtime.ONNXRUNTIME_EMULATION,
)
_LITERT = (Runtime.LITERT,)
_RTX = (Runtime.TENSORRT_RTX,)

# x86 without VNNI adds pairs of 8×8-bit products in 16 bits (VPMADDUBSW), which saturates. Measured on
# AVX2 with ONNX Runtime, full-size VGG16 with real weights, 100 photos, against FP32: S8S8 17.4 dB logit SNR
# and 99 % agreement; U8S8 with 7-bit weights 36.8 dB and 100 %. VNNI and ARM add in 32 bits and keep all
# 8 bits.
_SATURATING = frozenset({Isa.X86_AVX2, Isa.X86_AVX512})
_VNNI = frozenset({Isa.X86_VNNI})
_SIGNED = frozenset({Isa.ARM64, Isa.ARM64_DOT, Isa.OTHER})

_F32, _F16, _I8, _U8, _I7 = NumberFormat
_QUANTIZER = ("onnx", "onnxruntime")

RECIPES = (
    Recipe("onnx_wf16_af16", ONNX_FP32, Format.ONNX, _F16, _F16, _ONNX_ANYWHERE, ("onnx",)),
    Recipe("onnx_static_wi7_au8", ONNX_FP32, Format.ONNX, _I7, _U8, _ORT, _QUANTIZER, _SATURATING, ONNX_FP32),
    Recipe("onnx_static_wi8_au8", ONNX_FP32, Format.ONNX, _I8, _U8, _ORT, _QUANTIZER, _VNNI, ONNX_FP32),
    Recipe("onnx_static_wi8_ai8", ONNX_FP32, Format.ONNX, _I8, _I8, _ORT, _QUANTIZER, _SIGNED, ONNX_FP32),
    Recipe(
        "tensorrt_static_wi8_ai8",
        ONNX_FP32,
        Format.ONNX,
        _I8,
        _I8,
        _TENSORRT_ONNX,
        _QUANTIZER,
        calibrated_on=ONNX_FP32,
    ),
    Recipe("tflite_wf16_af32", TFLITE_FP32, Format.TFLITE, _F16, _F32, _LITERT, ("litert-quantizer",)),
    Recipe(
        "tflite_static_wi8_ai8",
        TFLITE_FP32,
        Format.TFLITE,
        _I8,
        _I8,
        _LITERT,
        ("litert-quantizer", "ai-edge-litert"),
        calibrated_on=TFLITE_FP32,
    ),
    Recipe("engine_wf32_af32", ONNX_FP32, Format.ENGINE, _F32, _F32, _RTX, ("tensorrt-rtx",)),
    Recipe("engine_wf16_af16", "onnx-wf16_af16", Format.ENGINE, _F16, _F16, _RTX, ("tensorrt-rtx",)),
    Recipe(
        "engine_static_wi8_ai8",
        "tensorrt-static_wi8_ai8",
        Format.ENGINE,
        _I8,
        _I8,
        _RTX,
        ("tensorrt-rtx",),
    ),
)


def recipe_named(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: There is none; the message suggests the nearest.
    """
    found = next((recipe for recipe in RECIPES if recipe.name == name), None)
    if found is None:
        raise unknown_choice("recipe", name, [recipe.name for recipe in RECIPES])
    return found


def recipe_of_artifact(artifact_id: str) -> Recipe | None:
    """The recipe that makes the artifact of that id; None for exported ones."""
    return next((recipe for recipe in RECIPES if recipe.artifact_id == artifact_id), None)


def suits(recipe: Recipe, target: Target) -> bool:
    """Whether the target can run the result well: right instruction set, and a GPU for engines."""
    if recipe.format is Format.ENGINE and not target.capabilities:
        return False
    return recipe.isas is None or target.isa in recipe.isas


def recipes_for(target: Target) -> tuple[Recipe, ...]:
    """All recipes that suit the target, in the order of the table (parents before children)."""
    return tuple(recipe for recipe in RECIPES if suits(recipe, target))


def require_suits(recipe: Recipe, target: Target) -> None:
    """Refuse a recipe that the target cannot run well.

    Raises:
        InputError: It names the recipe that suits the target instead.
    """
    if suits(recipe, target):
        return
    if recipe.format is Format.ENGINE:
        raise InputError(
            f"Recipe {recipe.name!r} builds engines for NVIDIA GPUs that can be built for here, and target "
            f"{target.name!r} has none. Leave the recipe out, or choose another --target."
        )
    instead = next(r.name for r in recipes_for(target) if r.isas is not None)
    raise InputError(
        f"Recipe {recipe.name!r} does not suit target {target.name!r} ({target.isa.value}): it would lose "
        f"accuracy or speed there. Use --recipe {instead}, or choose another --target."
    )
