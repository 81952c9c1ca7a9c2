"""ONNX Runtime's GPU providers, as far as it goes without a GPU: bound I/O on the CPU, and refusals."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Device, Precision, Runtime
from edgepress.errors import InputError
from edgepress.inspection.onnx_places import stored_precisions
from edgepress.runners import onnxruntime_runner
from edgepress.runners.onnxruntime_runner import BoundSession
from edgepress.runners.runner import runner_kind

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)


def saved(path: Path, *weights: NDArray[Any]) -> Path:
    """A file whose scores are the picture's channels times WEIGHTS; further weights are stored and unused."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["logits"]),
    ]
    tensors = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array(np.asarray([1, 2], np.int64), "axes"),
        *(numpy_helper.from_array(array, f"more{i}") for i, array in enumerate(weights)),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 2, 2, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "tiny", [images], [logits], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return saved(tmp_path / "tiny.onnx")


def test_a_bound_session_gives_each_input_its_own_scores(tiny: Path) -> None:
    session = onnxruntime.InferenceSession(str(tiny), providers=["CPUExecutionProvider"])
    bound = BoundSession(onnxruntime, session, "images", "logits", "cpu")
    random = np.random.default_rng(0)
    results = []
    for batch in (1, 1, 3, 1):
        images = random.random((batch, 2, 2, 3), np.float32)
        before = images.copy()
        results.append((bound.infer(images), before.mean((1, 2)) @ WEIGHTS))
        np.testing.assert_array_equal(images, before)
    for found, wanted in results:
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        ((), {}),
        ((np.ones(3, np.float16),), {"trt_fp16_enable": "1"}),
        ((np.ones(3, np.int8),), {"trt_int8_enable": "1"}),
        ((np.ones(3, np.float16), np.ones(3, np.int8)), {"trt_fp16_enable": "1", "trt_int8_enable": "1"}),
    ],
    ids=["fp32", "fp16", "int8", "int8 in fp16"],
)
def test_tensorrt_may_use_the_precisions_of_the_file_and_no_other(
    weights: tuple[NDArray[Any], ...],
    options: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def refuse(path: str, settings: Any, providers: Any) -> Any:
        seen.append((providers, settings.get_session_config_entry("session.disable_cpu_ep_fallback")))
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("no GPU")

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    with pytest.raises(InputError), onnxruntime_runner.on_tensorrt(saved(tmp_path / "m.onnx", *weights), 1):
        pass
    no_tf32 = ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert seen == [([("TensorrtExecutionProvider", options), no_tf32], "1")]
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_stored_precisions_refuses_what_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x3a\xff\xff")
    for name in ("m.onnx", "none.onnx"):
        with pytest.raises(InputError, match=r"cannot be read as ONNX .* Export the model anew"):
            stored_precisions(tmp_path / name)


def test_the_cuda_provider_is_not_for_int8() -> None:
    kind = runner_kind(Runtime.ONNXRUNTIME_CUDA, Device.CUDA)
    assert "no INT8 kernels" in kind.unfit[Precision.INT8]
    assert list(kind.unfit) == [Precision.INT8]


REFUSES = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from edgepress.errors import InputError
from edgepress.machine import cuda_device_absence
from edgepress.runners import onnxruntime_runner as runners

assert {"CUDAExecutionProvider", "TensorrtExecutionProvider"} <= set(onnxruntime.get_available_providers())
path = Path(sys.argv[1])
for opener in (runners.on_cuda, runners.on_tensorrt):
    try:
        with opener(path, 1) as runner:
            runner.infer(np.ones((1, 2, 2, 3), np.float32))
            print(f"ran: {runner.evidence}")
    except InputError as error:
        print(f"refused: {error}")
with runners.on_cpu(path, 1) as runner:
    print(f"cpu: {runner.evidence}")
"""


def test_onnxruntime_gpu_refuses_to_run_on_the_cpu_in_place_of_a_gpu(tiny: Path) -> None:
    """Needs onnxruntime-gpu in an environment of its own: EDGEPRESS_ORT_GPU_PYTHON=…/bin/python."""
    python = os.environ.get("EDGEPRESS_ORT_GPU_PYTHON")
    if not python:
        pytest.skip("EDGEPRESS_ORT_GPU_PYTHON names no Python with onnxruntime-gpu")
    done = subprocess.run(
        [python, "-c", REFUSES, str(tiny)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("ran: ", "refused: ", "cpu: "))]
    assert said[-1] == "cpu: CPUExecutionProvider"
    for line, provider in zip(said[:-1], ("CUDA", "Tensorrt"), strict=True):
        if line.startswith("ran: "):  # there is a GPU
            assert line.startswith(f"ran: {provider}ExecutionProvider, ")
            continue
        assert line.startswith(f"refused: {provider}ExecutionProvider cannot run all of ")
        assert "the CPU may not help out" in line
