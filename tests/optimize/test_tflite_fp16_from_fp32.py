from pathlib import Path
from typing import Any

import numpy as np

from edgepress.artifact import Device, Proof, Runtime
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.metrics import logit_snr_db
from edgepress.models.keras_import import import_keras
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras
from optimize.tflite_fp16_from_fp32 import tflite_fp16_from_fp32


def _network() -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    images = keras.Input((16, 16, 3))
    x = layers.DepthwiseConv2D(3)(layers.Conv2D(8, 3, activation="relu")(images))
    x = layers.Flatten()(layers.Conv2DTranspose(4, 3)(x))
    return keras.Model(images, [layers.Dense(n, name=name)(x) for n, name in ((5, "scores"), (3, "age"))])


def test_tflite_fp16_from_fp32_halves_the_weights_and_nothing_else(tmp_path: Path) -> None:
    source, result, again = (tmp_path / f"{name}.tflite" for name in ("fp32", "fp16", "again"))
    tflite_from_keras(Conversion(_network()))(source)
    tflite_fp16_from_fp32(source, result)
    tflite_fp16_from_fp32(source, again)
    assert result.read_bytes() == again.read_bytes()
    before, after = inspect_tflite(source), inspect_tflite(result)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert [layer.name for layer in after.layers] == [layer.name for layer in before.layers]
    shares = after.shares(Proof.INSPECTED)
    assert shares.parameters["fp16"] > 0.99  # biases stay
    assert shares.macs["fp32"] == 1
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    with (
        runner_for(Runtime.LITERT, Device.CPU)(source, 0) as wide,
        runner_for(Runtime.LITERT, Device.CPU)(result, 0) as narrow,
    ):
        assert narrow.evidence == wide.evidence == "XNNPACK delegate, 1 partitions"
        assert logit_snr_db(wide.infer(images), narrow.infer(images)) > 60
