"""`edgepress report`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.progress import Progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with a results.json")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from benchmark.measurement import Results
    from benchmark.report.terminal import terminal_lines
    from benchmark.report.writing import write_report

    pages = [str(path) for path in write_report(arguments.folder)]
    return Outcome((*terminal_lines(Results.load(arguments.folder)), "", *pages), {"reports": pages})


COMMAND = Command(
    name="report",
    purpose="write report.html, report.md and report.csv from results.json",
    examples=("edgepress report out/vgg16-digits",),
    add_arguments=_add_arguments,
    run=_run,
)
