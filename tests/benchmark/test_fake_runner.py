"""The fake runner under the real harness: each fault, and what the parent says of it."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.latency import Extent
from benchmark.measurement import Results, Status
from benchmark.protocol import Block, FailureKind, First, Occupied, Open, Opened, Prepare, Samples, Timed
from benchmark.worker_process import WorkerError, WorkerProcess
from edgepress.artifact import Device
from edgepress.errors import InputError
from edgepress.record import to_json
from edgepress.runners import fake_runner
from edgepress.runners.fake_runner import NAME, FakeScript, Fault
from edgepress.runners.runner import runner_kinds

MS = 1_000_000
IMAGES = np.zeros((3, 8, 8, 3), np.float32)
SCRIPT = FakeScript((0.5, 2.0), (MS, 3 * MS), Fault.NONE, 0)


def scripted(folder: Path, script: FakeScript) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(b"no model")
    (folder / "m.onnx.fake.json").write_text(json.dumps(to_json(script)))
    return path


def ask_for_inferences(folder: Path, script: FakeScript, patience_s: float = 30) -> Samples:
    """What the harness asks of a runner: open it, the first inference, three more."""
    path = scripted(folder, script)
    np.save(folder / "input.npy", IMAGES[:1])
    with WorkerProcess() as process:
        process.ask(Prepare(NAME, Device.CPU), Occupied)
        process.ask(Open(NAME, Device.CPU, str(path), 1), Opened)
        process.ask(First(str(folder / "input.npy")), Timed, patience_s)
        return process.ask(Block(Extent(0, 0), Extent(0, 3)), Samples, patience_s)


def test_fake_lasts_as_long_as_its_script_says_again_and_again(tmp_path: Path) -> None:
    found = ask_for_inferences(tmp_path, SCRIPT)
    wanted = (3 * MS, MS, 3 * MS)  # the first inference took the first duration
    assert all(measured >= ns for measured, ns in zip(found.samples_ns, wanted, strict=True))
    assert found.samples_ns[1] < 3 * MS


def test_fake_gives_the_logits_of_its_script_or_of_a_file_row_by_row(tmp_path: Path) -> None:
    with fake_runner.on_cpu(scripted(tmp_path, SCRIPT), 1) as runner:
        np.testing.assert_array_equal(runner.infer(IMAGES), [[0.5, 2.0]] * 3)
    rows = np.asarray([[1, 2], [3, 4]], np.float32)
    np.save(tmp_path / "m.onnx.fake.npy", rows)
    with fake_runner.on_cpu(scripted(tmp_path, replace(SCRIPT, logits=None)), 1) as runner:
        found = runner.infer(IMAGES)
    np.testing.assert_array_equal(found, rows[[0, 1, 0]])
    assert found.dtype == np.float32


def test_fake_that_prints_harms_no_answer(tmp_path: Path) -> None:
    assert len(ask_for_inferences(tmp_path, replace(SCRIPT, fault=Fault.PRINT)).samples_ns) == 3


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (Fault.REFUSE, FailureKind.INPUT, "The script of .* refuses it"),
        (Fault.CRASH_AT_LOAD, FailureKind.CRASH, "ended by SIGABRT"),
        (Fault.CRASH, FailureKind.CRASH, "ended by SIGABRT"),
        (Fault.KILLED, FailureKind.CRASH, r"ended by SIGKILL \(out of memory\?\)"),
        (Fault.EXIT, FailureKind.CRASH, "ended with exit code 0: it said nothing"),
        (Fault.RAISE, FailureKind.CRASH, "exit code 1: ValueError: the script of the runner fake says so"),
        (Fault.OUT_OF_MEMORY, FailureKind.CRASH, "exit code 1: .*MemoryError"),
        (Fault.GPU_LOST, FailureKind.DEVICE, "cudaErrorUnknown, .* The GPU does not answer any more"),
        (Fault.HANG, FailureKind.TIMEOUT, "no answer to Block within 1 s"),
        (Fault.GARBAGE, FailureKind.CRASH, "its process gave b'{garbage' for an answer to Block"),
    ],
)
def test_harness_says_what_went_wrong(fault: Fault, kind: FailureKind, text: str, tmp_path: Path) -> None:
    patience_s = 1 if fault is Fault.HANG else 60
    with pytest.raises(WorkerError, match=text) as caught:
        ask_for_inferences(tmp_path, replace(SCRIPT, fault=fault, fault_at=2), patience_s)
    assert caught.value.failure.kind is kind


def test_fault_comes_at_its_inference_and_not_before(tmp_path: Path) -> None:
    script = replace(SCRIPT, durations_ns=(0,), fault=Fault.RAISE, fault_at=2)
    with fake_runner.on_cpu(scripted(tmp_path, script), 1) as runner:
        runner.infer(IMAGES[:2])
        with pytest.raises(ValueError, match="says so"):
            runner.infer(IMAGES[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "needs a script at .*m.onnx.fake.json: No such file"),
        ("{", "is no script of the runner fake"),
        ('{"logits": [1]}', "missing or unknown fields: durations_ns, fault, fault_at"),
        (json.dumps(to_json(replace(SCRIPT, durations_ns=()))), "durations_ns has to hold at least one"),
        (json.dumps(to_json(replace(SCRIPT, durations_ns=(-1,)))), "none below 0"),
        (json.dumps(to_json(replace(SCRIPT, logits=None))), "has no logits, and .*fake.npy cannot be read"),
    ],
)
def test_fake_refuses_what_is_no_script(text: str | None, message: str, tmp_path: Path) -> None:
    path = scripted(tmp_path, SCRIPT)
    script = tmp_path / "m.onnx.fake.json"
    script.unlink() if text is None else script.write_text(text)
    with pytest.raises(InputError, match=message) as caught, fake_runner.on_cpu(path, 1):
        pass
    assert "\n" not in str(caught.value)


def test_fake_is_never_what_an_artifact_was_made_for() -> None:
    from edgepress.artifact import Runtime

    assert NAME not in {runtime.value for runtime in Runtime}
    assert max(runner_kinds(), key=lambda kind: kind.rank).name == NAME


def test_sleep_of_the_fake_is_exact_enough(tmp_path: Path) -> None:
    script = replace(SCRIPT, durations_ns=(5 * MS,))
    with fake_runner.on_cpu(scripted(tmp_path, script), 1) as runner:
        start_ns = time.perf_counter_ns()
        runner.infer(IMAGES[:1])
        assert time.perf_counter_ns() - start_ns >= 5 * MS


def test_a_row_that_is_killed_fails_and_the_others_go_on(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], tiny_folder: Path, tiny_data: str
) -> None:
    """The command itself: FP32 takes 4 ms, FP16 takes 2 ms, INT8 is killed while it is measured."""
    logits = (0.0, 1.0, 2.0, 3.0)
    scripts = {
        "onnx-fp32": FakeScript(logits, (4 * MS,), Fault.NONE, 0),
        "onnx-wf16_af16": FakeScript(logits, (2 * MS,), Fault.PRINT, 0),
        "onnx-int8": FakeScript(logits, (MS,), Fault.KILLED, 30),
    }
    for name, script in scripts.items():
        (tiny_folder / f"{name}.onnx.fake.json").write_text(json.dumps(to_json(script)))
    words = ("--data", tiny_data, "--quick", "--runner", NAME, "--variant", *scripts)
    done = cli("benchmark", tiny_folder, *words)
    assert done.returncode == 1
    assert "failed: onnx-int8 on fake: its process was ended by SIGKILL (out of memory?)" in done.stderr
    assert "Traceback" not in done.stderr
    rows = {row.artifact: row for row in Results.load(tiny_folder).results}
    assert [row.status for row in rows.values()] == [Status.OK, Status.OK, Status.FAILED]
    speedup = rows["onnx-wf16_af16"].speedup
    assert speedup is not None
    assert speedup.median == pytest.approx(2, rel=0.03)


def test_a_gpu_that_is_lost_ends_its_row_and_the_others_are_kept(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], tiny_folder: Path, tiny_data: str
) -> None:
    scripts = {
        "onnx-fp32": FakeScript((0.0, 1.0, 2.0, 3.0), (4 * MS,), Fault.NONE, 0),
        "onnx-wf16_af16": FakeScript((0.0, 1.0, 2.0, 3.0), (2 * MS,), Fault.GPU_LOST, 30),
        "onnx-int8": FakeScript((0.0, 1.0, 2.0, 3.0), (MS,), Fault.NONE, 0),
    }
    for name, script in scripts.items():
        (tiny_folder / f"{name}.onnx.fake.json").write_text(json.dumps(to_json(script)))
    words = ("--data", tiny_data, "--quick", "--runner", NAME, "--variant", *scripts)
    done = cli("benchmark", tiny_folder, *words)
    assert done.returncode == 1
    assert "failed: onnx-wf16_af16 on fake: CUDA: cudaStreamSynchronize gave cudaErrorUnknown" in done.stderr
    assert "Traceback" not in done.stderr
    rows = {row.artifact: row for row in Results.load(tiny_folder).results}
    assert [row.status for row in rows.values()] == [Status.OK, Status.FAILED, Status.OK]
    assert rows["onnx-int8"].latency is not None
