"""The parent's end of a measuring process: start, ask, stop it for a while, and never leave it behind."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, TypeVar, cast

from benchmark.protocol import Failure, FailureKind, request_to_json
from edgepress.artifact import Device
from edgepress.environments import interpreter_of
from edgepress.errors import EdgepressError
from edgepress.record import from_json

Reply = TypeVar("Reply")

_MODULE = ("-m", "benchmark.worker")
COMMAND = (sys.executable, *_MODULE)
PATIENCE_S = 900.0
_READ_BYTES = 1 << 16
_LOG_TAIL_BYTES = 4096


def command_for(runner: str, device: Device) -> tuple[str, ...]:
    """Starts a measuring process in the environment that has the runtime of a runner.

    Raises:
        InputError: A variable names an interpreter that is not there.
    """
    return (interpreter_of(runner, device), *_MODULE)


class WorkerError(EdgepressError):
    """A measuring process did not give an answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class WorkerProcess:
    """A fresh process that lives between `__enter__` and `__exit__`.

    It has a session of its own, so that Ctrl-C reaches only the parent, which then ends it.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._resources = contextlib.ExitStack()
        self._buffer = b""

    def __enter__(self) -> "WorkerProcess":
        self._log = self._resources.enter_context(tempfile.TemporaryFile())
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            start_new_session=True,
        )
        self._resources.callback(self._end)
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout).fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, request: object, reply: type[Reply], patience_s: float = PATIENCE_S) -> Reply:
        """Send a request and sleep until its answer is there.

        Raises:
            WorkerError: The process failed, ended, or gave no answer, or none in time.
        """
        line = json.dumps(request_to_json(request)) + "\n"
        try:
            self._requests.write(line.encode())
            self._requests.flush()
        except BrokenPipeError:
            raise WorkerError(self._crash()) from None
        answered = self._read_line(patience_s, type(request).__name__)
        try:
            answer = json.loads(answered)
            failure = from_json(Failure, answer["failure"]) if "failure" in answer else None
            found = None if failure else from_json(reply, answer["reply"])
        except (ValueError, KeyError, TypeError) as error:
            message = f"its process gave {answered[:40]!r} for an answer to {type(request).__name__}"
            raise WorkerError(Failure(FailureKind.CRASH, message)) from error
        if failure is not None:
            raise WorkerError(failure)
        return cast("Reply", found)

    def pause(self) -> None:
        """Stop all its threads, and return when they have stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        if hasattr(os, "waitid"):  # WNOWAIT leaves an exit status to subprocess
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let a stopped process run inside the block only."""
        self.resume()
        yield
        self.pause()

    def _read_line(self, patience_s: float, command: str) -> bytes:
        deadline_s = time.monotonic() + patience_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                message = f"its process gave no answer to {command} within {patience_s:.0f} s"
                raise WorkerError(Failure(FailureKind.TIMEOUT, message))
            chunk = os.read(self._answers, _READ_BYTES)
            if not chunk:
                raise WorkerError(self._crash())
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _crash(self) -> Failure:
        """Say how the process ended: its exit code or signal, and the last line of its log."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            cause = " (out of memory?)" if -code == signal.SIGKILL else ""
            return Failure(FailureKind.CRASH, f"its process was ended by {name}{cause}")
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LOG_TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return Failure(FailureKind.CRASH, f"its process ended with exit code {code}: {last}")

    def _end(self) -> None:
        """Kill it (a stopped process too) and wait until it is gone. There is nothing to save in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
