"""`edgepress completion`."""

import argparse
from enum import Enum

from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import choice
from edgepress.progress import Progress


class Shell(Enum):
    """Shells that a completion script can be written for."""

    BASH = "bash"
    ZSH = "zsh"
    TCSH = "tcsh"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", type=choice("shell", Shell), metavar="bash|zsh|tcsh", help="your shell")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    import shtab

    from edgepress.cli.arguments import command_parser

    script: str = shtab.complete(command_parser(), arguments.shell.value)
    return Outcome((script,), {"shell": arguments.shell.value, "script": script})


COMMAND = Command(
    name="completion",
    purpose="print a script that completes edgepress' commands, options and paths in your shell",
    examples=(
        'eval "$(edgepress completion bash)"',
        "edgepress completion zsh > ~/.zfunc/_edgepress",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
