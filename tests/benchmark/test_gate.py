import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.gate import checks_of, requirement_of
from benchmark.measurement import Result, Results, Status
from benchmark.quantities import Basis, Profile, Speedup, State, Throughput, Verdict
from edgepress.errors import InputError

VALID = Verdict(State.VALID, ())


@pytest.fixture
def results(measured_tiny: Results) -> Results:
    """The tiny folder, all times believed, with a known speed-up and known shares for onnx-int8."""
    believed = (replace(row, verdict=row.verdict and VALID) for row in measured_tiny.results)
    rows = tuple(_known(row) if row.artifact == "onnx-int8" and row.latency else row for row in believed)
    return replace(measured_tiny, results=rows, baseline=replace(measured_tiny.baseline, top1=0.75))


def _known(row: Result) -> Result:
    assert row.accuracy is not None
    assert row.latency is not None
    return replace(
        row,
        speedup=Speedup(1.9, (1.8, 2.0), "onnx-fp32", Basis.PAIRED, (1.9,), (1,)),
        accuracy=replace(row.accuracy, top1=0.745, agreement=0.9, logit_snr_db=30.0),
        latency=replace(row.latency, p99_ns=None, percentile_note="p99 needs 662 samples, and there are 70"),
        size_bytes=2_000_000,
    )


def held(results: Results, text: str) -> list[bool]:
    return [check.passed for check in checks_of(results, (requirement_of(text),))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("artifact=onnx-int8 runner=onnxruntime: speedup>=1.9", [True]),
        ("artifact=onnx-int8 runner=onnxruntime: speedup>1.9", [False]),
        ("artifact=onnx-int8 runner=onnxruntime: speedup_low>=1.9", [False]),
        ("artifact=onnx-int8 runner=onnxruntime: top1_drop<=0.5, top1>=75", [True, False]),
        ("artifact=onnx-int8 runner=onnxruntime: top1_drop<0.5", [False]),
        ("artifact=onnx-int8 runner=onnxruntime: agreement>=90, snr_db>=30, size_mb<=2", [True, True, True]),
        ("artifact=onnx-int8 runner=onnxruntime: size_mb<2", [False]),
        ("artifact=onnx-fp32 device=cpu: snr_db>=200", [True]),  # identical: no noise at all
        ("format=onnx runner=onnxruntime: median_ms<1e3", [True, True, True]),
        (": median_ms<1e3", [True, True, True, False]),  # the emulation has no time
    ],
)
def test_checks_of_holds_each_condition_against_each_row(
    results: Results, text: str, expected: list[bool]
) -> None:
    assert held(results, text) == expected


def test_checks_of_says_what_was_found(results: Results) -> None:
    gate = (requirement_of("artifact=onnx-int8 runner=onnxruntime: speedup>=2.5"),)
    (check,) = checks_of(results, gate)
    assert check.finding == "speedup is 1.9, wanted speedup>=2.5"
    assert (check.artifact, check.value, check.requirement) == ("onnx-int8", 1.9, gate[0].text)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("runner=onnxruntime-emulation: speedup>=1", r"speedup is not known \(accuracy only"),
        ("artifact=onnx-int8 runner=onnxruntime: p99_ms<=1e9", r"p99_ms is not known \(.*p99 needs 662"),
        ("device=cuda: speedup>=1", "no row that this means ran .*no CUDA device"),
        ("artifact=nothing: speedup>=1", "no row that this means ran .no row is of this kind"),
        ("artifact=onnx-int8 runner=onnxruntime: images_per_s>=1", "images_per_s is not known"),
        ("format=engine: size_mb<=1", "no row that this means ran"),
    ],
)
def test_what_is_not_known_does_not_hold(results: Results, text: str, finding: str) -> None:
    (check,) = checks_of(results, (requirement_of(text),))
    assert not check.passed
    assert check.value is None
    assert re.search(finding, check.finding), check.finding


