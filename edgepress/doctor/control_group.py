"""Limits of Linux control groups: a container has fewer cores and less memory than its machine.

Versions 1 and 2 as in the kernel's admin-guide/cgroup-v1 and admin-guide/cgroup-v2. A limit of any group
above binds too, so the least one counts. A container may see its own group mounted as the root while
/proc/self/cgroup names a path of the host, so folders that do not exist are passed over.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from edgepress.doctor.fact import Unknown

Number = TypeVar("Number", int, float)

_UNLIMITED_BYTES = 2**60  # version 1 says "no limit" with the largest number of whole pages


@dataclass(frozen=True)
class Limits:
    """What a control group leaves to this process; None for no limit.

    Attributes:
        cores: Share of CPU time, in cores.
        memory_bytes: Before the kernel ends a process.
    """

    cores: float | Unknown | None
    memory_bytes: int | Unknown | None


def limits_under(root: Path) -> Limits:
    """The limits of this process.

    Args:
        root: "/", or a copy of /proc and /sys.
    """
    return Limits(
        _least([*_read(_folders(root, ""), _quota_v2), *_read(_folders(root, "cpu"), _quota_v1)]),
        _least([*_read(_folders(root, ""), _size_v2), *_read(_folders(root, "memory"), _size_v1)]),
    )


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The group of this process and all above it; controller "" is version 2, the unified hierarchy."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # the root of the hierarchy can still be asked
    fields = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    paths = [path for _, controllers, path in fields if controller in controllers.split(",")]
    group = PurePosixPath(paths[0].lstrip("/") if paths else "")
    for folder in (group, *group.parents):
        yield root / "sys/fs/cgroup" / controller / folder


def _read(
    folders: Iterator[Path], limit_in: Callable[[Path], Number | None]
) -> Iterator[Number | Unknown | None]:
    return (_limit(folder, limit_in) for folder in folders)


def _limit(folder: Path, limit_in: Callable[[Path], Number | None]) -> Number | Unknown | None:
    try:
        return limit_in(folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ZeroDivisionError) as error:
        return Unknown(f"{folder}: {getattr(error, 'strerror', None) or error}")


def _least(limits: list[Number | Unknown | None]) -> Number | Unknown | None:
    unknown = next((limit for limit in limits if isinstance(limit, Unknown)), None)
    known = [limit for limit in limits if limit is not None and not isinstance(limit, Unknown)]
    return unknown or min(known, default=None)


def _quota_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota, period = (
        int((folder / name).read_text(encoding="utf-8")) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    return None if quota < 0 else quota / period


def _size_v2(folder: Path) -> int | None:
    text = (folder / "memory.max").read_text(encoding="utf-8").strip()
    return None if text == "max" else int(text)


def _size_v1(folder: Path) -> int | None:
    size = int((folder / "memory.limit_in_bytes").read_text(encoding="utf-8"))
    return None if size >= _UNLIMITED_BYTES else size
