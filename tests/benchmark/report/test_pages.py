import re
import shlex
from dataclasses import replace

from benchmark.decisions import ClassAccuracy, Decisions, Flip
from benchmark.measurement import Asked, Results, Status
from benchmark.quantities import State, Throughput, Verdict
from benchmark.report.decisions import decisions
from benchmark.report.environment import benchmark_command, facts, preflight
from benchmark.report.html_page import html
from benchmark.report.layers import layers, what_ran
from benchmark.report.markdown_page import markdown
from benchmark.report.measured import measured_table
from benchmark.report.memory import memory
from benchmark.report.roofline import ceilings_in_words, roofline
from benchmark.report.sections import sections
from benchmark.report.throughput import throughput
from edgepress.artifact import Device
from edgepress.cli.arguments import parse


def test_both_pages_have_all_sections_in_one_order(filled: Results) -> None:
    titles = [section.title for section in sections(filled)]
    assert len(titles) == 14
    assert re.findall(r"^## (.*)$", markdown(filled), re.MULTILINE) == titles
    assert re.findall(r"<h2[^>]*>(.*)</h2>", html(filled)) == titles


def test_both_pages_leave_out_sections_with_nothing_to_tell(results: Results) -> None:
    rows = tuple(
        replace(
            row,
            status=Status.SKIPPED,
            reason="r",
            latency=None,
            speedup=None,
            accuracy=None,
            decisions=None,
            memory=None,
        )
        for row in results.results
    )
    nothing = replace(results, results=rows)
    assert "No version is shown" in html(nothing)
    titles = [section.title for section in sections(nothing)]
    assert titles[0] == "Not run"
    assert not {"Measured", "Memory", "Roofline", "Offline throughput", "Time per layer"} & set(titles)


def test_html_needs_nothing_else(filled: Results) -> None:
    page = html(filled)
    assert page.count("<svg") == 4
    assert "<script" not in page
    links = set(re.findall(r"https?://[^\"'\s<>]+", page))
    assert all(link.startswith("http://www.w3.org/") for link in links)  # namespaces of SVG
    assert not re.search(r"(?:src|href)=\"(?!#|data:image/jpeg;base64,)", page)
    assert not re.search(r"url\((?!#)", page)
    assert "#010203" not in page  # the theme's own colours are in place
    assert "var(--ink)" in page


def test_html_escapes_what_the_user_named(filled: Results) -> None:
    page = html(replace(filled, data=replace(filled.data, source="<b>&")))
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    named = tuple(replace(row, artifact="<i>") if row.latency else row for row in filled.results)
    assert "<i>" not in html(replace(filled, results=named))  # in plots, too


def test_markdown_tables_have_as_many_cells_in_every_line(filled: Results) -> None:
    failed = replace(filled.results[1], status=Status.FAILED, reason="a | b\nc")
    text = markdown(replace(filled, results=(filled.results[0], failed, *filled.results[2:])))
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) > 10
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert "a \\| b c" in text


def test_measured_table_numbers_each_note_once_and_names_the_verdict(results: Results) -> None:
    doubtful = replace(results.results[0], verdict=Verdict(State.UNSTABLE, ("it drifted",)))
    table = measured_table(replace(results, results=(doubtful, *results.results[1:])))
    assert len(set(table.notes)) == len(table.notes)
    for row in table.rows:
        for number in re.findall(r"\d+", row[-1]):
            assert 1 <= int(number) <= len(table.notes)
    (first, *others) = table.rows
    assert first[-1].startswith("UNSTABLE ")
    assert "UNSTABLE: it drifted" in table.notes
    assert not any(word in row[-1] for row in others for word in ("UNSTABLE", "VALID"))


def test_decisions_name_the_pictures_that_changed(results: Results) -> None:
    flips = tuple(Flip(f"dog/{i}.jpg", "dog", "dog", "fox", float(i)) for i in range(25))
    found = Decisions((ClassAccuracy("dog", 30, 3, 28), ClassAccuracy("fox", 5, 5, 5)), flips)
    rows = (
        replace(row, decisions=found if row.artifact == "onnx-int8" and row.latency else None)
        for row in results.results
    )
    changed = replace(results, results=tuple(rows))
    (fold,) = decisions(changed).folds
    assert fold.title == "onnx-int8 on ONNX Runtime: 25 of 12 pictures have another top class"
    pictures, classes = fold.tables
    assert pictures.rows[0] == ("dog/24.jpg", "dog", "dog", "fox", "24.00")  # the clearest case first
    assert pictures.notes == ("and 5 more in results.json",)
    assert classes.rows == (("dog", "30", "28", "3"),)
    for text in (markdown(changed), html(changed)):
        assert fold.title in text
        assert "dog/24.jpg" in text
        assert "dog/0.jpg" not in text


def test_html_shows_thumbnails_of_pictures_that_changed(filled: Results) -> None:
    images = re.findall(r"<img [^>]*>", html(filled))
    assert images == [
        '<img src="data:image/jpeg;base64,/9j/2Q==" alt="dog/1.jpg, labelled dog" width="96" height="96" '
        'loading="lazy">'
    ]


