"""Every runner on a real file of its format, against numpy; and what it says about a file it cannot take."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.artifact import Device, Runtime
from edgepress.errors import InputError, MissingDeviceError, MissingRuntimeError
from edgepress.runners import litert_runner, onnxruntime_runner, tensorflow_runner, tensorrt_runner
from edgepress.runners.litert_runner import dequantized, quantized
from edgepress.runners.runner import NamedOutputs, OpenRunner, head_among, runner_for, runner_kinds, title_of

SIDE, CLASSES = 8, 4
RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(0, 0.2, (SIDE * SIDE * 3, CLASSES)).astype(np.float32)
IMAGES = RNG.uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
LOGITS = IMAGES.reshape(3, -1) @ WEIGHTS

Opening = tuple[OpenRunner, Path, int]


@dataclass(frozen=True)
class Files:
    saved_model: Path
    onnx: Path
    tflite: Path
    tflite_int8: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tiny")
    found = Files(folder / "m", folder / "m.onnx", folder / "m.tflite", folder / "m8.tflite")
    write_onnx(found.onnx)
    write_tensorflow(found)
    return found


def write_onnx(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, CLASSES])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def write_tensorflow(files: Files) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(WEIGHTS)

    def logits_of(images: Any) -> dict[str, Any]:
        return {"logits": tf.linalg.matmul(tf.reshape(images, (-1, SIDE * SIDE * 3)), module.w)}

    serve = tf.function(
        logits_of, input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="images")]
    )
    tf.saved_model.save(module, str(files.saved_model), signatures={"serve": serve})
    fixed = serve.get_concrete_function(tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, name="images"))
    files.tflite.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([fixed], module).convert())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([fixed], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in IMAGES)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    files.tflite_int8.write_bytes(converter.convert())


@pytest.fixture(params=["tensorflow", "onnxruntime", "litert"])
def opened(request: pytest.FixtureRequest, files: Files) -> Opening:
    """A way to open a runner, a file for it, and threads (TensorFlow's are fixed for the process)."""
    openings: dict[str, Opening] = {
        "tensorflow": (tensorflow_runner.on_cpu, files.saved_model, 0),
        "onnxruntime": (onnxruntime_runner.on_cpu, files.onnx, 2),
        "litert": (litert_runner.on_cpu, files.tflite, 2),
    }
    return openings[request.param]


def test_infer_gives_the_logits_of_a_batch(opened: Opening) -> None:
    open_runner, path, threads = opened
    with open_runner(path, threads) as runner:
        logits = runner.infer(IMAGES)
        single = runner.infer(IMAGES[1:2])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, LOGITS, atol=1e-4)
    np.testing.assert_allclose(single, LOGITS[1:2], atol=1e-4)


def test_outputs_gives_the_logits_by_name(opened: Opening) -> None:
    open_runner, path, threads = opened
    with open_runner(path, threads) as runner:
        assert isinstance(runner, NamedOutputs)
        found = runner.outputs(IMAGES)
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], LOGITS, atol=1e-4)


def test_head_among_goes_by_name_and_not_by_position() -> None:
    assert head_among(["aux", "logits"]) == "logits"
    assert head_among(["a", "probabilities", "z"]) == "probabilities"
    assert head_among(["StatefulPartitionedCall:0"]) is None


def test_infer_gives_the_callers_own_copy(opened: Opening) -> None:
    open_runner, path, threads = opened
    with open_runner(path, threads) as runner:
        first = runner.infer(IMAGES[:1])
        before = first.copy()
        runner.infer(IMAGES[1:2])
        first += 0  # writable
    np.testing.assert_array_equal(first, before)


def test_evidence_names_what_ran(files: Files) -> None:
    with onnxruntime_runner.on_cpu(files.onnx, 1) as runner:
        assert runner.evidence == "CPUExecutionProvider"
    with litert_runner.on_cpu(files.tflite, 1) as runner:
        assert runner.evidence == "XNNPACK delegate, 1 partitions"
    with tensorflow_runner.on_cpu(files.saved_model, 0) as runner:
        assert runner.evidence.startswith("/CPU:0")


def test_infer_quantizes_and_dequantizes_for_an_int8_file(files: Files) -> None:
    with litert_runner.on_cpu(files.tflite_int8, 1) as runner:
        logits = runner.infer(IMAGES)
        np.testing.assert_array_equal(runner.outputs(IMAGES)["logits"], logits)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - LOGITS).max() < 0.1


def test_quantized_rounds_half_to_even_and_clips() -> None:
    tensor = {"dtype": np.int8, "quantization": (0.5, 3)}
    values = np.asarray([0.25, 0.75, -0.25, 1000, -1000], np.float32)
    assert quantized(values, tensor).tolist() == [3, 5, 3, 127, -128]
    assert quantized(values, tensor).dtype == np.int8
    np.testing.assert_allclose(dequantized(np.asarray([3, 5], np.int8), tensor), [0.0, 1.0])


def test_quantized_leaves_pixels_as_they_are() -> None:
    pixels = np.asarray([0, 128, 255], np.uint8)
    assert quantized(pixels, {"dtype": np.uint8, "quantization": (0.0, 0)}) is pixels


