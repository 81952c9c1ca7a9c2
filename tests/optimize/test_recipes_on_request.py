"""The recipes that are made only where they are named: content, proof, TensorRT's builder, LiteRT."""

import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgepress.artifact import Device, Precision, Proof, Runtime
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.onnx_graph import opset
from edgepress.inspection.tflite_graph import tflite_model
from edgepress.manifest import Manifest
from edgepress.metrics import logit_snr_db
from edgepress.models.keras_import import import_keras
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.precision import require_promise
from optimize.recipe import NumberFormat, recipe_named
from optimize.stage import OptimizeRequest, optimize_folder
from optimize.tflite_int8_from_fp32 import tflite_int8_from_fp32
from tests.optimize.ranges import ranges_of_onnx, ranges_of_tflite

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

DENSE, REST = "tensorrt_static_wi8_ai8_densef16", "tensorrt_static_wi8_ai8_restf16"
TARGET = "linux-x64-avx2"

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)


def logits_of(path: Path, pictures: Pictures) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


def types_of(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_int8_in_an_fp16_graph_has_no_fp32_but_at_the_border(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "q.onnx"
    ranges = ranges_of_onnx(source, pictures, 12)
    made = onnx_tensorrt_qdq_from_fp32(source, result, ranges, rest=NumberFormat.F16)
    onnx.checker.check_model(str(result), full_check=True)
    assert (made["quantized_layers"], made["raised_scales"]) == (3, 0)
    assert opset(onnx.load(result)) == 19
    assert onnx.TensorProto.FLOAT not in set(types_of(result).values())
    found = inspect_onnx(result)
    require_promise(recipe_named(REST), found)
    assert (found.casts, found.reformats) == (2, 1)
    assert (found.inputs, found.outputs) == (inspect_onnx(source).inputs, inspect_onnx(source).outputs)
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 18


def test_fp16_scales_are_raised_to_the_smallest_normal_number(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(weight_scale=0.003), tmp_path / "q.onnx"
    ranges = ranges_of_onnx(source, pictures, 12)
    made = onnx_tensorrt_qdq_from_fp32(source, result, ranges, rest=NumberFormat.F16)
    assert made["raised_scales"] > 20
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(result).graph.initializer}
    scales = {name: array for name, array in tensors.items() if name.endswith("_scale")}
    assert min(float(scale.min()) for scale in scales.values()) == 2.0**-14
    exact = numpy_helper.to_array(
        next(t for t in onnx.load(source).graph.initializer if t.name == "conv1_kernel")
    )
    scale = scales["conv1_kernel_scale"].astype(np.float32).reshape(-1, 1, 1, 1)
    # Quantized with the scale that is stored, so half a step is the most that is lost.
    assert np.all(np.abs(tensors["conv1_kernel"] * scale - exact) <= scale / 2 * 1.0001)


@needs_builder
def test_optimize_folder_makes_them_and_their_engines(folder: Path, npz: Path) -> None:
    names = ("engine_static_wi8_ai8_densef16", "engine_static_wi8_ai8_restf16", "onnx_static_wu8_au8")
    made = optimize_folder(OptimizeRequest(folder, TARGET, names, str(npz), 8, 0))
    assert Manifest.load(folder) == made
    assert [a.id for a in made.artifacts] == [
        "onnx-fp32",
        "onnx-static_wu8_au8",
        "tensorrt-static_wi8_ai8_densef16",
        "tensorrt-static_wi8_ai8_restf16",
        "engine-sm86-static_wi8_ai8_densef16",
        "engine-sm89-static_wi8_ai8_densef16",
        "engine-sm86-static_wi8_ai8_restf16",
        "engine-sm89-static_wi8_ai8_restf16",
    ]
    dense, rest = made.get("tensorrt-static_wi8_ai8_densef16"), made.get("tensorrt-static_wi8_ai8_restf16")
    assert (dense.precision, rest.precision) == (Precision.MIXED, Precision.INT8)
    assert dense.shares is not None
    assert dense.content is not None
    assert dense.shares.parameters == pytest.approx({"fp32": 0, "fp16": 1280 / 2648, "int8": 1368 / 2648})
    (left,) = dense.content.left_behind
    assert (left.layer, left.stored, left.computed) == ("dense", Precision.FP16, Precision.FP16)
    assert left.reason == "tensorrt_static_wi8_ai8_densef16 leaves dense layers in fp16"
    assert sum(dense.content.bytes.values()) == pytest.approx(1)
    engine = made.get("engine-sm86-static_wi8_ai8_densef16")
    assert engine.precision is Precision.MIXED
    assert engine.content == dense.content
    assert engine.shares is not None
    assert engine.shares.proof is Proof.INFERRED
    assert rest.content is not None
    assert rest.content.left_behind == ()


def test_onnx_with_unsigned_weights_runs_as_int8(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result, dump = make_onnx(), tmp_path / "u8.onnx", tmp_path / "dump.onnx"
    recipe = recipe_named("onnx_static_wu8_au8")
    onnx_qdq_from_fp32(recipe, source, result, ranges_of_onnx(source, pictures, 12))
    onnx.checker.check_model(str(result), full_check=True)
    require_promise(recipe, inspect_onnx(result))
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(result).graph.initializer}
    assert tensors["conv1_kernel_quantized"].dtype == np.uint8
    assert set(tensors["conv1_kernel_zero_point"].tolist()) == {128}
    assert tensors["conv1_kernel_scale"].shape == (8,)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(dump)
    onnxruntime.InferenceSession(result, options, providers=["CPUExecutionProvider"])
    run = Counter(node.op_type for node in onnx.load(dump).graph.node)
    assert (run["QLinearConv"], run["QGemm"], run["Conv"] + run["DequantizeLinear"]) == (2, 1, 0)
    assert logit_snr_db(logits_of(source, pictures), logits_of(result, pictures)) > 18


@pytest.mark.parametrize(
    ("name", "dtype", "reformats"),
    [("tflite_static_wi8_ai8", "int8", 0), ("tflite_static_wi8_ai8_iof32", "float32", 2)],
)
def test_tflite_int8_has_the_input_and_output_that_its_name_says(
    name: str, dtype: str, reformats: int, tmp_path: Path
) -> None:
    keras = import_keras()
    images = keras.Input((16, 16, 3))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(images))
    network = keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    source, result = tmp_path / "fp32.tflite", tmp_path / "int8.tflite"
    tflite_from_keras(Conversion(network))(source)
    pictures = list(np.random.default_rng(0).uniform(-1, 1, (12, 1, 16, 16, 3)).astype(np.float32))
    recipe = recipe_named(name)
    tflite_int8_from_fp32(recipe, source, result, ranges_of_tflite(source, iter(pictures), 12))
    found = inspect_tflite(result)
    require_promise(recipe, found)
    assert {spec.dtype for spec in (*found.inputs, *found.outputs)} == {dtype}
    assert (found.reformats, found.casts) == (reformats, 0)
    assert scales_of_weights(result) == [8, 5]
    with (
        runner_for(Runtime.LITERT, Device.CPU)(source, 0) as exact,
        runner_for(Runtime.LITERT, Device.CPU)(result, 0) as int8,
    ):
        assert logit_snr_db(exact.infer(pictures[0]), int8.infer(pictures[0])) > 15


def scales_of_weights(path: Path) -> list[int]:
    """Number of scales of each layer's weight."""
    with tflite_model(path) as model:
        return [
            model.tensor(operator.Inputs(1)).Quantization().ScaleLength()
            for name, operator in model.operators()
            if name in {"CONV_2D", "FULLY_CONNECTED"}
        ]
