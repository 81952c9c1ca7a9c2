import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.decisions import ClassAccuracy, Decisions, Flip
from benchmark.measurement import Accuracy, Basis, Results, Speedup, State, Status, Verdict
from benchmark.report import html, markdown, refresh_report, write_report
from benchmark.report_plots import place_labels, relative_samples
from benchmark.report_text import (
    decibels,
    details,
    facts,
    measured_table,
    megabytes,
    milliseconds,
    percent,
    summary,
    times,
)
from edgepress.errors import InputError

VALID = Verdict(State.VALID, ())


@pytest.fixture
def results(measured_tiny: Results, tiny_folder: Path) -> Results:
    """As measured, all times believed, and in the file of `tiny_folder`."""
    rows = (replace(row, verdict=row.verdict and VALID) for row in measured_tiny.results)
    found = replace(measured_tiny, results=tuple(rows))
    found.save(tiny_folder)
    return found


def accuracy(top1: float | None, p: float | None = None) -> Accuracy:
    interval = None if top1 is None else (top1 - 0.05, top1 + 0.05)
    return Accuracy(
        images=200,
        top1=top1,
        top5=top1,
        top1_ci95=interval,
        top5_ci95=interval,
        agreement=0.985,
        logit_snr_db=30.0,
        logits_identical=False,
        kl_nats=0.01,
        mcnemar_p=p,
        resolvable=0.03,
        note=None,
    )


def with_int8(results: Results, speedup: Speedup, found: Accuracy) -> Results:
    rows = tuple(
        replace(row, speedup=speedup, accuracy=found)
        if row.artifact == "onnx-int8" and row.status is Status.OK
        else row
        for row in results.results
    )
    return replace(results, results=rows)


