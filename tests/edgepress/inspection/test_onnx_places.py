"""Weights are found in the file itself."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import InputError
from edgepress.inspection.onnx_places import places_of_weights


@pytest.fixture
def path(tmp_path: Path) -> Path:
    arrays = {"a": np.arange(6, dtype=np.float32), "long name" * 40: np.ones((300, 7), np.float32)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [*tensors, listed],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def test_places_hold_what_onnx_reads(path: Path) -> None:
    content = path.read_bytes()
    tensors = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    places = places_of_weights(path)
    assert set(places) == set(tensors) - {"listed"}
    for name, (begin, size) in places.items():
        assert content[begin : begin + size] == tensors[name].raw_data


@pytest.mark.parametrize("damage", ["cut off", "no message"])
def test_a_damaged_file_is_refused(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-9] if damage == "cut off" else b"\x3f" * 100)
    with pytest.raises(InputError, match=r"cannot be read as ONNX \(.*\). Export the model anew."):
        places_of_weights(path)
