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


def node(kind: str, names: str, result: str, **attributes: Any) -> Any:
    return helper.make_node(kind, names.split(), [result], **attributes)


def test_a_shared_weight_counts_once_and_its_macs_for_each_use(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x w b", "t"), node("Gemm", "t w b", "u"), node("Gemm", "u v b", "y")]
    tensors = {"w": weights(7, 7), "v": weights(7, 7), "b": weights(7)}
    found = inspect_onnx(save(tmp_path / "m.onnx", nodes, tensors, (7,)))
    # v is a layer of its own: that its bias is stored together with the other's does not change that.
    assert [layer.parameters + layer.biases for layer in found.layers] == [56, 0, 56]
    assert [layer.macs for layer in found.layers] == [49, 49, 49]
    assert found.weight_bytes == 4 * (49 + 49 + 7)


def test_a_bias_in_a_node_of_its_own_counts(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "t"), node("Add", "b t", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(7, 5), "b": weights(5)}, (7,))
    assert (inspect_onnx(path).layers[0].biases, inspect_onnx(path).unlisted) == (5, 0)
    nodes = [node("Conv", "x w", "t"), node("Add", "t b", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3, 1, 1), "b": weights(1, 4, 1, 1)}, (3, 8, 8))
    assert inspect_onnx(path).layers[0].biases == 4


def test_values_that_belong_to_no_layer_are_counted_apart(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "t"), node("BatchNormalization", "t s s s s", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3, 1, 1), "s": weights(4)}, (3, 8, 8))
    assert (inspect_onnx(path).parameters, inspect_onnx(path).unlisted) == (12, 4)


@pytest.mark.parametrize(
    ("data_type", "name", "stored_bytes"),
    [
        (TensorProto.FLOAT, "", 4 * 35),
        (TensorProto.FLOAT16, "", 2 * 35),
        (TensorProto.UINT8, "", 35),
        (TensorProto.INT4, "int4", 18),  # two to a byte
        (TensorProto.BFLOAT16, "bfloat16", 2 * 35),
        (TensorProto.DOUBLE, "double", 8 * 35),
    ],
)
def test_bytes_are_those_of_the_stored_type(
    tmp_path: Path, data_type: int, name: str, stored_bytes: int
) -> None:
    path = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": weights(7, 5)}, (7,))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = data_type
    model.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=data_type, dims=[7, 5]))
    onnx.save(model, str(path))
    (layer,) = inspect_onnx(path).layers
    assert (layer.weight_bytes, layer.stored_type) == (stored_bytes, name)


def test_layers_inside_the_models_own_functions_count(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Linear", "x w", "y", domain="own")], {"w": weights(7, 5)}, (7,))
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [node("MatMul", "a b", "c")]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Linear", ["a", "b"], ["c"], body, opsets))
    onnx.save(model, str(path))
    assert (inspect_onnx(path).parameters, inspect_onnx(path).macs) == (35, 35)


@pytest.mark.parametrize(("ir_version", "opset"), [(99, 17), (8, 999)])
def test_a_file_of_a_future_version_is_read_as_far_as_it_tells(
    tmp_path: Path, ir_version: int, opset: int
) -> None:
    path = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": weights(7, 5)}, (7,))
    model = onnx.load(path)
    model.ir_version, model.opset_import[0].version = ir_version, opset
    onnx.save(model, str(path))
    assert inspect_onnx(path).parameters == 35


def test_layers_of_an_unknown_shape_are_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [node("Conv", "x w", "y", name="c")], {"w": weights(4, 3, 3, 3)}, (3, 8, 8)
    )
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    onnx.save(model, str(path))
    assert (inspect_onnx(path).macs, inspect_onnx(path).parameters) == (0, 108)
    assert inspect_onnx(path).uncounted == ("c (Conv: its shape is not known)",)


def test_a_graph_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    nodes = [node("Identity", "a", "b"), node("Identity", "b", "a"), node("MatMul", "x a", "y")]
    assert inspect_onnx(save(tmp_path / "m.onnx", nodes, {}, (7,))).parameters == 0


def _negative_size(model: Any) -> None:
    model.graph.initializer[0].dims[0] = -7


def _one_operand(model: Any) -> None:
    del model.graph.node[0].input[1:]


def _no_result(model: Any) -> None:
    del model.graph.node[0].output[:]


@pytest.mark.parametrize("damage", [_negative_size, _one_operand, _no_result])
def test_a_graph_that_is_not_sound_is_refused(tmp_path: Path, damage: Any) -> None:
    path = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": weights(7, 5)}, (7,))
    model = onnx.load(path)
    damage(model)
    onnx.save(model, str(path))
    with pytest.raises(InputError, match=r"m\.onnx: its graph is not sound \(.+\)\. Export the model anew"):
        inspect_onnx(path)


@pytest.mark.parametrize("name", [b"layer", b"input", b"weight"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, name: bytes) -> None:
    nodes = [node("Identity", "x", "input"), node("MatMul", "input weight", "y", name="layer")]
    path = save(tmp_path / "m.onnx", nodes, {"weight": weights(7, 5)}, (7,))
    path.write_bytes(path.read_bytes().replace(name, name[:-1] + b"\xff"))
    with pytest.raises(InputError, match="its graph is not sound"):
        inspect_onnx(path)


def test_inputs_of_unknown_types_are_shown_as_such(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Relu", "x", "y")], {}, (7,))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = 99
    model.graph.output[0].type.Clear()
    onnx.save(model, str(path))
    found = inspect_onnx(path)
    assert (found.inputs[0].dtype, found.outputs[0].dtype) == ("unknown", "unknown")