@pytest.mark.parametrize("content", [b"", b"not a model", None], ids=["empty", "text", "truncated"])
def test_enter_refuses_a_damaged_file(opened: Opening, content: bytes | None, tmp_path: Path) -> None:
    open_runner, path, threads = opened
    source = path / "saved_model.pb" if path.is_dir() else path
    damaged = tmp_path / source.name
    damaged.write_bytes(source.read_bytes()[:-40] if content is None else content)
    broken = tmp_path if path.is_dir() else damaged
    with (
        pytest.raises(InputError, match=r"cannot load .*(anew|Export)") as caught,
        open_runner(broken, threads),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_enter_refuses_a_missing_file(opened: Opening, tmp_path: Path) -> None:
    open_runner, _, threads = opened
    with (
        pytest.raises(InputError, match=r"cannot load|No SavedModel folder"),
        open_runner(tmp_path / "none", threads),
    ):
        pass


@pytest.mark.parametrize(
    ("module", "open_runner"),
    [
        ("tensorflow", tensorflow_runner.on_cpu),
        ("onnxruntime", onnxruntime_runner.on_cpu),
        ("ai_edge_litert.interpreter", litert_runner.on_cpu),
    ],
)
def test_enter_names_the_missing_package(
    module: str, open_runner: OpenRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingRuntimeError, match="is not installed here"), open_runner(tmp_path, 1):
        pass


@pytest.mark.parametrize("open_runner", [onnxruntime_runner.on_cuda, onnxruntime_runner.on_tensorrt])
def test_enter_refuses_a_provider_that_this_build_lacks(
    open_runner: OpenRunner, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with (
        pytest.raises(MissingDeviceError, match="This ONNX Runtime has no .*ExecutionProvider"),
        open_runner(files.onnx, 1),
    ):
        pass


def test_enter_refuses_a_silent_fallback_to_the_cpu(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession

    def fallback(path: str, options: Any, providers: Any) -> Any:
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fallback)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with (
        pytest.raises(InputError, match="fell back to CPUExecutionProvider"),
        onnxruntime_runner.on_cuda(files.onnx, 1),
    ):
        pass


def test_enter_refuses_cuda_where_tensorflow_sees_none(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    with (
        pytest.raises(MissingDeviceError, match="TensorFlow sees no CUDA device"),
        tensorflow_runner.on_cuda(files.saved_model, 0),
    ):
        pass


@pytest.mark.parametrize(
    ("open_runner", "tf32"),
    [(tensorflow_runner.on_cuda, False), (tensorflow_runner.on_cuda_with_tf32, True)],
)
def test_tensorflow_states_tf32_and_refuses_scores_that_come_from_the_cpu(
    open_runner: OpenRunner, tf32: bool, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow itself says that it has a GPU here, puts all on the CPU, and says nothing."""
    set_to: list[bool] = []
    grown: list[str] = []
    config = "tensorflow.config"
    monkeypatch.setattr(f"{config}.list_physical_devices", lambda kind: ["the GPU"])
    monkeypatch.setattr(f"{config}.experimental.enable_tensor_float_32_execution", set_to.append)
    monkeypatch.setattr(f"{config}.experimental.set_memory_growth", lambda gpu, on: grown.append(gpu))
    with open_runner(files.saved_model, 0) as runner:
        assert runner.evidence.endswith(f", TF32 {'on' if tf32 else 'off'}")
        with pytest.raises(InputError, match=r"TensorFlow ran .* on .*CPU:0, wanted a GPU"):
            runner.infer(IMAGES[:1])
    assert (set_to, grown) == ([tf32], ["the GPU"])


def test_tensorflow_refuses_a_gpu_whose_memory_it_holds_already(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def initialized(gpu: str, on: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: ["the GPU"])
    monkeypatch.setattr("tensorflow.config.experimental.set_memory_growth", initialized)
    monkeypatch.setattr("tensorflow.config.experimental.enable_tensor_float_32_execution", lambda on: None)
    with (
        pytest.raises(InputError, match="with all of its memory. Open the runner in a fresh process"),
        tensorflow_runner.on_cuda(files.saved_model, 0),
    ):
        pass


def test_enter_refuses_other_threads_once_tensorflow_runs(files: Files) -> None:
    with tensorflow_runner.on_cpu(files.saved_model, 0) as runner:
        runner.infer(IMAGES)
    with (
        pytest.raises(InputError, match="cannot change to 61 threads"),
        tensorflow_runner.on_cpu(files.saved_model, 61),
    ):
        pass


def test_onnxruntime_prints_nothing(files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with onnxruntime_runner.on_cpu(files.onnx, 1) as runner:
        runner.infer(IMAGES)
    with pytest.raises(InputError), onnxruntime_runner.on_cpu(tmp_path / "bad.onnx", 1):
        pass
    assert capfd.readouterr() == ("", "")


def test_every_runner_has_a_title_and_an_unknown_one_its_name() -> None:
    assert title_of("onnxruntime") == "ONNX Runtime"
    assert title_of("nobody's") == "nobody's"
    assert all(kind.title for kind in runner_kinds())


def test_runner_for_knows_every_pair_and_refuses_others() -> None:
    assert runner_for(Runtime.LITERT, Device.CPU) is litert_runner.on_cpu
    assert runner_for(Runtime.TENSORRT, Device.CUDA) is tensorrt_runner.on_tensorrt
    assert runner_for(Runtime.TENSORRT_RTX, Device.CUDA) is tensorrt_runner.on_tensorrt_rtx
    with pytest.raises(InputError, match="no runner for tensorrt-rtx on cpu"):
        runner_for(Runtime.TENSORRT_RTX, Device.CPU)
