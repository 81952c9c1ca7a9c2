"""What is recorded of an artifact beside its shares: bytes, left-over Q/DQ, layers left behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepress.artifact import Precision
from edgepress.cli.commands.inspect import page_of
from edgepress.errors import ProofError
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.subject import look_into
from edgepress.manifest import Manifest
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.precision import content_of, require_promise
from optimize.recipe import recipe_named
from optimize.stage import OptimizeRequest, optimize_folder
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
TENSORRT, HALF = recipe_named("tensorrt_static_wi8_ai8"), recipe_named("onnx_wf16_af16")


@pytest.mark.parametrize(
    ("layers", "reformats"),
    [
        (None, 1),  # into the first layer; the last gives floats itself
        ({"conv1", "conv2", "dense"}, 1),
        ({"conv1"}, 2),  # in and out again
        ({"conv1", "dense"}, 3),  # in, out for conv2, in again
        ({"dense"}, 1),
        (set(), 0),
    ],
)
def test_left_over_qdq_is_counted_where_no_8_bit_layer_takes_it_in(
    layers: set[str] | None, reformats: int, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "q.onnx"
    chosen = None if layers is None else frozenset(layers)
    ranges, recipe = ranges_of_onnx(source, pictures, 12), recipe_named("onnx_static_wi7_au8")
    onnx_qdq_from_fp32(recipe, source, result, ranges, layers=chosen)
    assert inspect_onnx(result).reformats == reformats


def test_tensorrt_fuses_all_qdq_but_the_first(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "q.onnx"
    onnx_tensorrt_qdq_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    assert inspect_onnx(result).reformats == 1
    assert inspect_onnx(source).reformats == 0


def test_a_pair_that_gains_nothing_is_left_over(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "q.onnx"
    onnx_tensorrt_qdq_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    model, make = onnx.load(result), onnx.helper.make_node
    model.graph.node[-1].output[0] = "before"
    parameters = ["flat_scale", "flat_zero_point"]
    model.graph.node.append(make("QuantizeLinear", ["before", *parameters], ["q"], "out_q"))
    model.graph.node.append(make("DequantizeLinear", ["q", *parameters], ["logits"], "out_dq"))
    onnx.save(model, result)
    assert inspect_onnx(result).reformats == 2


def test_byte_shares_count_weights_and_biases_as_they_are_stored() -> None:
    layers = (
        Layer("a", 90, 1, INT8, INT8, biases=2, stored_bytes=98),  # FP32 or int32 biases
        Layer("b", 10, 1, FP16, FP16, biases=2, stored_bytes=24),  # FP16 biases
    )
    shares = Inspection(layers, 0, 0, (), ()).byte_shares()
    assert shares == pytest.approx({"int8": 90 / 122, "fp16": 24 / 122, "fp32": 8 / 122})


def test_content_gives_the_reason_for_each_layer_left_behind() -> None:
    layers = (
        Layer("conv1", 100, 100, INT8, INT8, "Conv"),
        Layer("conv2", 100, 100, FP32, FP32, "Conv"),
        Layer("fc1", 100, 100, INT8, FP32, "Gemm"),
        Layer("product", 0, 100, FP32, INT8, "MatMul"),  # of two activations
    )
    content = content_of(Inspection(layers, 0, 0, (), (), reformats=4), TENSORRT, {"conv2": "costs 3 dB"})
    assert content.reformats == 4
    assert [(left.layer, left.stored, left.computed, left.reason) for left in content.left_behind] == [
        ("conv2", FP32, FP32, "costs 3 dB"),
        ("fc1", INT8, FP32, "the converter has no such version of it"),
    ]


def test_only_what_fp16_cannot_hold_excuses_a_broken_promise() -> None:
    layers = (
        Layer("conv1", 10, 40, FP32, FP32, "Conv"),
        Layer("conv2", 10, 60, FP16, FP16, "Conv"),
        Layer("fc1", 80, 10, FP16, FP16, "Gemm"),
    )
    found = Inspection(layers, 0, 0, (), ())
    require_promise(HALF, found, {"conv1": "reaches 70000"})
    with pytest.raises(ProofError, match=r"got 90\.0% and 63\.6%\. Left out: conv1\."):
        require_promise(HALF, found)
    with pytest.raises(ProofError, match=r"Left out: conv1\."):
        require_promise(HALF, found, {"fc1": "reaches 70000"})


def test_inspect_shows_what_was_left_behind_and_why(folder: Path, npz: Path) -> None:
    recipes = ("tensorrt_static_wi8_ai8_densef16",)
    optimize_folder(OptimizeRequest(folder, "linux-x64-avx2", recipes, str(npz), 8, 0))
    page = "\n".join(page_of(look_into(str(folder), "tensorrt-static_wi8_ai8_densef16")))
    assert "dense computes in fp16: tensorrt_static_wi8_ai8_densef16 leaves dense layers in fp16." in page
    assert "left over: 2 casts, 2 transposes, 1 Q/DQ" in page
    assert "int8        51.7 %  34.3 %  96.2 %" in page
    exported = "\n".join(page_of(look_into(str(folder), "onnx-fp32")))
    assert "left over: 0 casts, 2 transposes, 0 Q/DQ" in exported
    assert Manifest.load(folder).get("onnx-fp32").content is None
