"""`edgepress run`."""

import argparse
import logging
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.errors import unknown_choice
from edgepress.progress import Progress

logger = logging.getLogger(__name__)


def _stage(text: str) -> str:
    from edgepress.cli.job import STAGES

    if text not in STAGES:
        raise unknown_choice("stage", text, STAGES)
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="TOML file; edgepress init writes one")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="in place of what CONFIG says, e.g. optimize.samples=128 (may be given again)",
    )
    add(
        "--until",
        type=_stage,
        metavar="STAGE",
        help="stop after train, export, optimize, parity or benchmark",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgepress.cli.job import read_job

    job = read_job(arguments.config, arguments.overrides, arguments.until)
    names = [command.name for command, _ in job.steps]
    lines: list[str] = []
    values = {}
    for number, (command, own) in enumerate(job.steps, start=1):
        logger.info("%d/%d %s", number, len(job.steps), command.name)
        outcome = command.run(own, progress)
        values[command.name] = outcome.value
        if not (command.name == "export" and "optimize" in names):  # whose table has the same rows and more
            lines += outcome.lines
        if outcome.exit_code != 0:
            return Outcome(tuple(lines), values, outcome.exit_code)
    return Outcome(tuple(lines), values)


COMMAND = Command(
    name="run",
    purpose="do the whole job that a file describes; what is up to date is not done again",
    examples=(
        "edgepress run job.toml",
        "edgepress run job.toml --until optimize --set optimize.samples=128 --set data=photos",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
