"""The ways in which LiteRT runs a file: they are what their names say, and all of them are right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.executions import Execution
from deploy.golden import Form, golden_of
from deploy.tflite_executions import EXECUTIONS, GOLDEN, run_tflite, tflite_ways
from edgepress.errors import InputError
from edgepress.interface import Interface
from edgepress.manifest import Manifest
from edgepress.runners.litert_runner import LiteRtRunner
from tests.deploy.linear_tflite import OUTPUT, SIDE, save_linear

ALL = (GOLDEN, *EXECUTIONS)
FIXED = Interface(batch=1)


def named(execution: Execution) -> str:
    return execution.name


@pytest.mark.parametrize("execution", ALL, ids=named)
def test_execution_is_what_it_is_called(tmp_path: Path, execution: Execution) -> None:
    path = save_linear(tmp_path / "m.tflite").path
    with LiteRtRunner(path, execution.threads, execution.level) as runner:
        has_delegate = runner.evidence.startswith("XNNPACK delegate")
    assert has_delegate is ("without XNNPACK" not in execution.name)
    assert execution.threads == (2 if "2 threads" in execution.name else 1)


@pytest.mark.parametrize("execution", ALL, ids=named)
@pytest.mark.parametrize("form", [{}, {"pixels": True}, {"batch": 2}, {"features": True}, {"integers": True}])
def test_execution_gives_what_the_network_means(tmp_path: Path, execution: Execution, form: Any) -> None:
    linear = save_linear(tmp_path / "m.tflite", **form)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    inputs = pixels if linear.pixels else (pixels / 127.5 - 1).astype(np.float32)
    scores = run_tflite(execution, linear.path, inputs, linear.artifact().interface)
    assert scores.dtype == np.float32
    assert scores.shape == (3, 3)
    assert np.abs(scores - linear.logits(inputs)).max() < (OUTPUT.scale if linear.integers else 1e-4)


def test_executions_have_names_of_their_own() -> None:
    ways = tflite_ways()
    assert (ways.golden, ways.others, ways.run) == (GOLDEN, EXECUTIONS, run_tflite)
    assert len({execution.name for execution in ALL}) == len(ALL) == 3
    assert len({(execution.level, execution.threads) for execution in ALL}) == len(ALL)


@pytest.mark.parametrize("artifact_id", ["tflite-fp32", "tflite-wf16_af32", "tflite-static_wi8_ai8"])
def test_digits_differ_by_rounding_and_by_no_more(digits_optimized: Path, artifact_id: str) -> None:
    manifest = Manifest.load(digits_optimized)
    artifact, baseline = manifest.get(artifact_id), manifest.get("tflite-fp32")
    model = manifest.model
    form = Form(model.preprocessing, artifact.interface, model.activation, tflite_ways())
    golden = golden_of(manifest.path_of(artifact), manifest.path_of(baseline), form, None)
    assert golden.execution == "as infer.py runs it, 1 thread"
    assert set(golden.executions) == {execution.name for execution in EXECUTIONS}
    largest = max(deviation.largest for deviation in golden.executions.values())
    assert largest > 0, "LiteRT's own kernels sum in another order than XNNPACK"
    scale = artifact.outputs[0].quantization
    assert largest < (1e-4 if scale is None else 2.01 * scale.scale)
    assert golden.tolerance.allowed.largest < 0.1 * float(np.ptp(golden.logits))


@pytest.mark.parametrize("execution", ALL, ids=named)
def test_damaged_file_is_refused(tmp_path: Path, execution: Execution) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="LiteRT cannot load .*m.tflite: .* Make the file anew"):
        run_tflite(execution, path, np.zeros((1, SIDE, SIDE, 3), np.float32), FIXED)
