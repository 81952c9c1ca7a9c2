import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.changes import Change, Course, Quantity, Tolerance, changes_of, results_at
from benchmark.measurement import RESULTS, Result, Results, Status
from benchmark.plan import FULL
from benchmark.quantities import State, Verdict
from edgepress.errors import InputError, NotComparableError


@pytest.fixture
def results(measured_tiny: Results) -> Results:
    """onnx-fp32 and onnx-int8."""
    rows = (
        replace(row, verdict=row.verdict and Verdict(State.VALID, ()))
        for row in measured_tiny.results
        if row.artifact in {"onnx-fp32", "onnx-int8"}
    )
    return replace(measured_tiny, results=tuple(rows))


def with_int8(results: Results, change: Callable[[Result], Result]) -> Results:
    """Results in which the row of onnx-int8 that ran is another one."""
    rows = (
        change(row) if row.artifact == "onnx-int8" and row.status is Status.OK else row
        for row in results.results
    )
    return replace(results, results=tuple(rows))


def slower(row: Result, factor: float) -> Result:
    """As if every sample had taken `factor` times as long."""
    assert row.latency is not None
    assert row.latency.median_ci95_ns is not None
    low, high = row.latency.median_ci95_ns
    latency = replace(
        row.latency,
        median_ns=row.latency.median_ns * factor,
        median_ci95_ns=(low * factor, high * factor),
    )
    return replace(row, latency=latency)


def less_accurate(row: Result, points: float) -> Result:
    assert row.accuracy is not None
    assert row.accuracy.top1 is not None
    return replace(row, accuracy=replace(row.accuracy, top1=max(0.0, row.accuracy.top1 - points / 100)))


def told(old: Results, new: Results, tolerance: Tolerance | None = None) -> list[Change]:
    found = changes_of(old, new, tolerance or Tolerance())
    return [change for change in found if change.course is not Course.SAME]


def test_changes_of_the_same_run_are_none(results: Results) -> None:
    assert told(results, results) == []
    assert len(changes_of(results, results, Tolerance())) >= 14


@pytest.mark.parametrize(
    ("factor", "course", "bucket"),
    [
        (2.5, Course.WORSE, "≥ 2×"),
        (1.25, Course.WORSE, "≥ 1.2×"),
        (1.06, Course.WORSE, "> 1.05×"),
        (0.5, Course.BETTER, "≥ 2×"),
    ],
)
def test_changes_of_puts_latency_into_a_bucket(
    results: Results, factor: float, course: Course, bucket: str
) -> None:
    old = with_int8(results, narrow)
    (change,) = told(old, with_int8(old, lambda row: slower(row, factor)))
    assert (change.artifact, change.quantity) == ("onnx-int8", Quantity.LATENCY)
    assert (change.course, change.bucket) == (course, bucket)


def narrow(row: Result) -> Result:
    assert row.latency is not None
    median = row.latency.median_ns
    return replace(row, latency=replace(row.latency, median_ci95_ns=(0.99 * median, 1.01 * median)))


def test_changes_of_does_not_tell_of_what_is_below_the_tolerance(results: Results) -> None:
    old = with_int8(results, narrow)
    new = with_int8(old, lambda row: slower(row, 1.15))
    assert told(old, new, Tolerance(percent=20)) == []
    assert told(old, with_int8(old, lambda row: slower(row, 1.04))) == []


def test_changes_of_does_not_tell_of_latencies_whose_intervals_touch(results: Results) -> None:
    def wide(row: Result) -> Result:
        assert row.latency is not None
        median = row.latency.median_ns
        return replace(row, latency=replace(row.latency, median_ci95_ns=(0.8 * median, 1.3 * median)))

    old = with_int8(results, wide)
    assert told(old, with_int8(old, lambda row: slower(row, 1.25))) == []


def test_changes_of_tells_of_any_loss_of_accuracy_on_the_same_pictures(results: Results) -> None:
    new = with_int8(results, lambda row: less_accurate(row, 1.5))
    (change,) = told(results, new)
    assert (change.quantity, change.course, change.bucket) == (Quantity.TOP1, Course.WORSE, "≥ 1 points")
    assert told(results, new, Tolerance(points=1.5)) == []
    assert told(new, results)[0].course is Course.BETTER
    (change,) = told(results, with_int8(results, lambda row: less_accurate(row, 100)))
    assert (change.new, change.course) == (0, Course.WORSE)


