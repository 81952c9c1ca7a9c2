"""The command line: every command with its own arguments, checked before anything is imported."""

import argparse
import difflib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import edgepress
from edgepress.cli.command import Command
from edgepress.cli.commands import COMMANDS
from edgepress.cli.console import Verbosity
from edgepress.errors import InputError, unknown_choice

_HELP_WIDTH = 100
_COMPLETED_AS_PATH = {"DIR", "FILE", "DATA", "MODEL", "CONFIG", "PATH"}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with a column wide enough for our longest names."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, _HELP_WIDTH)
        super().__init__(prog, max_help_position=30, width=width)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are InputErrors, with a suggestion for a misspelt option."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        for word in (part.rstrip(":,.") for part in message.split()):
            if word.startswith("--") and word not in self._option_string_actions:
                near = difflib.get_close_matches(word, list(self._option_string_actions), n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{message}.{hint} See: {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Returns:
        The arguments of the command; its `Command` is `arguments.command`.

    Raises:
        InputError: A command, option or value that does not exist, with the nearest that does.
        SystemExit: After --help or --version.
    """
    parser, parsers = _parsers()
    first = next((word for word in argv if not word.startswith("-")), None)
    if first is not None and first not in parsers:
        raise unknown_choice("command", first, parsers)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parsers[arguments.command_name].error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.command = next(c for c in COMMANDS if c.name == arguments.command_name)
    return arguments


def command_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, for the completion script and the reference."""
    return _parsers()[0]


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The parser of one command."""
    return _parsers()[1][command.name]


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog="edgepress",
        description="Press a Keras CNN for the edge: export, quantize, build engines, measure, prove.",
        epilog="example: edgepress init job.toml && edgepress run job.toml",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"edgepress {edgepress.__version__}")
    commands = parser.add_subparsers(dest="command_name", required=True, metavar="COMMAND")
    parsers: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        parsers[command.name] = commands.add_parser(
            command.name,
            help=command.purpose,
            description=command.purpose[0].upper() + command.purpose[1:] + ".",
            epilog=_epilog(command),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        _add_frame(parsers[command.name])
        command.add_arguments(parsers[command.name])
        _complete_paths(parsers[command.name])
    return parser, parsers


def _epilog(command: Command) -> str:
    if len(command.examples) == 1:
        return f"example: {command.examples[0]}"
    return "\n  ".join(("examples:", *command.examples))


def _add_frame(parser: argparse.ArgumentParser) -> None:
    """What every command takes."""
    level = parser.add_mutually_exclusive_group()
    level.set_defaults(verbosity=Verbosity.NORMAL)
    for flag, verbosity, purpose in (
        ("--quiet", Verbosity.QUIET, "say only what is wrong"),
        ("--verbose", Verbosity.VERBOSE, "say more"),
    ):
        level.add_argument(flag, dest="verbosity", action="store_const", const=verbosity, help=purpose)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Let the shell complete paths where a path is wanted (shtab reads this attribute)."""
    for action in parser._actions:
        words = str(action.metavar or "").split("|")
        if action.type is Path or _COMPLETED_AS_PATH & set(words):
            action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]  # shtab's own attribute
