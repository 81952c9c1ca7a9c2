from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Precision
from edgepress.errors import InputError
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.onnx_graph import load


def save(path: Path, nodes: list[Any], tensors: dict[str, Any], shape: tuple[int, ...], **more: Any) -> Path:
    """A graph from `x` of a shape to `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path), **more)
    return path


def weights(*shape: int, dtype: type = np.float32) -> Any:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("nodes", "tensors", "shape", "parameters", "macs"),
    [
        ([("Gemm", "x w b")], {"w": weights(7, 5), "b": weights(5)}, (7,), 40, 35),
        ([("MatMul", "x w")], {"w": weights(7, 5)}, (6, 7), 35, 6 * 35),
        ([("MatMul", "w x")], {"w": weights(1, 5, 6)}, (6, 7), 30, 5 * 7 * 6),  # the weight on the left
        ([("Transpose", "w > t"), ("MatMul", "x t")], {"w": weights(5, 7)}, (7,), 35, 35),
        ([("Identity", "w > t"), ("Gemm", "x t")], {"w": weights(7, 5)}, (7,), 35, 35),
        ([("Conv", "x w")], {"w": weights(4, 3, 3, 3)}, (3, 8, 8), 108, 36 * 108),
    ],
)
def test_weights_and_macs_of_one_layer(
    tmp_path: Path,
    nodes: list[Any],
    tensors: dict[str, Any],
    shape: tuple[int, ...],
    parameters: int,
    macs: int,
) -> None:
    made = []
    for kind, text in nodes:
        names, _, result = text.partition(" > ")
        made.append(helper.make_node(kind, names.split(), [result or "y"]))
    found = inspect_onnx(save(tmp_path / "m.onnx", made, tensors, shape))
    assert (found.parameters, found.macs) == (parameters, macs)
    assert found.layers[0].computed is Precision.FP32


def test_a_gemm_with_a_transposed_weight(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    found = inspect_onnx(save(tmp_path / "m.onnx", [node], {"w": weights(5, 7)}, (7,)))
    assert (found.parameters, found.macs) == (35, 35)


def test_a_weight_in_a_constant_node_counts(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights(7, 5)))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert inspect_onnx(save(tmp_path / "m.onnx", [constant, node], {}, (7,))).parameters == 35


def test_weights_beside_the_model_need_not_be_there_to_be_counted(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    external = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    path = save(tmp_path / "m.onnx", [node], {"w": weights(700, 5)}, (700,), **external)
    assert load(path).graph.initializer[0].raw_data
    (tmp_path / "w.bin").unlink()
    assert inspect_onnx(path).parameters == 3500
    with pytest.raises(InputError, match=r"keeps weights in another file, which cannot be read .*w\.bin"):
        load(path)


def test_operators_whose_weights_are_not_read_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"], name="product"),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    found = inspect_onnx(save(tmp_path / "m.onnx", nodes, {"w": weights(7, 5, dtype=np.int8)}, (7,)))
    assert found.uncounted == ("product (MatMulInteger)",)
    assert found.layers == ()


def test_an_operator_that_onnx_does_not_know_is_no_layer(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Fancy", ["x", "w"], ["y"], domain="com.example")],
        {"w": weights(7, 5)},
        (7,),
    )
    with pytest.raises(InputError, match=r"m\.onnx: its graph is not sound \(.*com\.example"):
        inspect_onnx(path)  # which set of operators is meant is not said
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, str(path))
    assert inspect_onnx(path).layers == ()
