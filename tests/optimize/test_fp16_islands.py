"""Networks that FP16 cannot hold everywhere: what stays in FP32, and that it works."""

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Precision
from edgepress.errors import ProofError
from edgepress.files import sha256_of_path
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.manifest import Manifest
from edgepress.metrics import logit_snr_db
from edgepress.target import ComputeCapability
from optimize.calibration import Range
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.qdq_lint import lint_qdq
from optimize.recipe import NumberFormat
from optimize.stage import OptimizeRequest, optimize_folder
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]
PAST_FP16 = -100_000.0

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)


def overflow(path: Path) -> None:
    """Let one channel of conv1 reach -100,000, which Relu takes away: the logits stay what they are."""
    change(path, "conv1_bias", lambda bias: np.where(np.arange(8) == 3, PAST_FP16, bias))


def change(path: Path, name: str, of: Callable[[np.ndarray], np.ndarray]) -> None:
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = of(numpy_helper.to_array(tensor)).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, path)


def logits_of(path: Path, pictures: Pictures) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


def casts_of(path: Path) -> list[tuple[str, int]]:
    return [(n.input[0], n.attribute[0].i) for n in onnx.load(path).graph.node if n.op_type == "Cast"]


def test_a_layer_past_65504_stays_in_fp32_and_the_logits_stay_right(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    overflow(source)
    with caplog.at_level(logging.WARNING):
        made = onnx_fp16_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    onnx.checker.check_model(str(result), full_check=True)
    assert [island["nodes"] for island in made["fp32_islands"]] == [["conv1", "relu1"]]
    assert "conv1 reaches 100" in made["fp32_islands"][0]["reason"]
    assert "conv1, relu1: stays in FP32, conv1 reaches 100" in caplog.text
    computed = {layer.name: layer.computed for layer in inspect_onnx(result).layers}
    assert computed == {"conv1": Precision.FP32, "conv2": Precision.FP16, "dense": Precision.FP16}
    # The input's Transpose is in FP16: in, out to the island, in again, out.
    assert casts_of(result) == [
        ("images", TensorProto.FLOAT16),
        ("nchw", TensorProto.FLOAT),
        ("relu1", TensorProto.FLOAT16),
        ("logits_fp16", TensorProto.FLOAT),
    ]
    exact, found = logits_of(source, pictures), logits_of(result, pictures)
    assert np.all(np.isfinite(found))
    assert logit_snr_db(exact, found) > 45


def test_ranges_that_hide_the_overflow_show_in_the_logits(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    """So the island above is what keeps the logits finite."""
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    change(source, "conv1_kernel", lambda kernel: kernel * 60_000)
    names = ranges_of_onnx(source, pictures, 12)
    made = onnx_fp16_from_fp32(source, result, dict.fromkeys(names, Range(0, 1)))
    assert "fp32_islands" not in made
    assert not np.all(np.isfinite(logits_of(result, pictures)))


def test_an_island_that_reaches_the_output_has_no_cast_there(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    change(source, "dense_kernel", lambda kernel: np.clip(kernel, -1, 1) * 60_000)
    made = onnx_fp16_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    assert [island["nodes"] for island in made["fp32_islands"]] == [["dense", "dense_add"]]
    assert casts_of(result) == [("images", TensorProto.FLOAT16), ("flat", TensorProto.FLOAT)]
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 45


def test_islands_that_touch_are_one(make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path) -> None:
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    ranges = {**ranges_of_onnx(source, pictures, 12), "conv1": Range(-7e4, 0), "pool": Range(0, 8e4)}
    made = onnx_fp16_from_fp32(source, result, ranges)
    assert [island["nodes"] for island in made["fp32_islands"]] == [["conv1", "relu1", "pool", "conv2"]]
    assert made["fp32_islands"][0]["reason"] == "pool reaches 80000, FP16 ends at 65504"
    assert Counter(n.op_type for n in onnx.load(result).graph.node)["Cast"] == 4


def test_weights_that_are_not_finite_are_refused(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    source = make_onnx()
    change(source, "conv2_kernel", lambda kernel: np.where(kernel > 0.5, np.nan, kernel))
    with pytest.raises(ProofError, match="Weight 'conv2_kernel' has values that are not finite"):
        onnx_fp16_from_fp32(source, tmp_path / "fp16.onnx", None)
    assert not (tmp_path / "fp16.onnx").exists()


@needs_builder
def test_tensorrt_builds_a_network_with_an_island(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    overflow(source)
    onnx_fp16_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    made = engine_from_onnx(tensorrt_rtx(), result, tmp_path / "x.plan", ComputeCapability.SM86)
    assert made.capabilities == ("8.6",)


@needs_builder
def test_int8_in_an_fp16_graph_has_islands_too(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "restf16.onnx"
    overflow(source)
    ranges = ranges_of_onnx(source, pictures, 12)
    made = onnx_tensorrt_qdq_from_fp32(source, result, ranges, rest=NumberFormat.F16)
    island = {"conv1", "relu1", "nchw_dequantize", "conv1_kernel_dequantize"}
    assert set(made["fp32_islands"][0]["nodes"]) == island
    onnx.checker.check_model(str(result), full_check=True)
    lint_qdq(onnx.load(result))
    assert {layer.computed for layer in inspect_onnx(result).layers} == {Precision.INT8}
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 18
    engine_from_onnx(tensorrt_rtx(), result, tmp_path / "x.plan", ComputeCapability.SM86)


def test_an_artifact_with_an_island_says_so(folder: Path, npz: Path) -> None:
    """Its name asks for FP16; its precision, shares and content say what it is."""
    path = folder / "onnx-fp32.onnx"
    overflow(path)
    manifest = Manifest.load(folder)
    exported = manifest.get("onnx-fp32")
    fields = {"sha256": sha256_of_path(path), "size_bytes": path.stat().st_size}
    manifest.with_artifact(type(exported)(**{**vars(exported), **fields})).save()
    recipes = ("onnx_wf16_af16", "tensorrt_static_wi8_ai8")
    made = optimize_folder(OptimizeRequest(folder, "linux-x64-avx2", recipes, str(npz), 8, 0))
    half = made.get("onnx-wf16_af16")
    assert half.precision is Precision.MIXED
    assert half.shares is not None
    assert half.content is not None
    assert 0.5 < half.shares.macs["fp16"] < 0.6
    assert [(left.layer, left.computed.value) for left in half.content.left_behind] == [("conv1", "fp32")]
    assert "conv1 reaches 1" in half.content.left_behind[0].reason
    assert half.content.bytes["fp32"] == pytest.approx(1 - half.content.bytes["fp16"])


def test_an_artifact_that_is_fp32_for_the_most_part_is_refused(folder: Path, npz: Path) -> None:
    path = folder / "onnx-fp32.onnx"
    change(path, "conv1_kernel", lambda kernel: kernel * 60_000)
    change(path, "conv2_kernel", lambda kernel: kernel / 60_000)
    manifest = Manifest.load(folder)
    exported = manifest.get("onnx-fp32")
    manifest.with_artifact(type(exported)(**{**vars(exported), "sha256": sha256_of_path(path)})).save()
    recipes = ("onnx_wf16_af16", "tensorrt_static_wi8_ai8")
    with pytest.raises(ProofError, match=r"onnx_wf16_af16 wanted .*Left out: conv1, conv2"):
        optimize_folder(OptimizeRequest(folder, "linux-x64-avx2", recipes, str(npz), 8, 0))
    assert not (folder / "onnx-wf16_af16.onnx").exists()


def _resizing(source: Path) -> None:
    """Conv, then Resize to twice its size by a scale that is stored, and to a fixed size by one computed."""
    make, kernel = helper.make_node, np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3))
    arrays = {
        "kernel": kernel.astype(np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "one": np.array([1, 1, 1, 1], np.float32),
    }
    nodes = [
        make("Conv", ["images", "kernel"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        make("Resize", ["conv", "", "scales"], ["large"], "large", mode="linear"),
        make("Mul", ["scales", "one"], ["computed"], "computed"),
        make("Resize", ["large", "", "computed"], ["logits"], "larger", mode="nearest"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "resizing",
        [value("images", TensorProto.FLOAT, [1, 3, 4, 4])],
        [value("logits", TensorProto.FLOAT, [1, 4, 16, 16])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)


def test_inputs_that_must_be_fp32_stay_so(tmp_path: Path) -> None:
    source, result = tmp_path / "resize.onnx", tmp_path / "fp16.onnx"
    _resizing(source)
    onnx_fp16_from_fp32(source, result, None)
    onnx.checker.check_model(str(result), full_check=True)
    images = [np.random.default_rng(1).uniform(-1, 1, (1, 3, 4, 4)).astype(np.float32)]
    exact, found = logits_of(source, images), logits_of(result, images)
    np.testing.assert_allclose(found, exact, atol=5e-3)
    assert len(casts_of(result)) == 3  # in, out, and the computed scales
