"""A fact that the system does not give is said to be unknown, with the reason. It is never guessed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Unknown:
    """What stands in place of a fact; in JSON {"unknown": "the reason"}.

    Attributes:
        unknown: Why.
    """

    unknown: str

    def __str__(self) -> str:
        return f"unknown ({self.unknown})"


def text_of(path: Path) -> str | Unknown:
    """The content of a file of the system, or why it cannot be had."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Unknown(f"{path}: {error.strerror}")
