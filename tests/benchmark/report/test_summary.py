from dataclasses import replace

import pytest

from benchmark.measurement import Results, Status
from benchmark.quantities import Accuracy, Basis, Speedup, State, Verdict
from benchmark.report.summary import summary
from edgepress.artifact import Precision


def with_int8(results: Results, speedup: Speedup, found: Accuracy | None) -> Results:
    """The first INT8 row that ran, with this speed-up and accuracy, against a top-1 of 98.2 %."""
    rows = tuple(
        replace(row, speedup=speedup, accuracy=found, size_bytes=1_000)
        if row.artifact == "onnx-int8" and row.status is Status.OK
        else replace(row, size_bytes=4_000)
        for row in results.results
    )
    return replace(results, results=rows, baseline=replace(results.baseline, top1=0.982))


def test_first_sentence_names_the_best_speedup_and_its_cost(
    results: Results, faster: Speedup, measured_accuracy: Accuracy
) -> None:
    first = summary(with_int8(results, faster, measured_accuracy))[0]
    assert first == (
        "INT8 on ONNX Runtime: 2.50× faster [2.40–2.60] than FP32, 4.0× smaller, top-1 −0.2 points (p = 0.5)."
    )


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"top1": None}, "4.0× smaller, agreement with FP32 98.50 %."),
        ({"top1": 0.982, "mcnemar_p": 1.0}, "top-1 unchanged (p = 1)."),
        ({"top1": 0.992, "mcnemar_p": None}, "top-1 +1.0 points."),
        ({"mcnemar_p": 1e-9}, "top-1 −0.2 points (p < 0.001)."),
    ],
)
def test_first_sentence_tells_the_cost_in_accuracy(
    results: Results,
    faster: Speedup,
    measured_accuracy: Accuracy,
    changes: dict[str, float | None],
    ending: str,
) -> None:
    first = summary(with_int8(results, faster, replace(measured_accuracy, **changes)))[0]  # type: ignore[arg-type]
    assert first.endswith(ending)
    assert ("p =" in first) == ("p =" in ending)


def test_first_sentence_says_if_accuracy_is_not_known(results: Results, faster: Speedup) -> None:
    assert summary(with_int8(results, faster, None))[0].endswith("smaller, accuracy not known.")


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(4_000, "of the same size"), (8_000, "2.0× larger"), (1_250, "3.2× smaller")]
)
def test_first_sentence_tells_the_size(
    results: Results, faster: Speedup, measured_accuracy: Accuracy, size_bytes: int, words: str
) -> None:
    base = with_int8(results, faster, measured_accuracy)
    rows = tuple(replace(r, size_bytes=size_bytes) if r.speedup is faster else r for r in base.results)
    assert f", {words}, top-1" in summary(replace(base, results=rows))[0]


def test_each_runner_with_a_faster_version_has_a_sentence_the_best_one_first(
    results: Results, faster: Speedup, measured_accuracy: Accuracy
) -> None:
    base = with_int8(results, faster, measured_accuracy)
    row = next(row for row in base.results if row.speedup is faster)
    better = replace(faster, median=3.0, ci95=(2.9, 3.1))
    other = replace(row, runner="acme", speedup=better, precision=Precision.MIXED)
    found = summary(replace(base, results=(*base.results, other, replace(other, speedup=faster))))
    assert found[0].startswith("Mixed precision on acme: 3.00× faster")
    assert found[1].startswith("INT8 on ONNX Runtime: 2.50× faster")
    assert not any("faster [" in sentence for sentence in found[2:])


def test_nothing_is_claimed_that_the_interval_does_not_show(
    results: Results, measured_accuracy: Accuracy
) -> None:
    slow = Speedup(1.1, (0.9, 1.3), "onnx-fp32", Basis.PAIRED, (1.1,), (1,))
    base = with_int8(results, slow, measured_accuracy)
    rows = tuple(
        replace(row, speedup=slow) if row.precision is Precision.FP16 and row.speedup else row
        for row in base.results
    )
    assert summary(replace(base, results=rows))[0] == (
        "No version is shown to be faster than FP32 on this machine."
    )


def test_times_that_are_not_believed_are_not_told(
    results: Results, faster: Speedup, measured_accuracy: Accuracy
) -> None:
    unstable = Verdict(State.UNSTABLE, ("other processes took 45% of the CPU meanwhile",))
    base = with_int8(results, faster, measured_accuracy)
    rows = tuple(replace(r, verdict=unstable) if r.speedup is faster else r for r in base.results)
    found = summary(replace(base, results=rows))
    assert not any("2.50×" in sentence for sentence in found)
    assert (
        "1 of 3 times is not believed here (1 unstable): see the notes. Measure --again on a quiet machine."
        in found
    )
    assert any(sentence.startswith("The lowest latency of those that are believed is ") for sentence in found)


def test_nothing_is_claimed_where_no_time_is_believed(results: Results) -> None:
    invalid = Verdict(State.INVALID, ("it ran elsewhere",))
    rows = tuple(replace(r, verdict=r.verdict and invalid) for r in results.results)
    (first, *others) = summary(replace(results, results=rows))
    assert first == "3 of 3 times are not believed here (3 invalid): see the notes."
    assert not any("lowest latency" in sentence for sentence in others)


def test_failed_rows_and_quick_measurements_are_told(results: Results) -> None:
    failed = replace(results.results[0], status=Status.FAILED, reason="r", latency=None)
    found = summary(replace(results, results=(failed, *results.results[1:])))
    assert "1 row failed: onnx-fp32." in found
    assert found[-1] == "These are quick measurements: for a look, not for a decision."


def test_doubts_about_the_machine_are_told(filled: Results, results: Results) -> None:
    told = "The machine gave reason for doubt before the measurement: governor."
    assert told in summary(filled)
    assert not any("doubt" in sentence for sentence in summary(replace_preflight(results)))


def replace_preflight(results: Results) -> Results:
    """Without findings."""
    return replace(results, environment=replace(results.environment, preflight=()))
