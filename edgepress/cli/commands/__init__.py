"""One file per command. The order here is that of `edgepress --help`: the first hour, from top to bottom."""

from edgepress.cli.command import Command
from edgepress.cli.commands import benchmark, completion, export, init, optimize, report, run

COMMANDS: tuple[Command, ...] = (
    init.COMMAND,
    run.COMMAND,
    export.COMMAND,
    optimize.COMMAND,
    benchmark.COMMAND,
    report.COMMAND,
    completion.COMMAND,
)
