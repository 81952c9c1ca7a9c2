"""Every file of this bundle against manifest.sha256.

Lines of manifest.sha256 read as `sha256sum` writes them: 64 lower-case hex digits, two spaces, and a path
relative to the bundle's folder, with `/` between its parts.

SPDX-License-Identifier: Apache-2.0
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import CouldNotRun, Invalid
else:  # beside it, on a device
    from bundle import CouldNotRun, Invalid

SUMS = "manifest.sha256"
SIGNATURE = "manifest.sig"  # over the bytes of SUMS, which therefore cannot name it
_CACHE = "__pycache__"
_UNPACK = "Unpack the bundle again."
_CHUNK_BYTES = 1 << 20
_LARGEST_SUMS_BYTES = 1 << 20
_SHOWN = 5


def read_sums(folder: Path) -> "dict[str, str]":
    """Relative path → SHA-256, as manifest.sha256 says.

    Raises:
        Invalid: It is missing, or has a line that is no checksum of a file inside of the folder.
        CouldNotRun: It cannot be read.
    """
    lines = _text_of_sums(folder / SUMS).split("\n")
    if lines.pop() != "":
        raise Invalid(f"{SUMS} does not end with a whole line. {_UNPACK}")
    wanted = {}  # type: dict[str, str]
    for line in lines:
        digest, gap, name = line.partition("  ")
        if not gap or not _is_digest(digest) or not _is_inside(name) or name in wanted:
            raise Invalid(f"{SUMS} has a line that is no checksum: {line[:80]!r}. {_UNPACK}")
        wanted[name] = digest
    if not wanted:
        raise Invalid(f"{SUMS} names no file. {_UNPACK}")
    return wanted


def _text_of_sums(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a pipe would be waited for
            raise Invalid(f"{SUMS} is no file. {_UNPACK}")
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_SUMS_BYTES + 1)
        if len(content) > _LARGEST_SUMS_BYTES:
            raise Invalid(f"{SUMS} is larger than {_LARGEST_SUMS_BYTES} bytes. {_UNPACK}")
        return content.decode("ascii")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise Invalid(f"{SUMS} cannot be read ({error}). {_UNPACK}") from error
    except OSError as error:
        raise CouldNotRun(f"{SUMS} cannot be read ({error}). Check its rights.") from error


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _is_inside(name: str) -> bool:
    """Whether this is a plain path below the bundle's folder, and not one of the two that stand for all."""
    if not name.isprintable() or set(name) & set("\\:") or name in {SUMS, SIGNATURE}:
        return False
    return not {"", ".", ".."} & set(name.split("/"))


def check_files(folder: Path, made_here: "frozenset[str]" = frozenset()) -> str:
    """Every file is there, is as it was, and there is no other; no link is followed.

    Args:
        folder: Of the bundle.
        made_here: Names of folders in it whose content was made on this machine, so that no checksum can
            be known. Links and devices are refused there, too.

    Returns:
        What was found, as a clause.

    Raises:
        Invalid: Something is missing, added, changed, or neither a file nor a folder.
        CouldNotRun: Something cannot be read.
    """
    wanted = read_sums(folder)
    folders = {"/".join(parts[:end]) for parts in _parts(wanted) for end in range(1, len(parts))}
    try:
        there, added = _looked_through(folder, wanted, folders, made_here)
    except OSError as error:
        raise CouldNotRun(f"{folder.name} cannot be looked through ({error}). Check its rights.") from error
    missing = sorted(set(wanted) - there)  # no `:=` here: older Pythons are to read on, and to be told
    if missing:
        raise Invalid(f"missing: {_shown(missing)}. {_UNPACK}")
    if added:
        raise Invalid(
            f"not named in {SUMS}: {_shown(sorted(added))}. Keep your own files outside of the bundle."
        )
    for name, digest in wanted.items():
        found = _sha256_of(folder, name)
        if found != digest:
            raise Invalid(f"{name}: SHA-256 is {found[:12]}…, wanted {digest[:12]}…. {_UNPACK}")
    return f"{len(wanted)} files are as they were"


def _parts(names: "dict[str, str]") -> "list[list[str]]":
    return [name.split("/") for name in names]


def _looked_through(
    folder: Path, wanted: "dict[str, str]", folders: "set[str]", made_here: "frozenset[str]"
) -> "tuple[set[str], list[str]]":
    """The wanted files that are there, and what is not wanted (a folder stands for its content)."""
    there, added, waiting = set(), [], [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(folder / above) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = above + entry.name
            is_folder = _is_folder(entry, name)
            if is_folder and (name in folders or name.split("/")[0] in made_here):
                waiting.append(name + "/")
            elif not is_folder and name in wanted:
                there.add(name)
            elif not (_is_made_here(name, made_here) or _is_ours(entry, name, is_folder=is_folder)):
                added.append(name)
    return there, added


def _is_folder(entry: "os.DirEntry[str]", name: str) -> bool:
    """Whether it is a folder; it is a file otherwise."""
    if entry.is_dir(follow_symlinks=False):
        return True
    if entry.is_file(follow_symlinks=False):
        return False
    if entry.is_symlink():
        raise Invalid(f"{name} is a symbolic link, which no bundle has. {_UNPACK}")
    raise Invalid(f"{name} is neither a file nor a folder. {_UNPACK}")


def _is_made_here(name: str, made_here: "frozenset[str]") -> bool:
    first, *more = name.split("/")
    return first in made_here and bool(more)


def _is_ours(entry: "os.DirEntry[str]", name: str, *, is_folder: bool) -> bool:
    """Whether it is the list, its signature, or what Python leaves when a program imports from here."""
    if not is_folder:
        return name in {SUMS, SIGNATURE}
    return name == _CACHE and all(
        inner.name.endswith(".pyc") and inner.is_file(follow_symlinks=False) for inner in os.scandir(entry)
    )


def _shown(names: "list[str]") -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def _sha256_of(folder: Path, name: str) -> str:
    """SHA-256 of a file, read in chunks: a model may be larger than the memory."""
    digest = hashlib.sha256()
    try:
        with (folder / name).open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError as error:
        raise CouldNotRun(f"{name} cannot be read ({error}). Check its rights.") from error
    return digest.hexdigest()
