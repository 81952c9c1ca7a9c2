"""Files written whole or not at all, and their SHA-256."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.errors import InputError

_CHUNK_BYTES = 1 << 20
_SCRATCH = ".scratch-"


def _cannot_write(path: Path, error: OSError) -> InputError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return InputError(
            f"No space left while writing {path}. Free some disk (full-size VGG16 needs about 5 GB), "
            "or work in another folder."
        )
    return InputError(
        f"Cannot write {path}: {error.strerror or error}. Choose a folder that you may write to."
    )


def make_folder(path: Path) -> None:
    """Create `path` and its parents.

    Raises:
        InputError: The folder cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path (file or folder, not yet there) that becomes `path` on success.

    Any failure inside the block removes the temporary path and leaves an existing `path` unchanged;
    a lack of space or of permission is raised as an InputError. A file never takes the place of a folder.
    """
    make_folder(path.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{path.name}-", dir=path.parent))
    try:
        temporary = scratch / path.name
        yield temporary
        _flush(temporary)
        if path.is_dir() and temporary.is_file():
            raise InputError(f"{path} is a folder, and a file was to take its place. Give another name.")
        if path.is_dir() and not path.is_symlink():
            path.replace(scratch / ".previous")
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside `folder`, on the same disk, which is gone afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a lack of space or of permission inside the block as an InputError about `path`."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`. Nobody else may be writing there."""
    for scratch in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _flush(path: Path) -> None:
    """Bring the bytes of a file, or of each file in a folder, to the disk before it is renamed."""
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (UTF-8, two spaces, sorted as given) atomically. NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: It is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"No {what} at {path}. Check the path.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"The {what} at {path} cannot be read: {error}. Make it anew.") from error


def sha256_of_file(path: Path) -> str:
    """SHA-256 of one file's bytes, as lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_path(path: Path) -> str:
    """SHA-256 of a file, or of a folder: of the sorted lines `<sha256>  <relative path>` of its files.

    The folder's rule is that of `sha256sum`, so that it can be checked without edgepress.
    """
    if path.is_file():
        return sha256_of_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = [f"{sha256_of_file(p)}  {p.relative_to(path).as_posix()}\n" for p in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_of_json(value: Any) -> str:
    """SHA-256 of the canonical JSON form (sorted keys, no spaces) of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def require_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Check for free space before long work starts.

    Raises:
        InputError: Less than `needed_bytes` are free at `folder`.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise InputError(
            f"{what} needs about {needed_bytes / 1e9:.1f} GB of disk, and {existing} has "
            f"{free_bytes / 1e9:.1f} GB free. Free some, or work in another folder."
        )
