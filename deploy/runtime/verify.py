"""Check this bundle on this machine (`python verify.py`).

Every file against its SHA-256, the machine, the runtime and what it really runs on, and the model's answers
to the golden pictures. Exit code 0: VALID; 1: INVALID; 2: it could not be checked here.

The files are checked by this file alone: no other one of the bundle is read as code before it is known to be
as it was. What comes after that is in checks.py.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUMS = "manifest.sha256"
UNPACK = "Unpack the bundle again."
OLDEST_PYTHON = (3, 10)
_VALID, _INVALID, _COULD_NOT_RUN = "VALID", "INVALID", "COULD NOT RUN"
_EXIT_CODES = {_VALID: 0, _INVALID: 1, _COULD_NOT_RUN: 2}


class Damaged(Exception):  # noqa: N818  # what a file is
    """The files are not what was delivered."""

    verdict = _INVALID


class Unreadable(Exception):  # noqa: N818  # what a file is
    """This machine does not let the files be read, or this Python cannot."""

    verdict = _COULD_NOT_RUN


def read_sums(folder: Path) -> "dict[str, str]":
    """File name → SHA-256, as manifest.sha256 says."""
    try:
        lines = (folder / SUMS).read_bytes().decode("ascii").split("\n")
    except (OSError, ValueError) as error:
        raise Damaged(f"{SUMS} cannot be read ({error}). {UNPACK}") from error
    if lines.pop() != "":
        raise Damaged(f"{SUMS} does not end with a whole line. {UNPACK}")
    wanted: dict[str, str] = {}
    for line in lines:
        digest, gap, name = line.partition("  ")
        if not gap or len(digest) != 64 or "/" in name or "\\" in name or name in wanted:
            raise Damaged(f"{SUMS} has a line that is no checksum: {line[:80]!r}. {UNPACK}")
        wanted[name] = digest
    return wanted


def check_files(folder: Path) -> str:
    """Every file is there, is as it was, and there is no other."""
    wanted = read_sums(folder)
    there = {path.name for path in folder.iterdir() if path.name != SUMS and not _is_cache(path)}
    if missing := sorted(set(wanted) - there):
        raise Damaged(f"missing: {', '.join(missing)}. {UNPACK}")
    if added := sorted(there - set(wanted)):
        raise Damaged(f"not named in {SUMS}: {', '.join(added)}. Keep your own files outside of the bundle.")
    for name, digest in wanted.items():
        if not (folder / name).is_file():
            raise Damaged(f"{name} is no file. {UNPACK}")
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise Unreadable(f"{name} cannot be read ({error}). Check its rights.") from error
        if found != digest:
            raise Damaged(f"{name}: SHA-256 is {found[:12]}…, wanted {digest[:12]}…. {UNPACK}")
    return f"{len(wanted)} files are as they were"


def _is_cache(path: Path) -> bool:
    """Whether this is what Python leaves behind when another program imports from the bundle."""
    if path.name != "__pycache__" or path.is_symlink() or not path.is_dir():
        return False
    return all(entry.suffix == ".pyc" and entry.is_file() for entry in path.iterdir())


def check_python() -> None:
    """This Python can run the other scripts."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise Unreadable(
            f"Python 3.10 or newer is wanted, this is {platform.python_version()}. Use a newer one."
        )


def verify(options: Any = None) -> "tuple[list[tuple[str, str]], str]":
    """All checks, in order, until one fails: their names and findings, and the verdict.

    Args:
        options: As the command line gives them; None for none.
    """
    done = []
    try:
        done.append(("files", check_files(HERE)))
        check_python()
        import checks

        for found in checks.in_order(options or _parser().parse_args([])):
            done.append(found)  # noqa: PERF402  # what was found before a failure is kept
    except Exception as error:  # noqa: BLE001  # not all are foreseen; a traceback has the exit code of INVALID
        verdict = getattr(error, "verdict", None)
        what = "" if verdict else f"{type(error).__name__}: "
        return [*done, ("failed", what + " ".join(str(error).split()))], verdict or _COULD_NOT_RUN
    return done, _VALID


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check this bundle on this machine.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON")
    add(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="the manifest must be signed with this key's other half",
    )
    add(
        "--latency",
        nargs="?",
        type=float,
        const=0.0,
        metavar="MS",
        help="the median of single inferences must be below this (default: the budget in manifest.json)",
    )
    add("--threads", type=int, default=0, metavar="N", help="default: all cores")
    return parser


def main() -> int:
    """Print what was checked and the verdict."""
    sys.dont_write_bytecode = True  # the bundle stays as it was delivered
    if sys.path[0] != str(HERE):
        sys.path.insert(0, str(HERE))  # as under `python -I`
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file name is any text
    arguments = _parser().parse_args()
    done, verdict = verify(arguments)
    if arguments.json:
        print(json.dumps({"verdict": verdict, "checks": dict(done)}, indent=2, ensure_ascii=False))
    else:
        for name, finding in done:
            print(f"{name}: {finding}")
        print(verdict)
    return _EXIT_CODES[verdict]


if __name__ == "__main__":
    sys.exit(main())
