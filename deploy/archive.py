"""stub"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    path: Path
    sha256: str
    size_bytes: int


def archive_path(p):
    return p.parent / f"{p.name}.tar.gz"


def archived(p, progress):
    return Archive(archive_path(p), "0" * 64, 1)


def require_archive_place(p):
    pass