def test_changes_of_puts_what_is_worse_first_and_the_largest_first_of_all(results: Results) -> None:
    assert results.results[0].artifact == "onnx-fp32"
    first = replace(results, results=tuple(narrow(row) if row.latency else row for row in results.results))
    rows = list(first.results)
    ran = [i for i, row in enumerate(rows) if row.status is Status.OK]
    rows[ran[0]] = replace(slower(rows[ran[0]], 1.2), size_bytes=rows[ran[0]].size_bytes // 2)
    rows[ran[1]] = slower(rows[ran[1]], 3)
    found = told(first, replace(first, results=tuple(rows)))
    assert [change.course for change in found] == [Course.WORSE, Course.WORSE, Course.BETTER]
    assert found[0].artifact == "onnx-int8"


def test_a_time_that_changed_in_a_disturbed_run_is_unsure_and_not_worse(results: Results) -> None:
    old = with_int8(results, narrow)
    disturbed = Verdict(State.UNSTABLE, ("other processes took 45% of the CPU",))
    new = with_int8(old, lambda row: replace(slower(less_accurate(row, 5), 2), verdict=disturbed))
    loss, time = told(old, new)
    assert (loss.quantity, loss.course) == (Quantity.TOP1, Course.WORSE)
    assert (time.quantity, time.course) == (Quantity.LATENCY, Course.UNSURE)
    assert time.bucket == "≥ 2×, but NEW is unstable: other processes took 45% of the CPU"


def test_logits_that_are_not_identical_any_more_are_worse(results: Results) -> None:
    def identical(row: Result) -> Result:
        assert row.accuracy is not None
        return replace(row, accuracy=replace(row.accuracy, logits_identical=True, logit_snr_db=None))

    def near(row: Result) -> Result:
        assert row.accuracy is not None
        return replace(row, accuracy=replace(row.accuracy, logits_identical=False, logit_snr_db=90.0))

    old, new = with_int8(results, identical), with_int8(results, near)
    (change,) = told(old, new)
    assert (change.course, change.quantity) == (Course.WORSE, Quantity.SNR)
    assert (change.old, change.new, change.bucket) == (None, 90.0, "identical to FP32's logits before")
    assert told(new, old)[0].course is Course.BETTER
    assert told(old, old) == []


def test_a_row_that_ran_and_does_not_any_more_is_gone(results: Results) -> None:
    def crash(row: Result) -> Result:
        return replace(row, status=Status.FAILED, reason="it crashed", latency=None, accuracy=None)

    (change,) = told(results, with_int8(results, crash))
    assert (change.course, change.bucket, change.quantity) == (
        Course.GONE,
        "failed: it crashed",
        Quantity.STATUS,
    )
    assert told(with_int8(results, crash), results)[0].course is Course.NEW


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: machine(r, cpu="Another CPU"), "the machine's cpu is .* in OLD and 'Another CPU' in NEW"),
        (lambda r: machine(r, cores=64), "the machine's cores"),
        (lambda r: replace(r, model=replace(r.model, name="other")), "the model is 'tiny' in OLD"),
        (lambda r: replace(r, boundary="pictures to labels"), "the boundary of the stopwatch"),
        (
            lambda r: replace(r, data=replace(r.data, preprocessing={"mode": "caffe"})),
            "their preprocessing is .*'tf'.* in OLD and .*'caffe'.* in NEW",
        ),
        (lambda r: replace(r, plan=FULL), "the protocol is 'quick' in OLD and 'full' in NEW"),
        (lambda r: replace(r, plan=replace(r.plan, pairs=99)), "differ in how much they measured"),
        (lambda r: replace(r, data=replace(r.data, fingerprint="0" * 64)), "the set of pictures"),
        (lambda r: every_row(r, threads=2), "No row ran in both"),
        (lambda r: every_row(r, batch=8), "No row ran in both"),
    ],
)
def test_what_does_not_mean_the_same_is_refused(
    results: Results, change: Callable[[Results], Results], message: str
) -> None:
    with pytest.raises(NotComparableError, match=message):
        changes_of(results, change(results), Tolerance())


def machine(results: Results, **change: Any) -> Results:
    environment = results.environment
    return replace(results, environment=replace(environment, machine={**environment.machine, **change}))


def every_row(results: Results, **change: Any) -> Results:
    return replace(results, results=tuple(replace(row, **change) for row in results.results))


def test_results_at_takes_a_folder_or_the_file(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path)
    assert results_at(tmp_path) == results_at(tmp_path / RESULTS) == results
    with pytest.raises(InputError, match=r"No results\.json in"):
        results_at(tmp_path / "nowhere")


def test_compare_decides_the_exit_code(
    cli: Callable[..., "subprocess.CompletedProcess[str]"],
    results: Results,
    tmp_path: Path,
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        results.save(folder)
    same = cli("compare", one, other)
    assert same.returncode == 0, same.stderr
    assert same.stdout.startswith("0 worse, 0 better, ")

    with_int8(results, lambda row: less_accurate(row, 20)).save(other)
    worse = cli("compare", one / RESULTS, other, "--json")
    assert worse.returncode == 1
    value = json.loads(worse.stdout)
    assert value["worse"] == 1
    assert value["changes"][0]["quantity"] == "top-1 (%)"

    machine(results, cores=64).save(other)
    refused = cli("compare", one, other)
    assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    assert cli("compare", one, other, "--tolerance", "-1").returncode == 2
