"""Pages of the documentation that are made from the code: `python -m edgepress.cli.reference_page DOCS`.

reference/cli.md is every command's usage, arguments and examples, job-file.md every key of a job file (see `job_page`), and errors.md
every error message (see `error_page`).
"""

import argparse
import html
import sys
from functools import partial
from pathlib import Path

from edgepress.cli.arguments import parser_of
from edgepress.cli.commands import COMMANDS
from edgepress.cli.error_page import ERROR_PAGE, error_page
from edgepress.cli.job_page import JOB_PAGE, job_page
from edgepress.files import write_bytes

CLI_PAGE = "reference/cli.md"

_WIDTH = 78  # what a page shows beside its two columns; the terminal of whoever makes it does not count
_EVERYWHERE = frozenset({"--help", "--quiet", "--verbose", "--json"})


def cli_page() -> str:
    """The usage, arguments and examples of every command, in the order of `edgepress --help`."""
    parts = [
        "# Command line",
        "Every command takes `--quiet` (say only what is wrong) or `--verbose` (say more), `--json` (print the "
        "result as JSON) and `--help`. Exit codes: 0 done · 1 a gate or a row failed, a comparison found "
        "something worse, or a bundle is INVALID · 2 wrong use or bad input · 3 not comparable · 130 "
        "interrupted (what is finished is kept).",
    ]
    for command in COMMANDS:
        parser = parser_of(command)
        parser.formatter_class = partial(argparse.HelpFormatter, width=_WIDTH)
        rows = [
            _row(command.name, action)
            for action in parser._actions  # argparse tells them nowhere else
            if not _EVERYWHERE & set(action.option_strings)
        ]
        parts += [
            f"## edgepress {command.name}",
            parser.description or "",
            f"```text\n{parser.format_usage().strip()}\n```",
            *(["\n".join(("| argument | meaning |\n|---|---|", *rows))] if rows else []),
            "Example:" if len(command.examples) == 1 else "Examples:",
            "\n".join(f"    {example}" for example in command.examples),
        ]
    return "\n\n".join(parts) + "\n"


def _row(command: str, action: argparse.Action) -> str:
    """An argument with an anchor of its own, such as `cli.html#optimize.samples`."""
    name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
    value = action.metavar if action.option_strings and isinstance(action.metavar, str) else ""
    more = f" [{value} …]" if action.nargs == "+" else ""
    anchor = f"{command}.{name.lstrip('-') if action.option_strings else action.dest}"
    shown = _escaped(f"{name} {value}".strip() + more)
    return f'| <span id="{anchor}"></span><code>{shown}</code> | {_escaped(action.help or "")} |'


def _escaped(text: str) -> str:
    """Text that is no markup, nor ends a cell of a table, wherever the page is read."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;")


def write_pages(docs: Path) -> None:
    """Write the pages into the documentation's folder."""
    write_bytes(docs / CLI_PAGE, cli_page().encode())
    write_bytes(docs / JOB_PAGE, job_page().encode())
    write_bytes(docs / ERROR_PAGE, error_page().encode())


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
