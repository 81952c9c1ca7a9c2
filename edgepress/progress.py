"""How long work tells the front door how far it is. Rooms call it; only the front door shows it."""

from typing import Protocol


class Progress(Protocol):
    """Receives the state of long work."""

    def __call__(self, task: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of `task` are finished (units are the task's own)."""


def silent(task: str, done: int, total: int) -> None:
    """Show nothing: the default of every function that takes a `Progress`."""