FASTER = Speedup(2.5, (2.4, 2.6), "onnx-fp32", Basis.PAIRED, (2.5,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (milliseconds(474_686), "0.475"),
        (milliseconds(3_768_325), "3.77"),
        (milliseconds(204_123_456), "204.1"),
        (milliseconds(None), "–"),
        (megabytes(981_061), "1.0"),
        (megabytes(553_388_688), "553"),
        (megabytes(None), "–"),
        (percent(0.97829), "97.83"),
        (percent(None), "–"),
        (times(None), "–"),
        (times(FASTER), "2.50× [2.40, 2.60]"),
        (times(replace(FASTER, basis=Basis.DEFINITION)), "1 (baseline)"),
        (decibels(None), "–"),
        (decibels(accuracy(None)), "30.0"),
        (decibels(replace(accuracy(None), logit_snr_db=None, logits_identical=True)), "identical"),
        (decibels(replace(accuracy(None), logit_snr_db=None)), "–"),
    ],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected


def test_write_report_has_every_row_and_reason(results: Results, tiny_folder: Path) -> None:
    paths = write_report(tiny_folder)
    assert paths == tuple(tiny_folder / f"report.{ending}" for ending in ("csv", "md", "html"))
    for path in paths[1:]:
        text = path.read_text(encoding="utf-8").replace("&#39;", "'")
        for row in results.results:
            assert row.artifact in text
            assert row.reason is None or row.reason in text
            assert all(warning in text for warning in row.warnings)
            if row.latency is not None:
                assert milliseconds(row.latency.median_ns) in text


def test_html_needs_nothing_else(results: Results) -> None:
    page = html(results)
    assert page.count("<svg") == 2
    assert "<script" not in page
    links = set(re.findall(r"https?://[^\"'\s<>]+", page))
    assert all(link.startswith("http://www.w3.org/") for link in links)  # namespaces of SVG
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "#010203" not in page  # the theme's own colours are in place
    assert "var(--ink)" in page


def test_html_escapes_what_the_user_named(results: Results) -> None:
    page = html(replace(results, data=replace(results.data, source="<b>&")))
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_markdown_table_has_as_many_cells_in_every_line(results: Results) -> None:
    failed = replace(results.results[1], status=Status.FAILED, reason="a | b")
    text = markdown(replace(results, results=(results.results[0], failed, *results.results[2:])))
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert "a \\| b" in text


def test_measured_table_numbers_each_note_once(results: Results) -> None:
    table = measured_table(results)
    assert len(set(table.notes)) == len(table.notes)
    for row in table.rows:
        for number in filter(None, row[-1].split(", ")):
            assert 1 <= int(number) <= len(table.notes)


def test_summary_names_the_best_speedup_and_its_cost(results: Results) -> None:
    base = replace(results, baseline=replace(results.baseline, top1=0.99))
    first = summary(with_int8(base, FASTER, accuracy(0.98, 0.5)))[0]
    assert "onnx-int8 (INT8) runs 2.50 times as fast as onnx-fp32 on onnxruntime" in first
    assert "interval 2.40 to 2.60" in first
    assert "at 34% of its size" in first
    assert "top-1 is 98.00 % on 200 pictures (-1.00 points, within chance (McNemar p = 0.5))" in first


def test_summary_without_labels_tells_the_agreement(results: Results) -> None:
    base = replace(results, baseline=replace(results.baseline, top1=None))
    first = summary(with_int8(base, FASTER, accuracy(None)))[0]
    assert "the same top class as FP32 on 98.50 % of 200 pictures" in first


def test_summary_does_not_claim_what_the_interval_does_not_show(results: Results) -> None:
    slow = Speedup(1.1, (0.9, 1.3), "onnx-fp32", Basis.PAIRED, (1.1,))
    rows = tuple(replace(row, speedup=slow) if row.speedup else row for row in results.results)
    assert summary(replace(results, results=rows))[0].startswith("No version is shown to be faster")


def test_summary_says_nothing_of_times_that_were_disturbed(results: Results) -> None:
    disturbed = Verdict(State.UNSTABLE, ("other processes took 45% of the CPU meanwhile",))
    base = with_int8(results, FASTER, accuracy(0.98, 0.5))
    rows = tuple(replace(r, verdict=disturbed) if r.speedup is FASTER else r for r in base.results)
    found = summary(replace(base, results=rows))
    assert not any("2.50 times" in sentence for sentence in found)
    assert any(s.startswith("1 of 3 times were disturbed and are not counted here") for s in found)
    rows = tuple(replace(r, verdict=r.verdict and disturbed) for r in base.results)
    (first, *_) = summary(replace(base, results=rows))
    assert first.startswith("3 of 3 times were disturbed")


def test_html_of_a_run_in_which_nothing_ran(results: Results) -> None:
    rows = tuple(
        replace(row, status=Status.SKIPPED, reason="r", latency=None, speedup=None, accuracy=None)
        for row in results.results
    )
    assert "No version is shown" in html(replace(results, results=rows))


def test_relative_samples_have_their_median_at_the_inverse_speedup(results: Results) -> None:
    for row in results.results:
        if row.speedup is not None:
            assert np.median(relative_samples(row)) == pytest.approx(1 / row.speedup.median)


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


def test_write_report_without_results_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No results.json in .*edgepress benchmark"):
        write_report(tmp_path)


def test_write_report_refuses_results_that_cannot_be_shown(results: Results, tiny_folder: Path) -> None:
    machine = {**results.environment.machine, "memory_bytes": "much"}
    replace(results, environment=replace(results.environment, machine=machine)).save(tiny_folder)
    with pytest.raises(InputError, match=r"results\.json is damaged .*measure anew"):
        write_report(tiny_folder)
    assert not (tiny_folder / "report.html").exists()


def test_report_csv_has_every_row_with_its_numbers(results: Results, tiny_folder: Path) -> None:
    path = write_report(tiny_folder)[0]
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(results.results)
    for found, row in zip(rows, results.results, strict=True):
        assert (found["artifact"], found["runner"], found["status"]) == (
            row.artifact,
            row.runner.value,
            row.status.value,
        )
        assert found["reason"] == (row.reason or "")
        assert None not in found  # no line has more cells than the head
        if row.latency is not None and row.speedup is not None:
            assert float(found["median_ns"]) == row.latency.median_ns
            assert (float(found["speedup_low"]), float(found["speedup_high"])) == row.speedup.ci95
            assert int(found["samples"]) == len(row.latency.samples_ns)
        else:
            assert found["median_ns"] == found["speedup"] == ""


def test_refresh_report_writes_a_missing_table_again(results: Results, tiny_folder: Path) -> None:
    write_report(tiny_folder)
    (tiny_folder / "report.csv").unlink()
    before = (tiny_folder / "report.html").stat().st_ino
    refresh_report(tiny_folder)
    assert (tiny_folder / "report.csv").is_file()
    assert (tiny_folder / "report.html").stat().st_ino != before
    kept = (tiny_folder / "report.html").stat().st_ino
    refresh_report(tiny_folder)
    assert (tiny_folder / "report.html").stat().st_ino == kept


def test_report_names_the_pictures_that_changed(results: Results, tiny_folder: Path) -> None:
    flips = tuple(Flip(f"dog/{i}.jpg", "dog", "dog", "fox", float(i)) for i in range(25))
    decisions = Decisions((ClassAccuracy("dog", 30, 3, 28), ClassAccuracy("fox", 5, 5, 5)), flips)
    rows = (
        replace(row, decisions=decisions if row.artifact == "onnx-int8" and row.decisions else None)
        for row in results.results
    )
    changed = replace(results, results=tuple(rows))
    (detail,) = details(changed)
    assert detail.title == "onnx-int8 on onnxruntime: 25 of 12 pictures have another top class"
    assert detail.flips.rows[0] == ("dog/24.jpg", "dog", "dog", "fox", "24.00")  # the clearest case first
    assert detail.flips.notes == ("and 5 more in results.json",)
    assert detail.classes.rows == (("dog", "30", "28", "3"),)
    for text in (markdown(changed), html(changed)):
        assert detail.title in text
        assert "dog/24.jpg" in text
        assert "dog/0.jpg" not in text


def test_facts_say_what_the_pictures_can_resolve(results: Results) -> None:
    assert dict(facts(results))["Resolution"] == (
        "12 pictures cannot show a difference of top-1 below 50 points (McNemar, p < 0.05)"
    )
