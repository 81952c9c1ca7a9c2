"""Pages of the documentation that are made from the code: `python -m edgepress.cli.reference_page DOCS`.

reference/cli.md is every command's own help; errors.md is every error message, read out of the sources.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepress.cli.arguments import parser_of
from edgepress.cli.commands import COMMANDS
from edgepress.files import write_bytes

CLI_PAGE = "reference/cli.md"
ERROR_PAGE = "reference/errors.md"
ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("train", "export", "optimize", "benchmark", "deploy", "edgepress")
_CLASSES = {"InputError": 2, "MissingDeviceError": 2, "ProofError": 1, "NotComparableError": 3}


@dataclass(frozen=True)
class Message:
    """One error that the tool can end with.

    Attributes:
        room: Where it is raised.
        file: Relative to the checkout.
        kind: Class of the error.
        text: Its message; what is filled in stands in braces.
    """

    room: str
    file: str
    kind: str
    text: str


def cli_page() -> str:
    """The help of every command, in the order of `edgepress --help`."""
    parts = [
        "# Command line",
        "Every command takes `--quiet`, `--verbose` and `--json`. Exit codes: 0 done · 1 a gate or a row failed, or a "
        "bundle is INVALID · 2 wrong use or bad input · 3 not comparable · 130 interrupted (what is finished is kept).",
    ]
    for command in COMMANDS:
        text = parser_of(command).format_help().strip()
        parts += [f"## edgepress {command.name}", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def messages() -> Iterator[Message]:
    """Every message that a `raise` in the sources has, room by room."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    yield from _message(room, path, node.exc)


def _message(room: str, path: Path, call: ast.Call) -> Iterator[Message]:
    kind = call.func.id if isinstance(call.func, ast.Name) else ""
    if kind in _CLASSES and call.args:
        text = _text(call.args[0])
        if text:
            yield Message(room, path.relative_to(ROOT).as_posix(), kind, text)


def _text(node: ast.expr) -> str:
    """A message as it stands in the source, with names in braces for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else f"{{{_name(part)}}}" for part in node.values
    )


def _name(part: ast.expr) -> str:
    """A short name for a filled-in expression: its last word."""
    expression = part.value if isinstance(part, ast.FormattedValue) else part
    words = [n.attr for n in ast.walk(expression) if isinstance(n, ast.Attribute)]
    words += [n.id for n in ast.walk(expression) if isinstance(n, ast.Name)]
    return words[0] if words else "value"


def error_page() -> str:
    """Every error message with its exit code, room by room."""
    parts = [
        "# Errors",
        "Every message says what was wanted, what was got and what to do next, on one line on stderr. What stands in "
        "braces is filled in. Exit code 2: wrong use or bad input, nothing is left half-written. Exit code 1: a "
        "produced file did not prove what its name promises, and was not delivered.",
    ]
    found = list(messages())
    for room in ROOMS:
        rows = [m for m in found if m.room == room]
        lines = [
            f"- {m.text.replace('|', chr(92) + '|')} *(exit code {_CLASSES[m.kind]}, `{m.file}`)*"
            for m in rows
        ]
        parts += [f"## {room}", "\n".join(dict.fromkeys(lines))]
    return "\n\n".join(parts) + "\n"


def write_pages(docs: Path) -> None:
    """Write the pages into the documentation's folder."""
    write_bytes(docs / CLI_PAGE, cli_page().encode())
    write_bytes(docs / ERROR_PAGE, error_page().encode())


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
