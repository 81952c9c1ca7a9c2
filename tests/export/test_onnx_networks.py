"""The networks that everybody knows, with random weights, at a small size."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress.artifact import Device, Runtime
from edgepress.models.keras_import import import_keras
from edgepress.parity import require_parity
from edgepress.parity.golden_pictures import smooth_picture
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras

SIDE = 64
# Besides these, a network is made of what a layer of its own stands for.
LAYERS = {
    *("Conv", "Relu", "Clip", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Gemm"),
    *("Squeeze", "Reshape"),
}


@pytest.mark.parametrize(
    ("name", "more", "left"),
    [
        ("ResNet50", {}, {"Add": 16, "Pad": 1}),  # the Pad is before a MaxPool
        pytest.param("MobileNetV2", {"alpha": 0.35}, {"Add": 10}, marks=pytest.mark.slow),
        pytest.param("VGG19", {}, {}, marks=pytest.mark.slow),
        pytest.param(
            "EfficientNetB0",
            {},
            # swish, squeeze-and-excite, Rescaling and Normalization; residual and Rescaling
            {"Mul": 49 + 16 + 2, "Add": 9 + 1},
            marks=pytest.mark.slow,
        ),
        pytest.param("InceptionV3", {"input_shape": (75, 75, 3)}, {}, marks=pytest.mark.slow),
        # Of its 121 normalizations 59 follow a convolution.
        pytest.param("DenseNet121", {}, {"Mul": 62, "Add": 62, "Pad": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_known_network_is_clean_and_exact(
    name: str,
    more: dict[str, Any],
    left: dict[str, int],
    tmp_path: Path,
    draw_statistics: Callable[[Any], None],
    require_parsed_by_tensorrt: Callable[[Path], None],
) -> None:
    options = {"weights": None, "input_shape": (SIDE, SIDE, 3), "classes": 10, "classifier_activation": None}
    network = getattr(import_keras().applications, name)(**{**options, **more})
    draw_statistics(network)
    path = tmp_path / "m.onnx"
    onnx_from_keras(Conversion(network))(path)
    side = network.inputs[0].shape[1]
    images = np.stack([smooth_picture(side, side, seed) for seed in range(2)]).astype(np.float32) / 127.5 - 1
    with runner_for(Runtime.ONNXRUNTIME, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(images, training=False)), runner.infer(images), name)
    onnx.checker.check_model(str(path), full_check=True)
    operations = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert {k: n for k, n in operations.items() if k not in LAYERS} == {"Transpose": 1, **left}
    require_parsed_by_tensorrt(path)