def test_what_ran_in_int8_can_be_held(results: Results) -> None:
    """MACs by the file, time by the profiler, memory and throughput by their own passes."""
    assert held(results, "artifact=onnx-int8 runner=onnxruntime: int8_macs>=99") == [True]
    profile = Profile(2, (), {}, {}, {"int8": 0.75, "fp32": 0.25})
    fast = Throughput(8, (1,), 900.0, None, None)
    slow = Throughput(1, (1,), 400.0, None, None)
    rows = tuple(
        replace(row, profile=profile, offline=(slow, fast)) if row.latency else row for row in results.results
    )
    known = replace(results, results=rows)
    row = "artifact=onnx-int8 runner=onnxruntime: "
    assert held(known, f"{row}int8_time>=75, int8_time>75") == [True, False]
    assert held(known, f"{row}images_per_s>=900, loaded_mb<=1000, device_mb<=1") == [True, True, False]


def test_a_time_of_an_unstable_row_does_not_hold_but_its_accuracy_may(results: Results) -> None:
    verdict = Verdict(State.UNSTABLE, ("other processes took 45% of the CPU meanwhile",))
    rows = tuple(replace(row, verdict=verdict if row.verdict else None) for row in results.results)
    gate = (requirement_of("artifact=onnx-int8 runner=onnxruntime: speedup>=1.5, top1_drop<=0.5"),)
    time, drop = checks_of(replace(results, results=rows), gate)
    assert not time.passed
    assert time.finding == (
        "speedup is 1.9, but the row is UNSTABLE (other processes took 45% of the CPU meanwhile); "
        "wanted speedup>=1.5"
    )
    assert drop.passed


def test_a_row_that_failed_does_not_hold(results: Results) -> None:
    rows = tuple(
        replace(row, status=Status.FAILED, reason="it crashed", speedup=None)
        if row.artifact == "onnx-int8" and row.status is Status.OK
        else row
        for row in results.results
    )
    (check,) = checks_of(
        replace(results, results=rows), (requirement_of("artifact=onnx-int8 device=cpu: speedup>=1"),)
    )
    assert not check.passed
    assert check.finding == "speedup is not known (it crashed); wanted speedup>=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speedup>=1.5", "--require wants FIELD=VALUE"),
        ("precision=int8:", "--require wants FIELD=VALUE"),
        ("int8: speedup>=1", "'int8' is no FIELD=VALUE, such as precision=int8"),
        ("precison=int8: speedup>=1", "Unknown field of --require 'precison'. Did you mean 'precision'"),
        ("precision=in8: speedup>=1", "Unknown precision of --require 'in8'. Did you mean 'int8'"),
        ("runner=ort: speedup>=1", "Unknown runner of --require 'ort'"),
        ("precision=int8: sped>=1", "Unknown quantity of --require 'sped'. Did you mean 'speedup'"),
        ("precision=int8: speedup=1", "'speedup=1' is no QUANTITY>=NUMBER"),
        ("precision=int8: speedup>=fast", "'speedup>=fast' is no QUANTITY>=NUMBER"),
        ("precision=int8: speedup>=1,", "'' is no QUANTITY>=NUMBER"),
    ],
)
def test_requirement_of_refuses_what_it_cannot_hold(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        requirement_of(text)


def test_gate_decides_the_exit_code(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], tiny_folder: Path, tiny_data: str
) -> None:
    def run(gate: str) -> "subprocess.CompletedProcess[str]":
        words = ("--data", tiny_data, "--quick", "--variant", "onnx-fp32", "--require", gate)
        return cli("benchmark", tiny_folder, *words)

    passed, failed, wrong = run("artifact=onnx-fp32: top1_drop<=0"), run("precision=int8: top1>=0"), run("x")
    assert [done.returncode for done in (passed, failed, wrong)] == [0, 1, 2]
    assert "gate holds: onnx-fp32 on onnxruntime: top1_drop is 0, wanted top1_drop<=0" in passed.stdout
    assert "gate FAILS: no row that this means ran (no row is of this kind)" in failed.stdout
    assert wrong.stderr.startswith("edgepress: --require wants FIELD=VALUE")
