"""Each backend is tried in a process of its own: an import alone can crash, or hang, or be half there.

The verdict comes through a file that only the trial knows. What a package prints, whether it reads stdin,
leaves by `sys.exit`, or starts processes that stay, cannot pass for an answer or hold the doctor up.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum

from edgepress.doctor.backends import Backend
from edgepress.environments import located

PATIENCE_S = 120.0
_POLL_S = 0.02
_AT_ONCE = 2  # TensorFlow alone takes 0.6 GB to import
_FINDING_CHARACTERS = 300
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
_SIGNAL_REASONS = {
    "SIGILL": " (it was built with instructions that this CPU lacks)",
    "SIGKILL": " (by the system, as for lack of memory)",
}


class Verdict(Enum):
    """What became of a trial."""

    WORKS = "works"
    ABSENT = "absent"  # not installed, or a build without it: not a fault
    NOT_HERE = "not here"  # this machine lacks what it needs
    BROKEN = "broken"  # installed, and fails


class Cause(Enum):
    """Why a backend is broken, as far as it decides what mends it."""

    ITSELF = "itself"
    DEPENDENCY = "dependency"  # a package that it imports is not there
    CPU = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What was seen of one backend.

    Attributes:
        verdict: What became of it.
        finding: Versions, or what went wrong; printable, one line.
        cause: Of a broken one; None otherwise.
    """

    verdict: Verdict
    finding: str
    cause: Cause | None = None


_FRAME = """
import importlib.util, json, os, sys
if sys.path[:1] == [""]:
    del sys.path[0]  # a folder here that happens to be called onnx is not the package
imports, code, answer = json.loads(sys.argv[1])
def say(verdict, finding, cause=None):
    os.write(answer, json.dumps([verdict, finding, cause]).encode() + b"\\n")
def absent(reason):
    say("absent", reason)
    os._exit(0)
try:
    for package in imports:
        spec = importlib.util.find_spec(package)
        if spec is None:
            absent(package + " is not installed")
        if spec.origin is None:
            raise ImportError("of " + package + " only the folder is left")
    values = {"absent": absent}
    exec(code, values)
    say("works", str(values["found"]))
except BaseException as error:
    try:
        text = str(error)
    except BaseException:
        text = ""
    missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0]
    outside = missing and missing not in imports
    say("broken", type(error).__name__ + ": " + text, "dependency" if outside else "itself")
"""


def _interpreter_of(backend: Backend) -> str:
    """That of its own environment, where it is there."""
    found = located(backend.environment).python if backend.environment is not None else None
    return found or sys.executable


class _Attempt:
    """One backend being tried."""

    def __init__(self, backend: Backend, patience_s: float) -> None:
        self.backend = backend
        self._patience_s = patience_s
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115  # see close
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115
        descriptor = self._answer.fileno()
        task = json.dumps([backend.imports, backend.code, descriptor])
        self._process = subprocess.Popen(
            [_interpreter_of(backend), "-c", _FRAME, task],
            env={**os.environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=self._noise,
            stderr=subprocess.STDOUT,
            pass_fds=(descriptor,),
        )
        self._end_s = time.monotonic() + patience_s

    def is_over(self) -> bool:
        return self._process.poll() is not None or time.monotonic() > self._end_s

    def close(self) -> Outcome:
        """End it if it still runs, and read what it left."""
        late = self._process.poll() is None
        if late:
            self._process.kill()
        code = self._process.wait()
        with self._answer, self._noise:
            answers, noise = _lines(self._answer.fileno()), _lines(self._noise.fileno())
        last_words = f": {printable(noise[-1])}" if noise else ""
        if late:
            return _broken(f"gave no answer within {self._patience_s:.0f} s{last_words}")
        if code < 0:
            name = _signal_name(-code)
            cause = Cause.CPU if name == "SIGILL" else Cause.ITSELF
            return _broken(f"its process was ended by {name}{_SIGNAL_REASONS.get(name, last_words)}", cause)
        if not answers:
            return _broken(f"its process left with exit code {code} and no answer{last_words}")
        verdict, finding, cause_or_none = json.loads(answers[-1])
        return Outcome(Verdict(verdict), printable(finding), Cause(cause_or_none) if cause_or_none else None)


def try_backends(
    backends: Sequence[Backend], patience_s: float = PATIENCE_S
) -> Generator[tuple[Backend, Outcome], None, None]:
    """Try backends in fresh processes, two at a time.

    Args:
        backends: What to try.
        patience_s: After which one counts as hanging.

    Yields:
        Each as it ends. Whoever stops listening ends the processes that still run.
    """
    waiting = list(reversed(backends))
    running: list[_Attempt] = []
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                running.append(_Attempt(waiting.pop(), patience_s))
            for attempt in [attempt for attempt in running if attempt.is_over()]:
                running.remove(attempt)
                yield attempt.backend, attempt.close()
            time.sleep(_POLL_S)
    finally:
        for attempt in running:
            attempt.close()


def printable(text: str) -> str:
    """Text of a foreign package on one line that any terminal takes: no escapes, of bounded length."""
    line = " ".join(text.split())[:_FINDING_CHARACTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _broken(finding: str, cause: Cause = Cause.ITSELF) -> Outcome:
    return Outcome(Verdict.BROKEN, finding, cause)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _lines(descriptor: int) -> list[str]:
    """The lines that are not empty in the last 64 kB of a file."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 65536, max(0, size - 65536))
    return [line for line in tail.decode("utf-8", errors="replace").splitlines() if line.strip()]
