import csv
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.measurement import Results
from benchmark.report.csv_table import csv_text
from benchmark.report.number_text import milliseconds
from benchmark.report.writing import refresh_report, write_report
from edgepress.errors import InputError


def test_write_report_has_every_row_and_reason(results: Results, saved: Path) -> None:
    paths = write_report(saved)
    assert paths == tuple(saved / f"report.{ending}" for ending in ("csv", "md", "html"))
    for path in paths[1:]:
        text = path.read_text(encoding="utf-8").replace("&#39;", "'").replace("\N{NO-BREAK SPACE}", " ")
        for row in results.results:
            assert row.artifact in text
            assert row.reason is None or row.reason in text
            assert all(warning in text for warning in row.warnings)
            if row.latency is not None:
                assert milliseconds(row.latency.median_ns) in text


def test_write_report_without_results_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No results.json in .*edgepress benchmark"):
        write_report(tmp_path)


def test_write_report_refuses_results_that_cannot_be_shown(results: Results, saved: Path) -> None:
    machine = {**results.environment.machine, "memory_bytes": "much"}
    replace(results, environment=replace(results.environment, machine=machine)).save(saved)
    with pytest.raises(InputError, match=r"results\.json is damaged .*measure anew"):
        write_report(saved)
    assert not (saved / "report.html").exists()


def test_refresh_report_writes_a_missing_table_again(saved: Path) -> None:
    write_report(saved)
    (saved / "report.csv").unlink()
    before = (saved / "report.html").stat().st_ino
    refresh_report(saved)
    assert (saved / "report.csv").is_file()
    assert (saved / "report.html").stat().st_ino != before
    kept = (saved / "report.html").stat().st_ino
    refresh_report(saved)
    assert (saved / "report.html").stat().st_ino == kept


def test_csv_has_every_row_with_its_numbers(results: Results) -> None:
    rows = list(csv.DictReader(csv_text(results).splitlines()))
    assert len(rows) == len(results.results)
    for found, row in zip(rows, results.results, strict=True):
        assert (found["artifact"], found["runner"], found["status"]) == (
            row.artifact,
            row.runner,
            row.status.value,
        )
        assert found["reason"] == (row.reason or "")
        assert None not in found  # no line has more cells than the head
        if row.latency is not None and row.speedup is not None:
            assert float(found["median_ns"]) == row.latency.median_ns
            assert (float(found["speedup_low"]), float(found["speedup_high"])) == row.speedup.ci95
            assert int(found["samples"]) == len(row.latency.samples_ns)
            assert int(found["restarts"]) == len(row.latency.restart_counts) > 0
        else:
            assert found["median_ns"] == found["speedup"] == found["restarts"] == ""


def test_csv_tells_memory_throughput_roofline_and_what_ran(filled: Results) -> None:
    rows = csv.DictReader(csv_text(filled).splitlines())
    found = next(row for row in rows if row["artifact"] == "onnx-int8" and row["median_ns"])
    expected = {
        "loaded_rss_bytes": "10000000",
        "device_bytes": "8000000",
        "offline_images_per_s_best": "400.0",
        "offline_best_batch": "4",
        "macs": "2000000",
        "macs_per_byte": "2.0",
        "floor_ns": "50000.0",
        "bound_by": "memory",
        "place_time_shares": "CPUExecutionProvider 1.0000",
        "mac_share_int8": "1.0",
        "time_share_fp32": "0.0",
    }
    assert {name: found[name] for name in expected} == expected
    assert float(found["time_share_unknown"]) == pytest.approx(1 / 325)
    assert float(found["time_share_int8"]) == pytest.approx(324 / 325)
