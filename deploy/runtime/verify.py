"""Check this bundle on this machine (`python verify.py`).

Every file against its SHA-256, the signature, the machine, the runtime and what it really runs on, the
model's answers to the golden pictures, and how long one takes. Exit code 0: VALID; 1: INVALID; 2: it could
not be checked here. No file of the bundle runs before it is known to be as it was.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import hashlib
import importlib.machinery
import importlib.util
import json
import platform
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
UNPACK = "Unpack the bundle again."
OLDEST_PYTHON = (3, 10)
_VALID, _INVALID, _COULD_NOT_RUN = "VALID", "INVALID", "COULD NOT RUN"
_EXIT_CODES = {_VALID: 0, _INVALID: 1, _COULD_NOT_RUN: 2}
_BUILDER, _BUILT = "build.py", "engine"  # what the one makes on the device lies in the other


def _tell(done: "list[tuple[str, str]]", verdict: str, *, as_json: bool) -> int:
    """Print what was checked and the verdict, and give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file name is any text
    if as_json:
        print(json.dumps({"verdict": verdict, "checks": dict(done)}, indent=2, ensure_ascii=False))
    else:
        for name, finding in done:
            print(f"{name}: {finding}")
        print(verdict)
    return _EXIT_CODES[verdict]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _AsListed(importlib.machinery.SourceFileLoader):
    """Imports a file of this bundle only if it is what manifest.sha256 says, and never from __pycache__.

    A changed file is to be found, and not to be run. The checksums of all files are checked by a module of
    the bundle, too, so this cannot wait for them.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG003  # of the protocol
        """Tell what of this bundle is imported under a name; None for a module from elsewhere."""
        file = HERE / (name + ".py")
        if path is not None or not file.is_file():
            return None
        return importlib.util.spec_from_file_location(name, file, loader=cls(name, str(file)))

    def path_stats(self, path: Any) -> Any:
        """Refuse to tell the time of a source, without which no compiled file is looked for."""
        raise OSError(f"{path} is always compiled anew")

    def get_data(self, path: Any) -> bytes:
        """Read a source and compare it with its checksum."""
        content, name = super().get_data(path), Path(path).name
        line = f"{hashlib.sha256(content).hexdigest()}  {name}"
        if line not in (HERE / "manifest.sha256").read_text(encoding="utf-8", errors="replace").split("\n"):
            raise ValueError(f"{name} is not what manifest.sha256 says")
        return content


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the bundle stays as it was delivered
    sys.meta_path.insert(0, _AsListed)
if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import CouldNotRun
    from deploy.runtime.checksums import check_files
else:  # beside it, on a device
    try:
        from bundle import CouldNotRun
        from checksums import check_files
    except (ImportError, OSError, ValueError) as failure:
        if __name__ != "__main__":
            raise
        is_unreadable = isinstance(failure, OSError) and not isinstance(failure, FileNotFoundError)
        finding = f"{_one_line(failure)}. {'Check its rights.' if is_unreadable else UNPACK}"
        verdict = _COULD_NOT_RUN if is_unreadable else _INVALID
        sys.exit(_tell([("failed", finding)], verdict, as_json="--json" in sys.argv))


def check_python() -> None:
    """This Python can run the other scripts."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise CouldNotRun(
            f"Python 3.10 or newer is wanted, this is {platform.python_version()}. Use a newer one."
        )


def verify(options: Any = None) -> "tuple[list[tuple[str, str]], str]":
    """All checks, in order, until one fails: their names and findings, and the verdict.

    Args:
        options: As the command line gives them; None for none.
    """
    done = []
    try:
        made_here = frozenset({_BUILT} if (HERE / _BUILDER).is_file() else ())
        done.append(("files", check_files(HERE, made_here)))
        check_python()
        if TYPE_CHECKING or __package__:
            from deploy.runtime import checks
        else:
            import checks
        for found in checks.in_order(options or _parser().parse_args([])):
            done.append(found)  # noqa: PERF402  # what was found before a failure is kept
    except Exception as error:  # noqa: BLE001  # not all are foreseen; a traceback has the exit code of INVALID
        verdict = getattr(error, "verdict", None)
        what = "" if verdict else f"{type(error).__name__}: "
        return [*done, ("failed", what + _one_line(error))], verdict or _COULD_NOT_RUN
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
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a broken pipe is no verdict, and no exit code 1
    if sys.path[0] != str(HERE):
        sys.path.insert(0, str(HERE))  # as under `python -I`
    arguments = _parser().parse_args()
    done, verdict = verify(arguments)
    return _tell(done, verdict, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
