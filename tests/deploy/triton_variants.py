"""Every kind of configuration that a bundle may write, for the tests that ask something of all of them."""

from collections.abc import Mapping
from typing import Any

from deploy.triton.config import (
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    Serving,
    TritonModel,
    triton_model_of,
)
from edgepress.artifact import Artifact, Format, Precision, Runtime, TensorSpec
from edgepress.interface import Interface, Layout, Pixels

HOSTILE = 'in"put\\ \n\t{ [é]: 1 } # \x7f'


def artifact(**changes: Any) -> Artifact:
    """An ONNX file with a free batch."""
    values: dict[str, Any] = {
        "id": "onnx-fp32",
        "path": "onnx-fp32.onnx",
        "format": Format.ONNX,
        "precision": Precision.FP32,
        "runtimes": (Runtime.ONNXRUNTIME,),
        "inputs": (TensorSpec("images", (None, 8, 8, 3), "float32"),),
        "outputs": (TensorSpec("logits", (None, 3), "float32"),),
        "sha256": "5eed" * 16,
        "size_bytes": 1,
        "key": "k",
    }
    return Artifact(**{**values, **changes})


def plan(**changes: Any) -> Artifact:
    """A TensorRT plan with a fixed batch of 4."""
    values: dict[str, Any] = {
        "format": Format.ENGINE,
        "runtimes": (Runtime.TENSORRT,),
        "inputs": (TensorSpec("images", (4, 8, 8, 3), "float32"),),
        "outputs": (TensorSpec("logits", (4, 3), "float32"),),
        "interface": Interface(batch=4),
    }
    return artifact(**{**values, **changes})


GPU = Serving(instance_groups=(InstanceGroup(InstanceKind.GPU, 2, (0, 1)), InstanceGroup(InstanceKind.AUTO)))
BATCHING = Serving(
    max_batch_size=16, dynamic_batching=DynamicBatching((4, 16), 250), threads=2, warm_up=(1, 16)
)
RGB = Interface(Layout.NCHW, Pixels.RGB)


def variants() -> Mapping[str, TritonModel]:
    """By what is special of it."""
    rgb = artifact(interface=RGB, inputs=(TensorSpec("images", (None, 3, 8, 8), "uint8"),))
    types = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")
    all_types = artifact(
        outputs=tuple(TensorSpec(f"of_{dtype}", (None, 3), dtype) for dtype in types),
    )
    return {
        "plain": triton_model_of(artifact(), "small"),
        "labels": triton_model_of(artifact(), "small", label_file="labels.txt"),
        "batching": triton_model_of(artifact(), "small", BATCHING),
        "batching as it comes": triton_model_of(
            artifact(), "small", Serving(dynamic_batching=DynamicBatching())
        ),
        "gpu": triton_model_of(artifact(), "small", GPU),
        "several versions": triton_model_of(artifact(), "small", Serving(versions=(1, 3))),
        "plan": triton_model_of(
            plan(), "small-plan", Serving(warm_up=(1,), instance_groups=GPU.instance_groups)
        ),
        "rgb": triton_model_of(rgb, "small.rgb"),
        "fixed batch": triton_model_of(
            artifact(
                inputs=(TensorSpec("images", (1, 8, 8, 3), "float32"),),
                outputs=(TensorSpec("logits", (1, 3), "float32"),),
            ),
            "small",
            Serving(warm_up=(1,)),
        ),
        "several outputs": triton_model_of(
            artifact(outputs=(*artifact().outputs, TensorSpec("score", (None,), "float32"))), "small"
        ),
        "all types": triton_model_of(all_types, "small"),
        "free sides": triton_model_of(
            artifact(inputs=(TensorSpec("images", (None, None, None, 3), "float32"),)),
            "small",
            Serving(warm_up=(8,)),
        ),
        "hostile names": triton_model_of(
            artifact(inputs=(TensorSpec(HOSTILE, (None, 8, 8, 3), "float32"),)), "_", Serving(warm_up=(1,))
        ),
    }
