"""What tf2onnx leaves of Transposes and Reshapes goes by chance; what we leave does not."""

import random
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tf2onnx.optimizer
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from edgepress.artifact import Device, Runtime
from edgepress.interface import Interface
from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from edgepress.parity import require_parity
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras


@pytest.fixture(scope="module")
def excited() -> Any:
    """Three squeeze-and-excite blocks, as in EfficientNet: pooling, two 1×1 convolutions, a product."""
    keras = import_keras()
    layers = keras.layers
    images = keras.Input((16, 16, 3))
    values = layers.Conv2D(8, 3, padding="same", activation="swish")(images)
    for keeps_axes in (False, True, False):
        squeezed = layers.GlobalAveragePooling2D(keepdims=keeps_axes)(values)
        squeezed = layers.Reshape((1, 1, 8))(squeezed)
        squeezed = layers.Conv2D(2, 1, activation="swish")(squeezed)
        squeezed = layers.Conv2D(8, 1, activation="sigmoid")(squeezed)
        values = layers.Conv2D(8, 3, padding="same")(layers.multiply([values, squeezed]))
    network = keras.Model(images, layers.Dense(4)(layers.GlobalAveragePooling2D()(values)))
    draw_random(network, 0)
    return network


def _written(network: Any, path: Path, interface: Interface | None = None) -> bytes:
    onnx_from_keras(Conversion(network, interface or Interface()))(path)
    return path.read_bytes()


def _operations(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


@pytest.mark.parametrize("batch", [None, 2])
def test_squeeze_and_excite_needs_no_transpose_and_no_reshape(
    excited: Any, tmp_path: Path, batch: int | None
) -> None:
    content = _written(excited, tmp_path / "m.onnx", Interface(batch=batch))
    found = _operations(content)
    assert (found["Transpose"], found["Reshape"], found["ReduceMean"]) == (1, 0, 0)
    assert found["GlobalAveragePool"] == 4
    assert found["Squeeze"] == 1  # before the dense layer
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    with runner_for(Runtime.ONNXRUNTIME, Device.CPU)(tmp_path / "m.onnx", 0) as runner:
        require_parity(np.asarray(excited(images)), runner.infer(images), "m")


@pytest.mark.parametrize("seed", range(4))
def test_the_order_in_which_tf2onnx_meets_the_nodes_does_not_show(
    excited: Any, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = _written(excited, tmp_path / "usual.onnx")
    order = random.Random(seed)  # noqa: S311  # no secret

    def shuffled(self: TransposeOptimizer) -> list[Any]:
        nodes = list(self._g.get_nodes())
        order.shuffle(nodes)
        return nodes

    monkeypatch.setattr(TransposeOptimizer, "nodes", property(shuffled))
    assert _written(excited, tmp_path / "shuffled.onnx") == usual


def test_not_even_without_its_optimizer_of_transposes(
    excited: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tf2onnx.optimizer._optimizers
    others = OrderedDict((name, made) for name, made in known.items() if name != "optimize_transpose")
    assert len(others) == len(known) - 1
    usual = _operations(_written(excited, tmp_path / "usual.onnx"))
    monkeypatch.setattr(tf2onnx.optimizer, "_optimizers", others)
    assert _operations(_written(excited, tmp_path / "without.onnx")) == usual
