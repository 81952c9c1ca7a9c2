"""Check this bundle on this machine (`python verify.py`).

Every file against its SHA-256, the machine, the runtime and what it really runs on, and the model's answers
to the golden pictures. Exit code 0: VALID; 1: INVALID; 2: it could not be checked here.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import hashlib
import io
import json
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUMS = "manifest.sha256"
OLDEST_PYTHON = (3, 10)
sys.dont_write_bytecode = True  # the bundle stays as it was delivered


class CouldNotRun(Exception):  # noqa: N818  # the name of a verdict
    """The bundle may be sound, but this machine cannot tell."""


class Invalid(Exception):  # noqa: N818  # the name of a verdict
    """The bundle is not what it was."""


def read_sums() -> "dict[str, str]":
    """File name → SHA-256, as manifest.sha256 says."""
    try:
        lines = (HERE / SUMS).read_bytes().decode("ascii").split("\n")
    except (OSError, ValueError) as error:
        raise Invalid(f"{SUMS} cannot be read ({error})") from error
    if lines.pop() != "":
        raise Invalid(f"{SUMS} does not end with a whole line")
    wanted: dict[str, str] = {}
    for line in lines:
        digest, gap, name = line.partition("  ")
        if not gap or len(digest) != 64 or "/" in name or "\\" in name or name in wanted:
            raise Invalid(f"{SUMS} has a line that is no checksum: {line[:80]!r}")
        wanted[name] = digest
    return wanted


def check_files() -> str:
    """Every file is there, is as it was, and there is no other."""
    wanted = read_sums()
    there = {path.name for path in HERE.iterdir() if path.name not in {SUMS, "__pycache__"}}
    if there != set(wanted):
        raise Invalid(f"files missing or not named in {SUMS}: {', '.join(sorted(there ^ set(wanted)))}")
    for name, digest in wanted.items():
        try:
            found = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
        except OSError as error:
            raise CouldNotRun(f"{name} cannot be read ({error})") from error
        if found != digest:
            raise Invalid(f"{name}: SHA-256 is {found[:12]}…, wanted {digest[:12]}…")
    return f"{len(wanted)} files are as they were"


def check_machine(manifest: Any) -> str:
    """This kind of machine is the one that the bundle was made for."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise CouldNotRun(f"Python 3.10 or newer is wanted, this is {platform.python_version()}")
    machine, wanted = platform.machine(), manifest["target"]["machines"]
    if machine not in wanted:
        raise CouldNotRun(f"the bundle is for {' or '.join(wanted)}, this machine is {machine}")
    return f"{machine}, Python {platform.python_version()}"


def check_runtime(manifest: Any) -> "tuple[str, Any]":
    """The runtime is there, loads the model, and runs it where it was told to."""
    try:
        import infer
        import numpy
        import onnxruntime
    except ImportError as error:
        raise CouldNotRun(f"{error}. Run: pip install -r requirements.txt") from error
    try:
        session = infer.open_session(manifest)
    except infer.Refusal as refusal:
        raise Invalid(str(refusal)) from refusal
    proven = manifest["versions"]["onnxruntime"]
    note = "" if onnxruntime.__version__ == proven else f" (made with {proven})"
    where = ", ".join(session.get_providers())
    return f"ONNX Runtime {onnxruntime.__version__}{note} on {where}, numpy {numpy.__version__}", session


def check_golden(manifest: Any, session: Any) -> str:
    """The model's answers to the golden pictures are within the tolerance."""
    import infer
    import numpy as np

    content = io.BytesIO((HERE / manifest["golden"]["file"]).read_bytes())
    with np.load(content, allow_pickle=False) as arrays:
        pictures, wanted = arrays["pictures"], arrays["logits"]
    found = infer.logits_of(session, manifest, pictures)
    tolerance = float(manifest["golden"]["tolerance"])
    difference = float(np.abs(found - wanted).max())
    if found.shape != wanted.shape or not np.isfinite(found).all() or difference > tolerance:
        raise Invalid(f"logits differ by up to {difference:.3g}, at most {tolerance:.3g} is wanted")
    best = np.sort(wanted, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * tolerance
    if (found.argmax(1) != wanted.argmax(1))[clear].any():
        raise Invalid("a golden picture has another top class than it had")
    return f"{len(wanted)} golden pictures within {difference:.3g} (allowed: {tolerance:.3g})"


def verify() -> "tuple[list[tuple[str, str]], str]":
    """All checks, in order, until one fails: their names and findings, and the verdict."""
    done = []
    try:
        done.append(("files", check_files()))
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
        done.append(("machine", check_machine(manifest)))
        finding, session = check_runtime(manifest)
        done.append(("runtime", finding))
        done.append(("golden", check_golden(manifest, session)))
    except Invalid as error:
        return [*done, ("failed", str(error))], "INVALID"
    except CouldNotRun as error:
        return [*done, ("failed", str(error))], "COULD NOT RUN"
    return done, "VALID"


def main() -> int:
    """Print what was checked and the verdict."""
    parser = argparse.ArgumentParser(description="Check this bundle on this machine.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    done, verdict = verify()
    if arguments.json:
        print(json.dumps({"verdict": verdict, "checks": dict(done)}, indent=2, ensure_ascii=False))
    else:
        for name, finding in done:
            print(f"{name}: {finding}")
        print(verdict)
    return {"VALID": 0, "INVALID": 1}.get(verdict, 2)


if __name__ == "__main__":
    sys.exit(main())
