from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.measurement import Results, Status
from benchmark.report.summary import summary
from benchmark.report.terminal import WIDTH, terminal_lines
from edgepress.cli.arguments import parse
from edgepress.cli.commands import benchmark, report
from edgepress.progress import silent


def test_terminal_has_the_summary_and_a_line_for_each_row_that_ran(filled: Results) -> None:
    lines = terminal_lines(filled)
    gap = lines.index("")
    assert " ".join(lines[:gap]) == " ".join(summary(filled))
    head, *rows = lines[gap + 1 :]
    assert head.split() == ["variant", "runner", "ms", "speed-up", "top-1", "%", "MB", "verdict"]
    ran = [row for row in filled.results if row.status is Status.OK]
    assert sorted(line.split()[0] for line in rows) == sorted(row.artifact for row in ran)
    foreign = next(line for line in rows if line.startswith("foreign-int8"))
    assert foreign.split()[1] == "acme"
    assert foreign.endswith("  invalid")


def test_terminal_columns_are_aligned_and_fit(filled: Results) -> None:
    long = tuple(
        replace(row, artifact=f"{row.artifact}-{'x' * 60}", runner="a-runner-with-a-name-" * 3)
        for row in filled.results
    )
    for results in (filled, replace(filled, results=long)):
        lines = terminal_lines(results)
        assert max(map(len, lines)) <= WIDTH
        table = lines[lines.index("") + 1 :]
        start = table[0].index("verdict")
        assert all(line[start - 1] == " " and line[start] != " " for line in table)
    assert all("…" in line for line in table[1:])


def test_terminal_of_a_run_in_which_nothing_ran(results: Results) -> None:
    rows = tuple(replace(row, status=Status.SKIPPED, latency=None) for row in results.results)
    assert "" not in terminal_lines(replace(results, results=rows))


@pytest.mark.parametrize("command", ["benchmark", "report"])
def test_commands_end_with_the_compact_report_and_the_paths(
    command: str, results: Results, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.stage.benchmark_folder", lambda request, progress: results)
    arguments = parse([command, str(saved)])
    run = {"benchmark": benchmark.COMMAND.run, "report": report.COMMAND.run}[command]
    found = run(arguments, silent)
    paths = [str(saved / f"report.{ending}") for ending in ("csv", "md", "html")]
    assert found.lines == (*terminal_lines(results), "", *paths)
    assert found.value["reports"] == paths
    assert set(found.value) <= {"results", "reports", "failed", "invalid", "gate"}
