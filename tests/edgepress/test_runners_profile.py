"""The profilers of the runtimes, each on a real file: which nodes ran where, in what precision, how long."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Device, Precision, Runtime
from edgepress.errors import InputError
from edgepress.runners import litert_profile, litert_runner, onnxruntime_profile, onnxruntime_runner
from edgepress.runners.onnxruntime_runner import OnnxRuntimeRunner
from edgepress.runners.runner import LayerTime, RunnerKind, runner_kind, runner_kinds

SIDE, CLASSES = 8, 4
RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(0, 0.2, (SIDE * SIDE * 3, CLASSES)).astype(np.float32)
IMAGE = RNG.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
AZURE = "AzureExecutionProvider"  # listed by every build for CPUs, and runs none of these nodes
ON_CPU = "CPUExecutionProvider"


def write_onnx(path: Path, precision: Precision) -> Path:
    """Flatten and MatMul, the latter in a precision."""
    node = helper.make_node
    scale = np.float32(np.abs(WEIGHTS).max() / 127)
    graphs: dict[Precision, tuple[list[Any], dict[str, Any]]] = {
        Precision.FP32: ([node("MatMul", ["flat", "w"], ["logits"])], {"w": WEIGHTS}),
        Precision.FP16: (
            [
                node("Cast", ["flat"], ["x"], to=TensorProto.FLOAT16),
                node("MatMul", ["x", "w"], ["y"], name="product"),
                node("Cast", ["y"], ["logits"], to=TensorProto.FLOAT),
            ],
            {"w": WEIGHTS.astype(np.float16)},
        ),
        Precision.INT8: (
            [
                node("QuantizeLinear", ["flat", "x_scale", "zero"], ["xq"]),
                node("DequantizeLinear", ["xq", "x_scale", "zero"], ["x"]),
                node("DequantizeLinear", ["wq", "w_scale", "zero"], ["w"]),
                node("MatMul", ["x", "w"], ["y"], name="product"),
                node("QuantizeLinear", ["y", "y_scale", "zero"], ["yq"]),
                node("DequantizeLinear", ["yq", "y_scale", "zero"], ["logits"]),
            ],
            {
                "wq": np.rint(WEIGHTS / scale).astype(np.int8),
                "w_scale": scale,
                "x_scale": np.float32(1 / 127),
                "y_scale": np.float32(0.1),
                "zero": np.int8(0),
            },
        ),
    }
    nodes, tensors = graphs[precision]
    graph = helper.make_graph(
        [node("Flatten", ["images"], ["flat"]), *nodes],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def profiled(kind: RunnerKind, path: Path, scratch: Path, runs: int = 3) -> tuple[LayerTime, ...]:
    assert kind.profiler is not None
    before = sorted(os.listdir(scratch))
    layers = kind.profiler(path, 1, IMAGE, runs, scratch)
    assert sorted(os.listdir(scratch)) == before, "left something behind"
    return layers


@pytest.fixture
def onnxruntime_kind() -> RunnerKind:
    return runner_kind(Runtime.ONNXRUNTIME, Device.CPU)


def test_onnxruntime_computes_an_fp16_file_in_fp32_on_the_cpu(
    onnxruntime_kind: RunnerKind, tmp_path: Path
) -> None:
    """The runtime casts back what the file says in FP16: its CPU kernels know float only."""
    found = profiled(onnxruntime_kind, write_onnx(tmp_path / "m.onnx", Precision.FP16), tmp_path)
    product = next(layer for layer in found if layer.operator in {"MatMul", "FusedMatMul", "Gemm"})
    assert product.precision is Precision.FP32
    assert "Cast" in {layer.operator for layer in found}
    assert all(layer.precision is None for layer in found if layer.operator == "Cast")


@pytest.mark.parametrize(
    ("precision", "operator"), [(Precision.FP32, "MatMul"), (Precision.INT8, "QLinearMatMul")]
)
def test_onnxruntime_says_which_kernel_ran(
    precision: Precision, operator: str, onnxruntime_kind: RunnerKind, tmp_path: Path
) -> None:
    found = profiled(onnxruntime_kind, write_onnx(tmp_path / "m.onnx", precision), tmp_path)
    assert {layer.place for layer in found} == {ON_CPU} == set(onnxruntime_kind.places)
    assert next(layer for layer in found if layer.operator == operator).precision is precision
    assert all(layer.duration_ns >= 0 for layer in found)
    assert not any(layer.name.endswith("_kernel_time") for layer in found)


def test_onnxruntime_leaves_nothing_behind_when_the_file_is_damaged(
    onnxruntime_kind: RunnerKind, tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot load"):
        onnxruntime_runner.profile_on_cpu(tmp_path / "m.onnx", 1, IMAGE, 1, tmp_path)
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_onnxruntime_layer_times_are_medians_of_the_last_runs_in_the_order_of_execution(
    tmp_path: Path,
) -> None:
    import json

    def event(name: str, ts: int, dur: int, index: str) -> dict[str, Any]:
        inputs = [{"float": [1]}]
        arguments = {
            "op_name": "Conv",
            "provider": ON_CPU,
            "node_index": index,
            "input_type_shape": inputs,
        }
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}

    durations_us = [(1000, 2000), (10, 20), (30, 40), (20, 90)]  # the first run is warm-up
    events = [
        entry
        for run, (first, second) in enumerate(durations_us)
        for entry in (event("same", 100 * run + 2, second, "1"), event("same", 100 * run, first, "0"))
    ]
    (tmp_path / "trace.json").write_text(json.dumps([{"cat": "Session", "name": "model_run"}, *events]))
    found = onnxruntime_profile.layer_times(tmp_path / "trace.json", 3)
    assert [layer.duration_ns for layer in found] == [20_000, 40_000]


@pytest.mark.parametrize(
    ("operator", "inputs", "precision"),
    [
        ("QLinearConv", [{"uint8": [1]}, {"float": []}], Precision.INT8),
        ("Conv", [{"float16": [1]}], Precision.FP16),
        ("QuantizeLinear", [{"float": [1]}], None),
        ("DynamicQuantizeMatMul", [{"float": [1]}], Precision.INT8),
        ("Gather", [{"int64": [1]}], None),
        ("Constant", [], None),
    ],
)
def test_onnxruntime_precision_is_that_of_the_activations(
    operator: str, inputs: list[dict[str, Any]], precision: Precision | None
) -> None:
    arguments = {"op_name": operator, "input_type_shape": inputs}
    assert onnxruntime_profile.precision_of(arguments) is precision


def test_onnxruntime_refuses_a_provider_that_runs_nothing(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", Precision.FP32)
    with (
        pytest.raises(InputError, match=f"{AZURE} cannot run all of .*m.onnx, and the CPU may not help out"),
        OnnxRuntimeRunner(path, 1, [(AZURE, {})]),
    ):
        pass


@pytest.fixture(scope="module")
def mixed_tflite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dense layer, which XNNPACK runs, and a cumulative sum, which it does not; TFLite and SavedModel."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("mixed")
    module = tf.Module()
    module.w = tf.Variable(WEIGHTS)

    def logits_of(images: Any) -> dict[str, Any]:
        product = tf.linalg.matmul(tf.reshape(images, (-1, SIDE * SIDE * 3)), module.w)
        return {"logits": tf.cumsum(product, axis=1)}

    serve = tf.function(
        logits_of, input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, name="images")]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)
    (folder / "m.tflite").write_bytes(converter.convert())
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serve": serve})
    return folder / "m.tflite", folder / "saved"


def test_litert_times_nodes_in_the_delegate_and_outside(
    mixed_tflite: tuple[Path, Path], tmp_path: Path
) -> None:
    found = profiled(runner_kind(Runtime.LITERT, Device.CPU), mixed_tflite[0], tmp_path)
    dense = next(layer for layer in found if layer.operator.startswith("Fully Connected"))
    assert (dense.place, dense.precision) == (litert_profile.XNNPACK, Precision.FP32)
    total = next(layer for layer in found if layer.operator == "CUMSUM")
    assert (total.place, total.precision) == (litert_profile.BUILT_IN, None)
    assert found.index(dense) < found.index(total)
    assert len({layer.name for layer in found}) == len(found)


@pytest.mark.parametrize(
    ("tag", "precision"),
    [
        ("Convolution (NHWC, QC8) IGEMM", Precision.INT8),
        ("Fully Connected (NC, QS8, QC8W) GEMM", Precision.INT8),
        ("Fully Connected (NC, QD8, F32, QC8W) GEMM", Precision.INT8),
        ("Fully Connected (NC, F32, QC8W) GEMM", Precision.FP32),
        ("Fully Connected (NC, PF32) GEMM", Precision.FP32),
        ("Convolution (NHWC, F16) IGEMM", Precision.FP16),
        ("Max Pooling (NHWC, S8)", Precision.INT8),
        ("Convert (NC, F32, QS8)", None),
        ("Copy (NC, X8)", None),
        ("Static Reshape (NC)", None),
        ("CUMSUM", None),
    ],
)
def test_litert_precision_is_that_of_the_activations(tag: str, precision: Precision | None) -> None:
    assert litert_profile.precision_of(tag) is precision


def test_litert_profiler_refuses_a_version_that_it_was_not_tried_with(
    mixed_tflite: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9.9")
    with pytest.raises(InputError, match="was tried with ai-edge-litert 2.2.0 and 2.3.0 .*this is 9.9.9"):
        litert_runner.profile_on_cpu(mixed_tflite[0], 1, IMAGE, 1, tmp_path)


def test_litert_profiler_refuses_an_input_of_another_size(mixed_tflite: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="has 768 bytes, and 4 were given"):
        litert_profile.layer_times(mixed_tflite[0], 1, np.zeros(1, np.float32), 1)


def test_litert_profiler_refuses_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"not a model")
    with pytest.raises(InputError, match="LiteRtCreateModelFromFile gave status"):
        litert_profile.layer_times(tmp_path / "m.tflite", 1, IMAGE, 1)


def test_tensorflow_times_the_nodes_of_a_signature(mixed_tflite: tuple[Path, Path], tmp_path: Path) -> None:
    kind = runner_kind(Runtime.TENSORFLOW, Device.CPU)
    assert kind.profiler is not None
    found = kind.profiler(mixed_tflite[1], 0, IMAGE, 3, tmp_path)
    assert {layer.place for layer in found} == set(kind.places)
    product = next(layer for layer in found if layer.operator.endswith("MatMul"))
    assert product.precision is Precision.FP32
    assert product.duration_ns > 0


@pytest.mark.serial
def test_sum_of_the_nodes_is_near_the_time_of_the_runner(tmp_path: Path) -> None:
    """A convolution that takes about a millisecond, so that the profiler's own cost is small beside it."""
    import tensorflow as tf

    kernel = tf.Variable(RNG.normal(0, 0.1, (3, 3, 32, 32)).astype(np.float32))

    def logits_of(images: Any) -> Any:
        for _ in range(4):
            images = tf.nn.conv2d(images, kernel, 1, "SAME")
        return images

    function = tf.function(logits_of, input_signature=[tf.TensorSpec((1, 32, 32, 32), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    image = np.zeros((1, 32, 32, 32), np.float32)
    layers = litert_runner.profile_on_cpu(tmp_path / "m.tflite", 1, image, 20, tmp_path)
    with litert_runner.on_cpu(tmp_path / "m.tflite", 1) as runner:
        durations_ns = []
        for _ in range(25):
            start_ns = time.perf_counter_ns()
            runner.infer(image)
            durations_ns.append(time.perf_counter_ns() - start_ns)
    whole_ns = sum(layer.duration_ns for layer in layers)
    assert 0.5 < whole_ns / np.median(durations_ns) < 2


def test_only_runners_whose_times_are_those_of_the_nodes_have_a_profiler() -> None:
    having = {(kind.name, kind.device) for kind in runner_kinds() if kind.profiler is not None}
    on_cpu = {Runtime.TENSORFLOW.value, Runtime.ONNXRUNTIME.value, Runtime.LITERT.value, "openvino"}
    plans = {(runtime.value, Device.CUDA) for runtime in (Runtime.TENSORRT, Runtime.TENSORRT_RTX)}
    assert having == {(name, Device.CPU) for name in on_cpu} | plans