def test_memory_tells_what_the_model_added(filled: Results) -> None:
    section = memory(filled)
    assert section.tables[0].rows[0][3:] == ("50.0", "10.0", "24.0", "25.0", "8.0")
    assert section.chart is not None
    assert [bar.text for bar in section.chart.bars] == ["25.0 MB"] * 4


def test_throughput_has_a_column_for_each_batch(filled: Results) -> None:
    fixed = replace(filled.results[0], offline=(Throughput(1, (1,), 120.0, None, None),))
    (table,) = throughput(replace(filled, results=(fixed, *filled.results[1:]))).tables
    assert table.headers[2:5] == ("Batch 1", "Batch 4", "Best batch")
    assert table.rows[0][2:] == ("120.0", "–", "1", "–", "–")
    assert table.rows[1][2:6] == ("100.0", "400.0", "4", "360.0–440.0")


def test_roofline_is_told_in_words_and_numbers(filled: Results) -> None:
    section = roofline(filled)
    assert filled.environment.ceilings is not None
    assert section.items == ceilings_in_words(filled.environment.ceilings)
    assert section.items == (
        "FP32: 83 GMAC/s at best with 1 thread (numpy, product of two 2048×2048 matrices)",
        "INT8: 410 GMAC/s at best with 1 thread (onnxruntime, product of two 1024×1024 matrices)",
        "Memory: read at 21 GB/s, copied at 18 GB/s",
        "Last-level cache: 33.0 MB",
        "FP16: nothing here multiplies in it",
    )
    (table,) = section.tables
    assert table.rows[0][2:5] == ("2.0", "1.00", "2.00")
    assert table.rows[0][6:8] == ("0.050", "50")
    assert table.rows[0][9:] == ("memory", "1")
    assert table.notes == ("fits into the cache",)


def test_what_ran_stands_beside_what_the_file_says(filled: Results) -> None:
    (table,) = what_ran(filled).tables
    row = next(row for row in table.rows if row[0] == "onnx-int8")
    assert row[2:5] == ("CPUExecutionProvider 100 % (25 nodes)", "int8 100 %, unknown < 1 %", "int8 100 %")


def test_what_ran_says_why_there_is_no_profile(results: Results) -> None:
    (row, *_) = (row for row in results.results if row.latency)
    silent = replace(row, profile=None, profile_note="it cannot be asked")
    (table,) = what_ran(replace(results, results=(silent,))).tables
    assert table.rows[0][-1] == "1"
    assert table.notes == ("it cannot be asked",)


def test_layers_are_told_in_order_and_the_slowest_are_drawn(filled: Results) -> None:
    fold = layers(filled).folds[0]
    assert fold.title == "onnx-fp32 on ONNX Runtime: 25 nodes, 3.25 ms in all"
    (nodes,) = fold.tables
    assert [row[0] for row in nodes.rows] == [str(step) for step in range(1, 26)]
    assert nodes.rows[0][3:] == ("CPUExecutionProvider", "–", "0.010", "0.3")
    assert fold.chart is not None
    assert [bar.label for bar in fold.chart.bars] == [
        f"{step} Conv node{step - 1}" for step in range(25, 5, -1)
    ]
    assert (fold.chart.bars[0].share, fold.chart.bars[-1].share) == (1, 6 / 25)
    (brief,) = fold.brief
    assert len(brief.rows) == 10
    assert brief.notes == ("and 15 more in results.json",)


def test_preflight_tells_doubts_first(filled: Results) -> None:
    (table,) = preflight(filled).tables
    assert [row[0] for row in table.rows] == ["governor", "load"]
    assert table.rows[0][3] == "cpupower frequency-set --governor performance"


def test_facts_say_what_the_pictures_can_resolve(results: Results) -> None:
    assert dict(facts(results))["Resolution"] == (
        "12 pictures cannot show a difference of top-1 below 50 points (McNemar, p < 0.05)"
    )


def test_benchmark_command_is_one_that_the_command_line_takes(filled: Results) -> None:
    asked = Asked(Device.CPU, ("onnx-int8",), ("onnxruntime", "openvino"), (1, 4), None, 12, 7)
    data = replace(filled.data, source="my photos")
    command = benchmark_command(replace(filled, data=data, asked=asked))
    assert command == (
        "edgepress benchmark DIR --device cpu --data 'my photos' --variant onnx-int8 "
        "--runner onnxruntime openvino --offline 1 4 --threads 1 --limit 12 --seed 7 --quick --again"
    )
    found = parse(shlex.split(command)[1:])
    assert (found.data, found.threads, found.limit, found.offline) == ("my photos", 1, 12, [1, 4])
    assert (found.variants, found.runners, found.seed) == (["onnx-int8"], ["onnxruntime", "openvino"], 7)
    assert found.quick
    assert found.device is Device.CPU
