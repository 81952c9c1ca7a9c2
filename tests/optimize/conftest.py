"""A small ONNX classifier without TensorFlow, and a folder that has it as its exported artifact."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Artifact, Format, Precision, Runtime, TensorSpec
from edgepress.files import sha256_of_path, size_bytes
from edgepress.interface import Activation
from edgepress.manifest import Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

SIDE, CLASSES = 8, 5
MakeOnnx = Callable[..., Path]


def _model(seed: int, weight_scale: float) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Conv, Relu, Flatten in NHWC order, MatMul + Add: (batch, 8, 8, 3) → (batch, 5)."""
    draw = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {
        "conv1_kernel": draw.normal(0, 0.3 * weight_scale, (8, 3, 3, 3)).astype(np.float32),
        "conv1_bias": draw.normal(0, 0.1, 8).astype(np.float32),
        "conv2_kernel": draw.normal(0, 0.2 * weight_scale, (16, 8, 3, 3)).astype(np.float32),
        "conv2_bias": draw.normal(0, 0.1, 16).astype(np.float32),
        "dense_kernel": draw.normal(0, 0.1 * weight_scale, (256, CLASSES)).astype(np.float32),
        "dense_bias": draw.normal(0, 0.1, CLASSES).astype(np.float32),
        "flat_shape": np.array([-1, 256], np.int64),
    }
    make = helper.make_node
    nodes = [
        make("Transpose", ["images"], ["nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        make("Conv", ["nchw", "conv1_kernel", "conv1_bias"], ["conv1"], "conv1", pads=[1, 1, 1, 1]),
        make("Relu", ["conv1"], ["relu1"], "relu1"),
        make("MaxPool", ["relu1"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["pool", "conv2_kernel", "conv2_bias"], ["conv2"], "conv2", pads=[1, 1, 1, 1]),
        make("Relu", ["conv2"], ["relu2"], "relu2"),
        make("Transpose", ["relu2"], ["nhwc"], "to_nhwc", perm=[0, 2, 3, 1]),
        make("Reshape", ["nhwc", "flat_shape"], ["flat"], "flatten"),
        make("MatMul", ["flat", "dense_kernel"], ["product"], "dense"),
        make("Add", ["product", "dense_bias"], ["logits"], "dense_add"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def make_onnx(tmp_path: Path) -> MakeOnnx:
    """Writes the small classifier: (seed, weight_scale) → path."""

    def make(seed: int = 0, weight_scale: float = 1.0) -> Path:
        path = tmp_path / f"fp32-{seed}-{weight_scale}.onnx"
        onnx.save(_model(seed, weight_scale), path)
        return path

    return make


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Twelve inputs (1, 8, 8, 3) float32 in [-1, 1]."""
    draw = np.random.default_rng(7)
    return [draw.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32) for _ in range(12)]


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """Thirty random pictures as DATA."""
    path = tmp_path / "pictures.npz"
    np.savez(path, images=np.random.default_rng(3).integers(0, 256, (30, SIDE, SIDE, 3), np.uint8))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest with one exported artifact, onnx-fp32."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "onnx-fp32.onnx"
    onnx.save(_model(0, 1.0), path)
    card = ModelCard(
        name="tiny",
        source="random (seed 0)",
        fingerprint="f" * 64,
        parameters=2700,
        class_count=CLASSES,
        labels=None,
        preprocessing=Preprocessing(PreprocessMode.TF, SIDE, SIDE),
        activation=Activation.SOFTMAX,
    )
    artifact = Artifact(
        id="onnx-fp32",
        path=path.name,
        format=Format.ONNX,
        precision=Precision.FP32,
        runtimes=(Runtime.ONNXRUNTIME,),
        inputs=(TensorSpec("images", (None, SIDE, SIDE, 3), "float32"),),
        outputs=(TensorSpec("logits", (None, CLASSES), "float32"),),
        sha256=sha256_of_path(path),
        size_bytes=size_bytes(path),
        key="exported",
    )
    Manifest(folder, card, (artifact,)).save()
    return folder
