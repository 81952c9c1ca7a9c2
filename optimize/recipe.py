"""Recipes: what `optimize` can make, as data. The name says everything and can be decoded.

    <family>_[static_]w<weights>_a<activations>[_<part><format>]

    family       onnx      ONNX for ONNX Runtime (Q/DQ also at the outputs, int32 bias)
                 tensorrt  ONNX for TensorRT (Q/DQ only at the inputs of weighted layers, float bias)
                 tflite    TFLite for LiteRT
                 engine    TensorRT-RTX engine, one file per compute capability
    static       activation ranges are fixed by calibration
    weights,     f32, f16  floating point
    activations  tf32      FP32 whose products are computed with 10 bits of mantissa on tensor cores
                 i8, u8    8-bit integer, signed or unsigned
                 i7        signed 7-bit values in 8-bit storage, so that 16-bit sums cannot saturate
    part         dense     the dense layers are in this format, not integers, and so is what has no weights
                 rest      what has no integers (biases, poolings, scales) is in this format, not in FP32
                 io        the model's input and output are in this format, not in that of the activations

All integer weights are quantized per output channel, activations per tensor.

f16 is FP16 wherever FP16 can hold the values. What exceeds 65,504 in calibration stays in FP32, is named in
the artifact, and counts as FP32 in its shares: beyond 1 % of the weights or MACs its precision is `mixed`,
and beyond half of them the recipe fails.
"""

from dataclasses import dataclass, replace
from enum import Enum

from edgepress.artifact import Format, Precision, Runtime
from edgepress.errors import InputError, unknown_choice
from edgepress.isa import Isa
from edgepress.target import Target


class NumberFormat(str, Enum):
    """How a number is represented; the value is the spelling in a recipe's name."""

    F32 = "f32"
    F16 = "f16"
    I8 = "i8"
    U8 = "u8"
    I7 = "i7"
    TF32 = "tf32"

    @property
    def precision(self) -> Precision:
        """The precision class of this format: of what is stored, for TF32."""
        if self in {NumberFormat.F32, NumberFormat.TF32}:
            return Precision.FP32
        return Precision.FP16 if self is NumberFormat.F16 else Precision.INT8

    @property
    def levels(self) -> float:
        """What the largest magnitude of a weight is stored as, from the zero point on; for integers only."""
        return {NumberFormat.I8: 127, NumberFormat.I7: 64, NumberFormat.U8: 127.5}[self]


_SIZE_SHARES = {Precision.FP32: 1.0, Precision.FP16: 0.5, Precision.INT8: 0.3}


class Granularity(str, Enum):
    """Over how much of a weight tensor one scale holds."""

    NONE = "none"  # floating point
    PER_CHANNEL = "per-channel"


class Part(str, Enum):
    """What a recipe treats apart; the value is the spelling in its name."""

    DENSE = "dense"  # matrix products, and what has no weights
    REST = "rest"  # what has no integers
    IO = "io"  # input and output of the model


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
        part: What is in floating point, beside what weights and activations say; None for nothing.
        part_format: Format of that part.
        default: Whether it is made where no recipe is named.
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
    part: Part | None = None
    part_format: NumberFormat = NumberFormat.F32
    default: bool = True

    @property
    def rest(self) -> NumberFormat:
        """Format of what has no integers, in an artifact with integers."""
        return NumberFormat.F32 if self.part in {None, Part.IO} else self.part_format

    def promised(self, *, dense: bool) -> tuple[Precision, Precision]:
        """Precision of the stored weights and of the operands of a layer: a dense one, or a convolution."""
        if dense and self.part is Part.DENSE:
            return self.part_format.precision, self.part_format.precision
        return self.weights.precision, self.activations.precision

    @property
    def size_share(self) -> float:
        """Size of the result by that of its source in FP32, at most."""
        dense = self.part_format if self.part is Part.DENSE else self.weights
        return max(_SIZE_SHARES[self.weights.precision], _SIZE_SHARES[dense.precision])

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
# 8 bits. Unsigned weights (U8U8) did not saturate (same model and CPU, 30 photos: 38.2 dB, 7-bit weights
# 36.4 dB). They are for what reads no signed weights, and for checking the others: no target has them by
# default.
_SATURATING = frozenset({Isa.X86_AVX2, Isa.X86_AVX512})
_VNNI = frozenset({Isa.X86_VNNI})
_SIGNED = frozenset({Isa.ARM64, Isa.ARM64_DOT, Isa.OTHER})

