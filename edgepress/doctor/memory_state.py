"""Memory that can be had now, as Linux counts it (man 5 proc_meminfo), within the container's limit."""

import re
from dataclasses import dataclass
from pathlib import Path

from edgepress.doctor.control_group import limits_under
from edgepress.doctor.fact import Unknown, text_of

_LINE = re.compile(r"(\S+):\s+(\d+) kB")


@dataclass(frozen=True)
class MemoryState:
    """Memory of the machine, or of the container if that is less.

    Attributes:
        total_bytes: Of it.
        available_bytes: That can be had without swapping.
        swapped_bytes: That lie in swap space.
    """

    total_bytes: int
    available_bytes: int
    swapped_bytes: int


def memory_state_under(root: Path) -> MemoryState | Unknown:
    """The memory now.

    Args:
        root: "/", or a copy of /proc and /sys.
    """
    path = root / "proc/meminfo"
    text = text_of(path)
    if isinstance(text, Unknown):
        return text
    lines = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    found = {line[1]: int(line[2]) * 1024 for line in lines if line}
    limit = limits_under(root).memory_bytes
    if "MemTotal" not in found or "MemAvailable" not in found:
        return Unknown(f"{path} does not tell")
    total, available = (
        min(found[name], limit) if isinstance(limit, int) else found[name]
        for name in ("MemTotal", "MemAvailable")
    )
    return MemoryState(total, available, found.get("SwapTotal", 0) - found.get("SwapFree", 0))
