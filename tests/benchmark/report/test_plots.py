import re
from dataclasses import replace

import numpy as np
import pytest

from benchmark.measurement import Result, Results
from benchmark.quantities import State, Verdict
from benchmark.report.pareto import Standing, front_in_words, pareto_front, standing
from benchmark.report.plot_distributions import relative_samples
from benchmark.report.plot_labels import place_labels
from benchmark.report.plot_pareto import pareto_svg
from benchmark.report.plot_roofline import roofline_svg
from benchmark.report.plot_style import looks
from benchmark.report.plot_throughput import throughput_svg

REJECTED = Verdict(State.UNSTABLE, ("it drifted",))


def placed(results: Results, *places: tuple[str, float, float, Verdict | None]) -> Results:
    """Rows with these names, medians (ms), top-1 and verdicts."""
    base = next(row for row in results.results if row.latency is not None and row.accuracy is not None)
    assert base.latency is not None
    assert base.accuracy is not None
    rows: list[Result] = []
    for name, median_ms, top1, verdict in places:
        latency = replace(base.latency, median_ns=median_ms * 1e6)
        accuracy = replace(base.accuracy, top1=top1)
        rows.append(replace(base, artifact=name, latency=latency, accuracy=accuracy, verdict=verdict))
    return replace(results, results=tuple(rows), baseline=replace(results.baseline, top1=0.99))


def test_front_has_what_no_other_believed_version_beats_in_both(results: Results) -> None:
    found = placed(
        results,
        ("slow and good", 4.0, 0.99, None),
        ("quick and poor", 1.0, 0.90, None),
        ("between", 2.0, 0.95, None),
        ("beaten", 3.0, 0.94, None),
        ("as good and slower", 4.5, 0.99, None),
        ("rejected", 0.5, 0.99, REJECTED),
    )
    front = pareto_front(found)
    assert [row.artifact for row in front] == ["quick and poor", "between", "slow and good"]
    assert {row.artifact: standing(row, front) for row in found.results if row not in front} == {
        "beaten": Standing.BEATEN,
        "as good and slower": Standing.BEATEN,
        "rejected": Standing.REJECTED,
    }
    sentences = front_in_words(found)
    assert sentences[0].startswith("No other version beats these in both latency and top-1 accuracy: quick ")
    assert sentences[1] == "Rejected, because their times are not believed: rejected on ONNX Runtime."


def test_versions_that_are_alike_are_both_on_the_front(results: Results) -> None:
    found = placed(results, ("a", 1.0, 0.9, None), ("b", 1.0, 0.9, None))
    assert [row.artifact for row in pareto_front(found)] == ["a", "b"]


def test_pareto_without_labels_goes_by_agreement(results: Results) -> None:
    found = placed(results, ("a", 1.0, 0.9, None))
    found = replace(found, baseline=replace(found.baseline, top1=None))
    assert "latency and agreement with FP32: a on" in front_in_words(found)[0]


def test_pareto_plot_of_nothing(results: Results) -> None:
    assert "<svg" in pareto_svg(replace(results, results=()))


def test_looks_are_stable_and_told_apart() -> None:
    known = looks(["onnxruntime", "litert"])
    names = [f"runner-{i}" for i in range(6)]
    found = looks([*names, "onnxruntime", "litert"])
    assert {name: found[name] for name in known} == known
    assert len({look.marker for look in found.values()}) == len(found)
    assert len({look.colour for look in found.values()}) == len(found)
    assert looks(["openvino"])["openvino"] == looks(["litert", "openvino"])["openvino"]
    assert re.fullmatch(r"#[0-9a-f]{6}", found["runner-0"].colour)


def test_relative_samples_have_their_median_at_the_inverse_speedup(results: Results) -> None:
    for row in results.results:
        if row.speedup is not None:
            assert np.median(relative_samples(row)) == pytest.approx(1 / row.speedup.median)


def test_no_plot_of_throughput_over_a_single_batch(filled: Results) -> None:
    assert throughput_svg(filled) is not None
    rows = tuple(replace(row, offline=row.offline[:1]) for row in filled.results)
    assert throughput_svg(replace(filled, results=rows)) is None


def test_roofline_plot_needs_a_rate_and_a_version(filled: Results) -> None:
    assert roofline_svg(filled) is not None
    environment = filled.environment
    assert environment.ceilings is not None
    bare = replace(environment, ceilings=replace(environment.ceilings, gemm=()))
    assert roofline_svg(replace(filled, environment=bare)) is None
    unread = replace(environment, ceilings=replace(environment.ceilings, read_bytes_per_s=None))
    assert (
        "memory" not in (roofline_svg(replace(filled, environment=unread)) or "memory").partition("<desc")[0]
    )
    assert roofline_svg(replace(filled, results=())) is None


def test_place_labels_writes_no_label_over_another() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [(1 + i / 50, 50.0, 300.0, f"tflite-static_wi8_ai8 {i}") for i in range(8)]
    axes.set_xlim(0, 3)
    axes.set_ylim(0, 100)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in place_labels(axes, points)]
    for i, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
