"""What is sent home names no folder and no machine."""

import platform
import re
from typing import Any

_PATH = re.compile(r"(?<![\w.…/])~?/(?:[^\s/:;,'\"()]+/)+([^\s/:;,'\"()]*)")
_SHORTEST_NAME = 3  # a shorter name of a machine would be found inside of words


def anonymous(value: Any, folders: tuple[str, ...] = (), machine: str | None = None) -> Any:
    """JSON values without absolute paths and without the machine's name.

    Of a path its last part stays, so that a message still says which file it is about.

    Args:
        value: JSON.
        folders: Known ones, whose names may have blanks in them.
        machine: Its name; None for this one's.
    """
    name = platform.node() if machine is None else machine
    if isinstance(value, dict):
        return {key: anonymous(item, folders, name) for key, item in value.items()}
    if isinstance(value, list):
        return [anonymous(item, folders, name) for item in value]
    if not isinstance(value, str):
        return value
    for folder in sorted(folders, key=len, reverse=True):
        value = value.replace(folder, "…")
    value = _PATH.sub(r"…/\1", value)
    if len(name) < _SHORTEST_NAME:
        return value
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", value)
