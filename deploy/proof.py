"""A bundle proves itself before it is delivered: its own scripts, in processes of their own."""

import json
import platform
import subprocess
import sys
from enum import Enum
from pathlib import Path

import numpy as np

from edgepress.errors import ProofError

_PATIENCE_S = 600
_COULD_NOT_RUN = 2


class Wanted(str, Enum):
    """What a bundle can show on this machine."""

    VALID = "valid"  # it runs here
    WHOLE = "whole"  # its device is another: the files are as they were, and verify.py says what is missing


def prove(folder: Path, golden: str, wanted: Wanted, public_key: Path | None = None) -> str:
    """Run verify.py, and infer.py on the golden pictures.

    Args:
        folder: Of the bundle. It stays as it is; a file is written beside it.
        golden: Name of the file of golden pictures in it.
        wanted: What verify.py must say.
        public_key: By which verify.py must find the bundle signed; None for one that is not.

    Returns:
        What it said at last, e.g. "VALID".

    Raises:
        ProofError: One of them fails, takes too long, or gives other classes than the model.
    """
    options = () if public_key is None else ("--public-key", str(public_key.absolute()))
    verdict = _run(folder, "verify.py", *options)
    if verdict.returncode == _COULD_NOT_RUN and wanted is Wanted.WHOLE and _is_whole(verdict.stdout):
        reason = _last_line(verdict).removeprefix("failed: ").partition(". ")[0]
        return f"all files are as they should be; not run here: {reason}"
    if verdict.returncode != 0:
        raise ProofError(f"The bundle does not verify ({_last_line(verdict)}). Nothing was delivered.")
    picture = folder.parent / "golden.npy"
    with np.load(folder / golden, allow_pickle=False) as arrays:
        pictures, logits = arrays["pictures"], arrays["logits"]
    np.save(picture, pictures)
    answers = _run(folder, "infer.py", str(picture.absolute()), "--json", "--top", "1")
    if answers.returncode != 0:
        raise ProofError(f"The bundle's infer.py fails: {_last_line(answers)} Nothing was delivered.")
    found = [answer["answers"][0]["class"] for answer in json.loads(answers.stdout)]
    if found != [int(i) for i in logits.argmax(axis=1)]:
        raise ProofError("The bundle's infer.py gives other classes than the model. Nothing was delivered.")
    return "VALID"


def _is_whole(output: str) -> bool:
    """Whether verify.py found all files as they were before it met what this machine lacks."""
    return output.startswith("files: ")


def _run(folder: Path, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-B", str((folder / script).absolute()), *arguments]
    try:
        return subprocess.run(
            command, cwd=folder.parent, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(
            f"The bundle's {script} did not end within {_PATIENCE_S} s. Nothing was delivered. Try again "
            "when the machine has less to do."
        ) from error


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    useful = [line for line in lines if line not in {"INVALID", "COULD NOT RUN"}]
    return useful[-1] if useful else f"it said nothing (exit code {done.returncode}, {platform.system()})"
