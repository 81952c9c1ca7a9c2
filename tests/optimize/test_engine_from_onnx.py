"""TensorRT-RTX builds without a GPU; running a plan is not tested here."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepress.engine_card import BatchRange
from edgepress.errors import MissingRuntimeError, ProofError
from edgepress.target import ComputeCapability
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.recipe import recipe_named
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)


@needs_builder
@pytest.mark.parametrize("capability", [ComputeCapability.SM86, ComputeCapability.SM89])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_from_onnx_builds_without_a_gpu(
    precision: str, capability: ComputeCapability, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, plan = make_onnx(), tmp_path / "x.plan"
    ranges, made_from = ranges_of_onnx(source, pictures, 12), tmp_path / f"{precision}.onnx"
    if precision == "fp16":
        onnx_fp16_from_fp32(source, made_from, ranges)
    elif precision == "int8":
        onnx_tensorrt_qdq_from_fp32(source, made_from, ranges)
    else:
        made_from = source
    made = engine_from_onnx(tensorrt_rtx(), made_from, plan, capability)
    assert plan.stat().st_size > 5000
    assert made.capabilities == capability.capabilities
    assert made.batch == BatchRange(1, 1, 1)


@needs_builder
def test_engine_from_onnx_takes_a_batch_that_the_graph_fixes(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    model = onnx.load(make_onnx())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    made = engine_from_onnx(
        tensorrt_rtx(), tmp_path / "two.onnx", tmp_path / "x.plan", ComputeCapability.SM86
    )
    assert made.batch == BatchRange(2, 2, 2)


@needs_builder
def test_engine_from_onnx_reports_what_the_parser_refuses(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, plan = make_onnx(), tmp_path / "x.plan"
    onnx_qdq_from_fp32(
        recipe_named("onnx_static_wi8_ai8"), source, tmp_path / "q.onnx", ranges_of_onnx(source, pictures, 12)
    )
    with pytest.raises(ProofError, match=r"cannot parse q\.onnx: .*has type Int32 but must have type"):
        engine_from_onnx(tensorrt_rtx(), tmp_path / "q.onnx", plan, ComputeCapability.SM86)
    assert not plan.exists()


@needs_builder
def test_engine_from_onnx_reports_what_the_builder_refuses(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="cannot build .* for sm75: .*FP32"):
        engine_from_onnx(tensorrt_rtx(), make_onnx(), tmp_path / "x.plan", ComputeCapability.SM75)


def test_tensorrt_rtx_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(
        MissingRuntimeError, match=r"'tensorrt-rtx' is not installed.*edgepress\[tensorrt-rtx"
    ):
        tensorrt_rtx()
