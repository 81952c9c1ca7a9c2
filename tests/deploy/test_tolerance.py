"""A right model is VALID however it is run; a wrong one is INVALID though its checksums are right."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.executions import Execution, Place, onnx_ways
from deploy.tolerance import Deviation, tolerance_of

Copy = Callable[[Path], Path]
Sums = Callable[[Path], None]
Scripts = Callable[[Path], tuple[Any, Any]]
LOGITS = np.array([[0, 10], [5, -10]], np.float32)  # a spread of 20


@pytest.mark.parametrize(
    ("executions", "moved", "allowed"),
    [
        ((Deviation(1e-6, 1e-7),), None, Deviation(2e-3, 2e-3)),  # 1e-4 of the spread
        ((Deviation(0.1, 0.02), Deviation(0.05, 0.04)), None, Deviation(0.15, 0.06)),  # 1.5 times the largest
        ((Deviation(0.1, 0.02),), Deviation(0.8, 0.1), Deviation(0.2, 0.03)),  # a quarter of 0.8; 1.5 × 0.02
    ],
)
def test_tolerance_is_the_largest_of_executions_and_floors(
    executions: tuple[Deviation, ...], moved: Deviation | None, allowed: Deviation
) -> None:
    found = tolerance_of(LOGITS, executions, moved, 0.25)
    assert (found.allowed.largest, found.allowed.rms) == pytest.approx((allowed.largest, allowed.rms))
    assert "1.5 times the largest difference between the executions" in found.rule
    assert ("0.25 of the difference from the logits of FP32" in found.rule) is (moved is not None)


class Session:
    """As a backend gives it, with options of the test's own."""

    where = "test"

    def __init__(self, session: Any) -> None:
        self.run = lambda inputs: session.run(None, {session.get_inputs()[0].name: inputs})[0]

    def close(self) -> None:
        pass


def session_of(path: Path, execution: Execution) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, execution.level)
    options.intra_op_num_threads = execution.threads
    for name, value in execution.entries:
        options.add_session_config_entry(name, value)
    return Session(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


OTHERS = (
    *onnx_ways(Place.LIKE_HERE).others,
    Execution("basic", "ORT_ENABLE_BASIC"),
    Execution("float, extended", "ORT_ENABLE_EXTENDED", 2, (("session.disable_quant_qdq", "1"),)),
)


def test_right_model_is_valid_however_it_is_run(
    bundle: Path, scripts_of: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verify = scripts_of(bundle)
    for execution in OTHERS:  # the last two took no part in the tolerance
        session = session_of(bundle / "model.onnx", execution)
        monkeypatch.setattr(sys.modules["bundle"], "open_session", lambda *_, session=session: session)
        done, verdict = verify.verify()
        assert verdict == "VALID", (execution, done)


def wrong_models(model: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a QDQ model, each with one weight's scale 2 % off or the bias of one convolution dropped."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantized = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}

    def changed(name: str, times: float) -> Any:
        tensor = tensors[name]
        right = tensor.SerializeToString()
        value = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((value * times).astype(value.dtype), name))
        content = model.SerializeToString()
        tensor.ParseFromString(right)
        return content

    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm", "MatMul"}:
            weight = dequantized[node.input[1]]
            yield f"scale of {weight.input[0]}", changed(weight.input[1], 1.02)
        if node.op_type == "Conv":
            bias = node.input[2]
            yield f"no {bias}", changed(dequantized[bias].input[0] if bias in dequantized else bias, 0)


def test_wrong_model_is_invalid(
    bundle: Path, measured: Path, copy_of: Copy, write_sums: Sums, scripts_of: Scripts
) -> None:
    import onnx

    folder = copy_of(bundle)
    right = (folder / "model.onnx").read_bytes()
    wrong = dict(wrong_models(onnx.load_from_string(right)))
    assert len(wrong) == 16 + 13
    wrong["another version"] = (measured / "onnx-fp32.onnx").read_bytes()
    _, verify = scripts_of(folder)
    for name, content in wrong.items():
        (folder / "model.onnx").write_bytes(content)
        write_sums(folder)
        done, verdict = verify.verify()
        assert verdict == "INVALID", (name, done)
        assert done[-1][1].startswith("logits differ by up to"), name
    (folder / "model.onnx").write_bytes(right)
    write_sums(folder)
    assert verify.verify()[1] == "VALID"


def test_red_and_blue_in_the_other_order_are_invalid(
    bundle: Path, scripts_of: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verify = scripts_of(bundle)
    module = sys.modules["bundle"]
    right = module.logits_of
    monkeypatch.setattr(
        module, "logits_of", lambda session, manifest, pictures: right(session, manifest, pictures[..., ::-1])
    )
    assert verify.verify()[1] == "INVALID"


@pytest.mark.parametrize(("tensor", "times"), [("weights", 1.02), ("weights", 1.001), ("bias", 0)])
def test_wrong_float_model_is_invalid(
    small_bundle: Path, write_sums: Sums, scripts_of: Scripts, tensor: str, times: float
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(small_bundle / "model.onnx")
    found = next(one for one in model.graph.initializer if one.name == tensor)
    found.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(found) * np.float32(times), tensor))
    onnx.save(model, small_bundle / "model.onnx")
    write_sums(small_bundle)
    done, verdict = scripts_of(small_bundle)[1].verify()
    assert verdict == "INVALID", done


@pytest.mark.parametrize("content", ["one answer", "infinite"])
def test_model_that_proves_nothing_is_not_bundled(small: Path, tmp_path: Path, content: str) -> None:
    import onnx
    from onnx import numpy_helper

    from deploy.golden import Form, golden_of
    from edgepress.errors import ProofError
    from edgepress.interface import PLAIN, Activation
    from edgepress.preprocessing import Preprocessing, PreprocessMode

    model = onnx.load(small / "onnx-fp32.onnx")
    weights = np.full((192, 3), 0 if content == "one answer" else 1e38, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(ProofError, match="wanted finite logits that depend on the picture"):
        ways = onnx_ways(Place.LIKE_HERE)
        form = Form(Preprocessing(PreprocessMode.NONE, 8, 8), PLAIN, Activation.SOFTMAX, ways)
        golden_of(path, path, form, None)


@pytest.mark.parametrize(
    ("place", "golden", "moved_share"),
    [
        (Place.LIKE_HERE, "as infer.py runs it, 1 thread", 0.25),
        (Place.OTHER_CPU, "Q/DQ in float, moved as for integer kernels", 0.75),
        (Place.GPU, "Q/DQ in float, where the file has it", 1.0),
    ],
)
def test_golden_answers_for_elsewhere_need_no_integer_kernel_of_this_machine(
    place: Place, golden: str, moved_share: float
) -> None:
    ways = onnx_ways(place)
    assert (ways.golden.name, ways.moved_share) == (golden, moved_share)
    assert any(way.threads == 2 and way.level == ways.golden.level for way in ways.others)
    names = [way.name for way in (ways.golden, *ways.others)]
    assert len(set(names)) == len(names)
    if place is not Place.LIKE_HERE:
        assert all(("session.disable_quant_qdq", "1") in way.entries for way in (ways.golden, *ways.others))
