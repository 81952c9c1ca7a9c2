"""The small classifier of tests/optimize with a layer spoilt, and labelled pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.files import sha256_of_path
from edgepress.manifest import Manifest

Spoil = Callable[..., None]


def set_tensor(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def tensor_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    found = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(found).copy()


def spoil_layer(folder: Path, before: tuple[str, str], weight: str, channel: int = 3) -> None:
    """Outliers in the weights of one layer that FP32 does not notice: on an input channel that is always 0.

    Each output channel's scale follows its outlier, so that its other weights are rounded to nothing.

    Args:
        folder: With a manifest; its ONNX file is changed.
        before: Weight and bias of the convolution before it, one channel of which is switched off.
        weight: Of the convolution that is spoilt.
        channel: Which one.
    """
    manifest = Manifest.load(folder)
    artifact = manifest.get("onnx-fp32")
    path = manifest.path_of(artifact)
    model = onnx.load(path)
    kernel, bias, spoilt = (tensor_of(model, name) for name in (*before, weight))
    kernel[channel], bias[channel], spoilt[:, channel] = 0, -1, 100
    for name, values in zip((*before, weight), (kernel, bias, spoilt), strict=True):
        set_tensor(model, name, values)
    onnx.save(model, path)
    manifest.with_artifact(replace(artifact, sha256=sha256_of_path(path))).save()


@pytest.fixture
def spoil() -> Spoil:
    """See `spoil_layer`."""
    return spoil_layer


@pytest.fixture
def spoilt_folder(folder: Path) -> Path:
    """The folder whose layer conv2 cannot be quantized."""
    spoil_layer(folder, ("conv1_kernel", "conv1_bias"), "conv2_kernel")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """120 pictures without labels as DATA."""
    path = tmp_path / "many.npz"
    np.savez(path, images=np.random.default_rng(3).integers(0, 256, (120, 8, 8, 3), np.uint8))
    return path