_F32, _F16, _I8, _U8, _I7, _TF32 = NumberFormat
_QUANTIZER = ("onnx", "onnxruntime")  # which quantizes, or computes the ranges

_LITERT_QUANTIZER = ("litert-quantizer", "ai-edge-litert")
_BUILDER = ("tensorrt-rtx",)

_TENSORRT_INT8 = Recipe(
    "tensorrt_static_wi8_ai8", ONNX_FP32, Format.ONNX, _I8, _I8, _TENSORRT_ONNX, _QUANTIZER, None, ONNX_FP32
)
_TFLITE_INT8 = Recipe(
    "tflite_static_wi8_ai8",
    TFLITE_FP32,
    Format.TFLITE,
    _I8,
    _I8,
    _LITERT,
    _LITERT_QUANTIZER,
    None,
    TFLITE_FP32,
)
_ENGINE_INT8 = Recipe(
    "engine_static_wi8_ai8", "tensorrt-static_wi8_ai8", Format.ENGINE, _I8, _I8, _RTX, _BUILDER
)


def _on_request(recipe: Recipe, part: Part, part_format: NumberFormat) -> Recipe:
    """The recipe with a part in another format, which is made only where its name is given."""
    suffix = f"_{part.value}{part_format.value}"
    parent = f"{recipe.parent}{suffix}" if recipe.format is Format.ENGINE else recipe.parent
    return replace(
        recipe, name=recipe.name + suffix, parent=parent, part=part, part_format=part_format, default=False
    )


RECIPES = (
    Recipe("onnx_wf16_af16", ONNX_FP32, Format.ONNX, _F16, _F16, _ONNX_ANYWHERE, ("onnx",)),
    Recipe("onnx_static_wi7_au8", ONNX_FP32, Format.ONNX, _I7, _U8, _ORT, _QUANTIZER, _SATURATING, ONNX_FP32),
    Recipe("onnx_static_wi8_au8", ONNX_FP32, Format.ONNX, _I8, _U8, _ORT, _QUANTIZER, _VNNI, ONNX_FP32),
    Recipe("onnx_static_wi8_ai8", ONNX_FP32, Format.ONNX, _I8, _I8, _ORT, _QUANTIZER, _SIGNED, ONNX_FP32),
    Recipe(
        "onnx_static_wu8_au8",
        ONNX_FP32,
        Format.ONNX,
        _U8,
        _U8,
        _ORT,
        _QUANTIZER,
        calibrated_on=ONNX_FP32,
        default=False,
    ),
    _TENSORRT_INT8,
    _on_request(_TENSORRT_INT8, Part.DENSE, _F16),
    _on_request(_TENSORRT_INT8, Part.REST, _F16),
    Recipe("tflite_wf16_af32", TFLITE_FP32, Format.TFLITE, _F16, _F32, _LITERT, ("litert-quantizer",)),
    _TFLITE_INT8,
    _on_request(_TFLITE_INT8, Part.IO, _F32),
    Recipe("engine_wf32_af32", ONNX_FP32, Format.ENGINE, _F32, _F32, _RTX, _BUILDER),
    Recipe("engine_wf32_atf32", ONNX_FP32, Format.ENGINE, _F32, _TF32, _RTX, _BUILDER, default=False),
    Recipe("engine_wf16_af16", "onnx-wf16_af16", Format.ENGINE, _F16, _F16, _RTX, _BUILDER),
    _ENGINE_INT8,
    _on_request(_ENGINE_INT8, Part.DENSE, _F16),
    _on_request(_ENGINE_INT8, Part.REST, _F16),
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
    """What is made by default for the target, in the order of the table (parents before children)."""
    return tuple(recipe for recipe in RECIPES if recipe.default and suits(recipe, target))


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
