"""`edgepress compare`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import amount
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from benchmark.changes import Change


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="results.json of the earlier run, or its folder")
    add("new", type=Path, metavar="NEW", help="that of the later run")
    add(
        "--tolerance",
        type=amount,
        default=5.0,
        metavar="PERCENT",
        help="smaller changes of time, memory and size are none (default: 5)",
    )
    add(
        "--points",
        type=amount,
        default=0.0,
        metavar="POINTS",
        help="changes of top-1, top-5 and agreement up to this are none (default: 0)",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from benchmark.changes import Course, Tolerance, changes_of, results_at

    tolerance = Tolerance(arguments.tolerance, arguments.points)
    changes = changes_of(results_at(arguments.old), results_at(arguments.new), tolerance)
    told = [change for change in changes if change.course is not Course.SAME]
    worse = [change for change in told if change.course in {Course.WORSE, Course.GONE}]
    better = sum(change.course is Course.BETTER for change in told)
    end = f"{len(worse)} worse, {better} better, {len(changes) - len(told)} the same"
    return Outcome(
        (*map(_line, told), end),
        {"changes": to_json(changes), "worse": len(worse)},
        exit_code=1 if worse else 0,
    )


def _line(change: "Change") -> str:
    row = f"{change.course.value:<6}  {change.artifact} on {change.runner}"
    if change.old is None or change.new is None:
        return f"{row}: {change.bucket}"
    return f"{row}: {change.quantity.value} {change.old:.4g} → {change.new:.4g} ({change.bucket})"


COMMAND = Command(
    name="compare",
    purpose="say what became worse or better between two runs of the benchmark (exit code 1 if worse)",
    examples=(
        "edgepress compare last/results.json out/vgg16",
        "edgepress compare last out/vgg16 --tolerance 10 --points 0.5",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
