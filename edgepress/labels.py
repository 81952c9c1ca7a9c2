"""Class names: from a file, or from the class folders of DATA."""

from pathlib import Path

from edgepress.dataset import open_data
from edgepress.errors import InputError


def read_labels(path: Path) -> tuple[str, ...]:
    """Names from a text file, one a line; blank lines at the end do not count.

    Raises:
        InputError: The file is missing or no UTF-8 text, or has an empty line between names or a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The labels in {path} cannot be read ({error}). Check --labels.") from error
    names = tuple(line.strip() for line in lines)
    if not names or "" in names:
        raise InputError(f"{path}: one class name a line is wanted, and a line is empty. Check --labels.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: every class needs its own name, and {twice!r} is there twice. Rename one.")
    return names


def labels_of_data(data: str) -> tuple[str, ...] | None:
    """Names of the class folders of DATA, or None where it has none."""
    return open_data(data).calibration.classes
