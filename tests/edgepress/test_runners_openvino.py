"""The worked example of docs/adding-a-runner.md: OpenVINO for real where it is installed, and its page."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepress.artifact import Device, Format, Precision, Runtime
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.runners import openvino_runner
from edgepress.runners.fake_runner import Fault
from edgepress.runners.runner import runner_kind

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/adding-a-runner.md"
SIDE, CLASSES = 8, 4
RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(0, 0.2, (SIDE * SIDE * 3, CLASSES)).astype(np.float32)
IMAGES = RNG.uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
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
    onnx.save(model, str(tmp_path / "m.onnx"))
    return tmp_path / "m.onnx"


def test_infer_gives_the_logits_of_a_batch_as_the_callers_own(installed: None, tiny_onnx: Path) -> None:
    with openvino_runner.on_cpu(tiny_onnx, 1) as runner:
        found = runner.infer(IMAGES)
        before = found.copy()
        runner.infer(-IMAGES)
        evidence = runner.evidence
    np.testing.assert_array_equal(found, before)
    np.testing.assert_allclose(found, IMAGES.reshape(3, -1) @ WEIGHTS, atol=1e-4)
    assert found.dtype == np.float32
    assert evidence == "CPU, f32, 1 threads"


def test_profiler_times_the_nodes(installed: None, tiny_onnx: Path, tmp_path: Path) -> None:
    kind = runner_kind("openvino", Device.CPU)
    assert kind.profiler is not None
    found = kind.profiler(tiny_onnx, 1, IMAGES[:1], 5, tmp_path)
    assert {layer.place for layer in found} == set(kind.places)
    assert {layer.precision for layer in found} == {Precision.FP32}
    assert all(layer.duration_ns > 0 for layer in found)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_enter_refuses_a_damaged_or_missing_file(
    content: bytes | None, installed: None, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="OpenVINO cannot load .* Make the file anew") as caught:
        openvino_runner.on_cpu(path, 1).__enter__()
    assert "\n" not in str(caught.value)


def test_enter_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingRuntimeError, match=r"edgepress\[openvino\]"):
        openvino_runner.on_cpu(tmp_path, 1).__enter__()


def test_it_runs_only_where_it_is_asked_for() -> None:
    kind = runner_kind("openvino", Device.CPU)
    assert kind.formats == (Format.ONNX,)
    assert kind.name not in {runtime.value for runtime in Runtime}


def test_page_shows_the_file_that_is_there_and_every_fault() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(r'--8<-- "(.+)"', page)
    assert (ROOT / shown) == Path(openvino_runner.__file__).resolve()
    for fault in Fault:
        assert f"| `{fault.value}` |" in page


def test_ctrl_c_is_survived_after_another_thread_let_go_of_openvino(installed: None, tiny_onnx: Path) -> None:
    """The plugin frees a signal stack of its own then; a process with that stack would be killed."""
    code = (
        "import signal, sys, threading\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from edgepress.runners.openvino_runner import on_cpu\n"
        "box = [on_cpu(Path(sys.argv[1]), 1).__enter__()]\n"
        "box[0].infer(np.zeros((1, 8, 8, 3), np.float32))\n"
        "thread = threading.Thread(target=box.clear)\n"
        "thread.start(), thread.join()\n"
        "came = []\n"
        "signal.signal(signal.SIGINT, lambda *_: came.append(True))\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "assert came\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_onnx)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
