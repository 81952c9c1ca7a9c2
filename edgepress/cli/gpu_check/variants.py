"""What is built and run, and how far its logits may be from FP32's."""

from dataclasses import dataclass

from edgepress.artifact import Precision
from optimize.build_options import Tf32
from optimize.recipe import ONNX_FP32


@dataclass(frozen=True)
class Tolerance:
    """How far logits may be from those of FP32 on the CPU.

    Attributes:
        least_db: Logit SNR on the golden pictures that have structure, in dB. Noise of that size must also
            explain each top class that is another one.
        reason: Why so much.
    """

    least_db: float
    reason: str


_FP32 = Tolerance(
    85.0,
    "the order of sums differs, and fast convolutions round a little more (CPU runtimes leave 109 dB); TF32 "
    "that is on by mistake leaves about 65",
)
_ELEVEN_BITS = Tolerance(45.0, "11 bits leave 70 to 75 dB; one layer off by 2 % leaves 34 dB")
_INT8 = Tolerance(
    15.0,
    "36 to 43 dB are usual; red and blue swapped leave 12, a wrong order of the flattened values leaves 1",
)


@dataclass(frozen=True)
class Variant:
    """One engine.

    Attributes:
        name: In the report.
        artifact: Id of the ONNX artifact that it is built from; its precisions are the engine's.
        precision: Of most of it.
        tf32: Whether the builder may use it.
        tolerance: Of its logits.
        recipe: That makes the artifact; None where it is exported.
    """

    name: str
    artifact: str
    precision: Precision
    tf32: Tf32
    tolerance: Tolerance
    recipe: str | None


FP32 = Variant("fp32", ONNX_FP32, Precision.FP32, Tf32.OFF, _FP32, None)
VARIANTS = (
    FP32,
    Variant("tf32", ONNX_FP32, Precision.FP32, Tf32.ON, _ELEVEN_BITS, None),
    Variant("fp16", "onnx-wf16_af16", Precision.FP16, Tf32.OFF, _ELEVEN_BITS, "onnx_wf16_af16"),
    Variant("int8", "tensorrt-static_wi8_ai8", Precision.INT8, Tf32.OFF, _INT8, "tensorrt_static_wi8_ai8"),
    Variant(
        "int8-convolutions-fp16-dense",
        "tensorrt-static_wi8_ai8_densef16",
        Precision.MIXED,
        Tf32.OFF,
        _INT8,
        "tensorrt_static_wi8_ai8_densef16",
    ),
    Variant(
        "int8-in-fp16",
        "tensorrt-static_wi8_ai8_restf16",
        Precision.INT8,
        Tf32.OFF,
        _INT8,
        "tensorrt_static_wi8_ai8_restf16",
    ),
)
