"""The ONNX conversions on a small model: what is inside, and what is refused."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgepress.artifact import Precision, Proof
from edgepress.errors import InputError, ProofError
from edgepress.inspection.earned import earned_precision
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.onnx_graph import opset
from edgepress.metrics import logit_snr_db
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32, quantize_weight
from optimize.precision import require_promise
from optimize.recipe import recipe_named
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

INT8_ORT = ("onnx_static_wi7_au8", "onnx_static_wi8_au8", "onnx_static_wi8_ai8")
# 8×8·8·27 + 4×4·16·72 + 256·5
MACS = 64 * 8 * 27 + 16 * 16 * 72 + 256 * 5


def logits_of(path: Path, pictures: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


def test_inspect_onnx_counts_parameters_and_macs(make_onnx: MakeOnnx) -> None:
    found = inspect_onnx(make_onnx())
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "dense"]
    assert sum(layer.macs for layer in found.layers) == MACS
    assert sum(layer.parameters for layer in found.layers) == 216 + 1152 + 1280
    assert (found.casts, found.transposes) == (0, 2)
    assert earned_precision(found.shares(Proof.INSPECTED)) is Precision.FP32


def test_onnx_fp16_from_fp32_leaves_fp32_at_the_border_only(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "fp16.onnx"
    made = onnx_fp16_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    onnx.checker.check_model(str(result), full_check=True)
    found, model = inspect_onnx(result), onnx.load(result)
    assert earned_precision(found.shares(Proof.INSPECTED)) is Precision.FP16
    assert found.casts == 2
    assert (found.inputs, found.outputs) == (inspect_onnx(source).inputs, inspect_onnx(source).outputs)
    assert opset(model) == 17
    assert onnx.TensorProto.FLOAT not in {tensor.data_type for tensor in model.graph.initializer}
    assert made["weights_flushed_to_zero"] == 0
    assert made["largest_activation"] > 0
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 45


def test_onnx_fp16_from_fp32_counts_weights_flushed_to_zero(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    made = onnx_fp16_from_fp32(make_onnx(weight_scale=1e-9), tmp_path / "fp16.onnx", None)
    assert made == {"weights_flushed_to_zero": 216 + 1152 + 1280}


def test_onnx_fp16_from_fp32_refuses_a_model_of_which_fp16_holds_nothing(
    make_onnx: MakeOnnx, tmp_path: Path
) -> None:
    result = tmp_path / "fp16.onnx"
    with pytest.raises(ProofError, match="FP16 holds no layer .*'.*_kernel' reaches .*FP16 ends at 65504"):
        onnx_fp16_from_fp32(make_onnx(weight_scale=1e6), result, None)
    assert not result.exists()


@pytest.mark.parametrize("name", INT8_ORT)
def test_onnx_qdq_from_fp32_runs_as_int8_in_onnx_runtime(
    name: str, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result, dump = make_onnx(), tmp_path / "int8.onnx", tmp_path / "dump.onnx"
    onnx_qdq_from_fp32(recipe_named(name), source, result, ranges_of_onnx(source, pictures, 12))
    onnx.checker.check_model(str(result), full_check=True)
    found = inspect_onnx(result)
    require_promise(recipe_named(name), found)
    assert earned_precision(found.shares(Proof.INSPECTED)) is Precision.INT8
    assert sum(layer.macs for layer in found.layers) == MACS
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(dump)
    onnxruntime.InferenceSession(result, options, providers=["CPUExecutionProvider"])
    run = Counter(node.op_type for node in onnx.load(dump).graph.node)
    assert run["QLinearConv"] == 2
    assert run["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "MatMul", "DequantizeLinear"} & set(run)
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 18


def test_onnx_qdq_from_fp32_uses_the_range_of_7_bits_when_asked(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source = make_onnx()
    ranges, largest = ranges_of_onnx(source, pictures, 12), {}
    for name in ("onnx_static_wi7_au8", "onnx_static_wi8_au8"):
        onnx_qdq_from_fp32(recipe_named(name), source, tmp_path / "int8.onnx", ranges)
        tensors = {t.name: t for t in onnx.load(tmp_path / "int8.onnx").graph.initializer}
        largest[name] = np.abs(
            numpy_helper.to_array(tensors["conv2_kernel_quantized"]).astype(np.int32)
        ).max()
    assert largest == {"onnx_static_wi7_au8": 64, "onnx_static_wi8_au8": 127}


def test_onnx_qdq_from_fp32_refuses_a_table_without_a_tensor(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source = make_onnx()
    ranges = {k: v for k, v in ranges_of_onnx(source, pictures, 12).items() if k != "relu1"}
    with pytest.raises(InputError, match="onnx_static_wi8_au8: no range for a tensor"):
        onnx_qdq_from_fp32(recipe_named("onnx_static_wi8_au8"), source, tmp_path / "int8.onnx", ranges)


def test_onnx_tensorrt_qdq_from_fp32_quantizes_every_weighted_layer(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "qdq.onnx"
    made = onnx_tensorrt_qdq_from_fp32(source, result, ranges_of_onnx(source, pictures, 12))
    assert made == {"quantized_layers": 3}
    onnx.checker.check_model(str(result), full_check=True)
    found = inspect_onnx(result)
    require_promise(recipe_named("tensorrt_static_wi8_ai8"), found)
    operators = Counter(node.op_type for node in onnx.load(result).graph.node)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (3, 6)
    assert result.stat().st_size < 0.5 * source.stat().st_size
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 18


def test_onnx_tensorrt_qdq_from_fp32_refuses_a_table_without_a_tensor(
    make_onnx: MakeOnnx, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="input 'nchw' of layer 'conv1' has no calibrated range"):
        onnx_tensorrt_qdq_from_fp32(make_onnx(), tmp_path / "qdq.onnx", {})


def test_quantize_weight_is_within_half_a_step_and_has_positive_scales() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    weight[:, 2] = 0  # a dead channel
    stored, scales = quantize_weight(weight, axis=1)
    assert scales.shape == (4,)
    assert np.all(scales > 0)
    assert np.abs(stored * scales - weight).max() <= scales.max() / 2 * 1.0001
    assert np.abs(stored.astype(np.int32)).max() == 127


def test_require_promise_names_the_layers_left_out() -> None:
    layers = (
        Layer("conv1", 10, 100, Precision.INT8, Precision.INT8),
        Layer("dense", 90, 10, Precision.FP32, Precision.FP32),
    )
    with pytest.raises(ProofError, match=r"got 10\.0% and 90\.9%\. Left out: dense\."):
        require_promise(recipe_named("tensorrt_static_wi8_ai8"), Inspection(layers, 0, 0, (), ()))


def test_require_promise_refuses_a_file_without_weighted_layers() -> None:
    with pytest.raises(ProofError, match="no convolution or matrix product"):
        require_promise(recipe_named("onnx_wf16_af16"), Inspection((), 0, 0, (), ()))


def test_earned_precision_is_mixed_below_99_percent() -> None:
    layers = (
        Layer("a", 98, 98, Precision.INT8, Precision.INT8),
        Layer("b", 2, 2, Precision.FP16, Precision.FP16),
    )
    shares = Inspection(layers, 0, 0, (), ()).shares(Proof.INSPECTED)
    assert earned_precision(shares) is Precision.MIXED
    assert shares.parameters == {"fp32": 0.0, "fp16": 0.02, "int8": 0.98}
