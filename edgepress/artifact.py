"""Artifact: one model file (or SavedModel folder), what it is, and how it came to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from edgepress.interface import PLAIN, Interface


class Format(str, Enum):
    """On-disk form of a model."""

    SAVED_MODEL = "saved_model"
    ONNX = "onnx"
    TFLITE = "tflite"
    ENGINE = "engine"


class Precision(str, Enum):
    """Precision that the content of an artifact has earned (see `PrecisionShares`)."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    MIXED = "mixed"


class Runtime(str, Enum):
    """Library that executes an artifact."""

    TENSORFLOW = "tensorflow"
    ONNXRUNTIME = "onnxruntime"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    ONNXRUNTIME_EMULATION = (
        "onnxruntime-emulation"  # Q/DQ computed in float: TensorRT's numbers, not its speed
    )
    LITERT = "litert"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


ONNX_GRAPH = "model.onnx"


def onnx_graph_of(path: Path) -> Path:
    """The file that a runtime opens: the artifact itself, or the graph in its folder.

    One ONNX file holds less than 2 GiB. A larger model is a folder of `model.onnx` and `model.onnx.data`.
    """
    return path / ONNX_GRAPH if path.is_dir() else path


class Device(str, Enum):
    """Where an artifact is executed."""

    CPU = "cpu"
    CUDA = "cuda"


class Proof(str, Enum):
    """How the precision of an artifact is known."""

    INSPECTED = "inspected"  # read out of the file itself
    INFERRED = "inferred"  # from the source file and the size: the file cannot be opened here


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of a tensor: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: As the runtime knows it.
        shape: None stands for a dynamic dimension (the batch).
        dtype: numpy name, e.g. "float32".
        quantization: Set for integer inputs and outputs.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None


@dataclass(frozen=True)
class PrecisionShares:
    """What the weighted layers of an artifact really are, by share in [0, 1] of parameters and MACs.

    Attributes:
        parameters: Share of weights stored in each precision; the keys are "int8", "fp16", "fp32".
        macs: Share of multiply-accumulates whose operands are in each precision.
        casts: Number of Cast nodes (format conversions) left in the graph.
        transposes: Number of Transpose nodes left in the graph.
        proof: How this is known.
    """

    parameters: Mapping[str, float]
    macs: Mapping[str, float]
    casts: int
    transposes: int
    proof: Proof


@dataclass(frozen=True)
class LeftBehind:
    """A layer that is not in the precision that the recipe is called after.

    Attributes:
        layer: Its name.
        stored: Precision of its weights.
        computed: Precision of the operands that are multiplied.
        reason: Why it was left, in words.
    """

    layer: str
    stored: Precision
    computed: Precision
    reason: str


@dataclass(frozen=True)
class Content:
    """What `PrecisionShares` does not tell about an optimized artifact.

    Attributes:
        bytes: Share in [0, 1] of the stored bytes of weights and biases by the precision in which they are
            stored; the keys are "int8", "fp16", "fp32". An int32 bias counts as FP32.
        reformats: Number of conversions between integers and floating point (Q/DQ) that no 8-bit layer takes
            in: they cost time.
        left_behind: Layers in another precision than the recipe is called after, in graph order.
    """

    bytes: Mapping[str, float]
    reformats: int
    left_behind: tuple[LeftBehind, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """One model file (or SavedModel folder), and how it came to be.

    Attributes:
        id: Unique in a manifest, e.g. "onnx-fp32".
        path: Relative to the manifest's folder, with forward slashes.
        format: On-disk form.
        precision: What the content has earned, never what was asked for.
        runtimes: The runtimes that this file was made for, the first being the main one.
        inputs: Input signature.
        outputs: Output signature; the first output holds the scores of the classes.
        sha256: Of the content (see `edgepress.files.sha256_of_path`).
        size_bytes: Sum over all files.
        key: Hash of everything that the content depends on: equal key, nothing to rebuild.
        recipe: Name of the recipe; None for exported (not optimized) artifacts.
        parent: Id of the artifact it was made from; None for exported ones.
        target: Name of the target it was made for; None if it fits any.
        shares: Precision proof.
        content: What else was found in it; None for exported ones.
        interface: What the input holds, and what the first output does.
        provenance: Versions, options, seed, calibration fingerprint, wall time: whatever made it.
    """

    id: str
    path: str
    format: Format
    precision: Precision
    runtimes: tuple[Runtime, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    size_bytes: int
    key: str
    recipe: str | None = None
    parent: str | None = None
    target: str | None = None
    shares: PrecisionShares | None = None
    content: Content | None = None
    interface: Interface = PLAIN
    provenance: Mapping[str, Any] = field(default_factory=dict)
