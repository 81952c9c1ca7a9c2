"""What a command of `edgepress` consists of."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepress.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What a command leaves to say when its progress has been cleared away.

    Attributes:
        lines: For stdout, for people.
        value: The same for programs, as JSON values: what `--json` prints instead.
        exit_code: Of the process.
    """

    lines: tuple[str, ...]
    value: Any = None
    exit_code: int = 0


@dataclass(frozen=True)
class Command:
    """One command of the front door.

    Attributes:
        name: As typed.
        purpose: A clause in lower case that says what it does.
        examples: Whole command lines, the simplest first.
        add_arguments: Adds its own arguments to a parser.
        run: Does it. Imports the room that it needs, so that no other command pays for it.
    """

    name: str
    purpose: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress], Outcome]
