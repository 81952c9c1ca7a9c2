"""SHA-256 of a folder's artifacts, remembered for as long as the system says that no byte was written.

Full-size VGG16 in all versions is 4.6 GB, which take seconds to hash; whether any of it changed is asked at
the start of every run. As in git's index, a file counts as unchanged while its size, its modification and
change times and its inode are the same.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

from edgepress.errors import InputError
from edgepress.files import sha256_of_path, write_json

logger = logging.getLogger(__name__)

DIGESTS = ".digests.json"
# A file written again within one tick of the file system's clock has the same times.
_CLOCK_TICK_NS = 20_000_000


def remembered_sha256(folder: Path, path: str) -> str:
    """SHA-256 of `folder`/`path` (a file or a folder), computed only if it may have changed.

    Good enough to decide that nothing is to be done. Before an artifact is used, `Manifest.verify` reads
    every byte.

    Raises:
        OSError: It is not there or cannot be read.
    """
    now_ns = time.time_ns()
    found = _state(folder / path)
    entry = _known(folder).get(path)
    if isinstance(entry, dict) and entry.get("state") == found and isinstance(entry.get("sha256"), str):
        return str(entry["sha256"])
    digest = sha256_of_path(folder / path)
    settled = all(now_ns - changed_ns > _CLOCK_TICK_NS for *_, changed_ns, _ in found)
    if settled and _state(folder / path) == found:
        remember_sha256(folder, path, digest)
    return digest


def remember_sha256(folder: Path, path: str, digest: str) -> None:
    """Remember the SHA-256 of what the caller has just put at `folder`/`path`, alone in the folder."""
    entry = {"state": _state(folder / path), "sha256": digest}
    try:
        write_json(folder / DIGESTS, {**_known(folder), path: entry})
    except InputError as error:
        logger.debug("digests are not remembered: %s", error)


def _state(path: Path) -> list[list[Any]]:
    """Name, bytes, times and inode of every file of an artifact."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise FileNotFoundError(path)
    stats = [(file, file.stat()) for file in files]
    return [
        [file.relative_to(path.parent).as_posix(), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        for file, s in stats
    ]


def _known(folder: Path) -> dict[str, Any]:
    """What is remembered; nothing where that cannot be read, since it can be computed again."""
    try:
        value = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
