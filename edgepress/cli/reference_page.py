"""Pages of the documentation that are made from the code: `python -m edgepress.cli.reference_page DOCS`.

reference/cli.md is every command's own help, job-file.md every key of a job file (see `job_page`), and errors.md
every error message (see `error_page`).
"""

import argparse
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


def cli_page() -> str:
    """The help of every command, in the order of `edgepress --help`."""
    parts = [
        "# Command line",
        "Every command takes `--quiet`, `--verbose` and `--json`. Exit codes: 0 done · 1 a gate or a row failed, or a "
        "bundle is INVALID · 2 wrong use or bad input · 3 not comparable · 130 interrupted (what is finished is kept).",
    ]
    for command in COMMANDS:
        parser = parser_of(command)
        parser.formatter_class = partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=30, width=_WIDTH
        )
        purpose, parser.description = parser.description or "", None  # as prose, which finds its own width
        text = parser.format_help().strip()
        parts += [f"## edgepress {command.name}", purpose, f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def write_pages(docs: Path) -> None:
    """Write the pages into the documentation's folder."""
    write_bytes(docs / CLI_PAGE, cli_page().encode())
    write_bytes(docs / JOB_PAGE, job_page().encode())
    write_bytes(docs / ERROR_PAGE, error_page().encode())


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
