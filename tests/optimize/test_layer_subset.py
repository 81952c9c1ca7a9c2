"""Some layers in INT8, the rest in FP32: names, boundaries, numbers."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Precision
from edgepress.errors import InputError
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.metrics import logit_snr_db
from optimize.calibration import Range, Ranges
from optimize.layer_subset import between
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.recipe import recipe_named
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]
Convert = Callable[..., object]

U8S8 = recipe_named("onnx_static_wi8_au8")


def for_onnxruntime(source: Path, result: Path, ranges: Ranges, **options: object) -> object:
    return onnx_qdq_from_fp32(U8S8, source, result, ranges, **options)  # type: ignore[arg-type]


CONVERSIONS = pytest.mark.parametrize("convert", [for_onnxruntime, onnx_tensorrt_qdq_from_fp32])


def int8_layers(path: Path) -> set[str]:
    layers = inspect_onnx(path).layers
    found = {layer.name for layer in layers if layer.computed is Precision.INT8}
    assert found == {layer.name for layer in layers if layer.stored is Precision.INT8}
    return found


def logits_of(path: Path, pictures: Pictures) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


def operators_run(path: Path, dump: Path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(dump)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(dump).graph.node)


@CONVERSIONS
@pytest.mark.parametrize(
    "layers", [{"conv1"}, {"conv2"}, {"dense"}, {"conv1", "dense"}, {"conv1", "conv2"}, set()]
)
def test_only_the_named_layers_are_quantized(
    convert: Convert, layers: set[str], make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "some.onnx"
    made = convert(source, result, ranges_of_onnx(source, pictures, 12), layers=frozenset(layers))
    onnx.checker.check_model(str(result), full_check=True)
    assert int8_layers(result) == layers
    assert made["float_layers"] == [n for n in ("conv1", "conv2", "dense") if n not in layers]  # type: ignore[index]
    run = operators_run(result, tmp_path / "dump.onnx")
    if convert is for_onnxruntime:  # and no optimizer of ONNX Runtime quantizes more than that
        assert run["QLinearConv"] + run["QGemm"] == len(layers)
    exact, found = logits_of(source, pictures), logits_of(result, pictures)
    if layers:
        assert 20 < logit_snr_db(exact, found) < 70
    else:
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


@CONVERSIONS
def test_all_names_give_the_same_numbers_as_none(
    convert: Convert, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, named, every = make_onnx(), tmp_path / "named.onnx", tmp_path / "every.onnx"
    ranges = ranges_of_onnx(source, pictures, 12)
    convert(source, named, ranges, layers=frozenset({"conv1", "conv2", "dense"}))
    convert(source, every, ranges)
    np.testing.assert_allclose(logits_of(named, pictures), logits_of(every, pictures), atol=1e-5)


@CONVERSIONS
def test_an_unknown_layer_is_refused_with_the_nearest(
    convert: Convert, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "some.onnx"
    with pytest.raises(InputError, match="Unknown layer 'conv3'. Did you mean 'conv2'. .*Known: conv1,"):
        convert(source, result, ranges_of_onnx(source, pictures, 12), layers=frozenset({"conv1", "conv3"}))
    assert not result.exists()


def test_onnx_runtime_has_no_boundary_that_gains_nothing(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "some.onnx"
    for_onnxruntime(
        source, result, ranges_of_onnx(source, pictures, 12), layers=frozenset({"conv1", "dense"})
    )
    run = operators_run(result, tmp_path / "dump.onnx")
    # conv1 with its Relu and MaxPool in 8 bits, conv2 in FP32, the dense layer in 8 bits.
    assert (run["QLinearConv"], run["FusedConv"] + run["Conv"], run["QGemm"]) == (1, 1, 1)
    assert (run["QuantizeLinear"], run["DequantizeLinear"]) == (2, 1)
    assert run["Relu"] == 0
    assert run["NhwcMaxPool"] == 1  # ONNX Runtime's 8-bit kernel


def test_tensorrt_layers_left_in_float_have_no_qdq(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "some.onnx"
    onnx_tensorrt_qdq_from_fp32(
        source, result, ranges_of_onnx(source, pictures, 12), layers=frozenset({"conv2"})
    )
    operators = Counter(node.op_type for node in onnx.load(result).graph.node)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (1, 2)


def _residual() -> onnx.ModelProto:
    """conv1 → conv2, whose results are added; then conv3. All 1×1 with 4 channels."""
    make = helper.make_node
    kernel = np.random.default_rng(0).normal(0, 0.5, (4, 4, 1, 1)).astype(np.float32)
    nodes = [
        make("Conv", ["images", "kernel"], ["a"], "conv1"),
        make("Conv", ["a", "kernel"], ["b"], "conv2"),
        make("Add", ["a", "b"], ["c"], "add"),
        make("Conv", ["c", "kernel"], ["d"], "conv3"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "residual",
        [value("images", TensorProto.FLOAT, [1, 4, 2, 2])],
        [value("d", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({"conv1", "conv2", "conv3"}, {"add"}),
        ({"conv1", "conv2"}, set()),  # what reads it is in FP32
        ({"conv2", "conv3"}, set()),  # one operand is in FP32
    ],
)
def test_what_rounds_anew_is_in_8_bits_only_between_8_bit_layers(chosen: set[str], wanted: set[str]) -> None:
    assert between(_residual().graph, frozenset(chosen), frozenset({"Add"})) == wanted


@CONVERSIONS
def test_a_weight_shared_with_a_float_layer_stays_exact_for_that_layer(
    convert: Convert, tmp_path: Path
) -> None:
    source, result = tmp_path / "shared.onnx", tmp_path / "some.onnx"
    onnx.save(_residual(), source)
    names = ("images", "a", "b", "c", "d")
    convert(source, result, dict.fromkeys(names, Range(-8, 8)), layers=frozenset({"conv2"}))
    onnx.checker.check_model(str(result), full_check=True)
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(result).graph.initializer}
    exact = {t.name: numpy_helper.to_array(t) for t in _residual().graph.initializer}["kernel"]
    by_float = next(n for n in onnx.load(result).graph.node if n.name == "conv3").input[1]
    np.testing.assert_array_equal(tensors[by_float], exact)
