"""What the user sees: log lines and progress on stderr, results on stdout, and no framework's noise.

TensorFlow, LiteRT and TensorRT write to the file descriptors 1 and 2 behind Python's back. The front door
keeps private copies of both for itself and points the originals, which child processes inherit, at a
scratch file; its tail is shown only when a framework takes the process down.
"""

import faulthandler
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

OUR_LOGGERS = ("edgepress", "train", "export", "optimize", "benchmark", "deploy")
_LINE_EVERY_S = 5.0


class Verbosity(Enum):
    """How much of the work is told on stderr."""

    QUIET = logging.WARNING
    NORMAL = logging.INFO
    VERBOSE = logging.DEBUG


class LineProgress:
    """Progress for a log file: a plain line when a task starts, every few seconds, and at its end."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}

    def __call__(self, task: str, done: int, total: int) -> None:
        """Log the state of `task` unless it was logged a moment ago."""
        now_s = time.monotonic()
        if done < total and now_s - self._told_s.get(task, -_LINE_EVERY_S) < _LINE_EVERY_S:
            return
        self._told_s[task] = now_s
        logging.getLogger(__name__).info("%s: %d of %d", task, done, total)


class BarProgress:
    """Progress for a terminal: a bar with the time left for each task."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, task: str, done: int, total: int) -> None:
        """Move the bar of `task`; it disappears when the task is done."""
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total)
        self._bars.update(self._tasks[task], completed=done, total=total)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(task))


@contextmanager
def native_noise_hidden() -> Iterator[None]:
    """Give Python's stdout and stderr private descriptors, and send descriptors 1 and 2 to a scratch file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = sys.stdout, sys.stderr
    private: list[TextIO] = [
        os.fdopen(os.dup(fd), "w", buffering=1, encoding=stream.encoding, errors="backslashreplace")
        for fd, stream in ((1, saved[0]), (2, saved[1]))
    ]
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
        sys.stdout, sys.stderr = private
        faulthandler.enable(file=private[1])  # a crash inside a framework still says where
        try:
            yield
        finally:
            faulthandler.disable()
            for fd, stream in ((1, private[0]), (2, private[1])):
                stream.flush()
                os.dup2(stream.fileno(), fd)
            sys.stdout, sys.stderr = saved


@contextmanager
def progress_on_stderr(verbosity: Verbosity) -> Iterator[LineProgress | BarProgress]:
    """Configure logging, and yield the progress that fits: bars on a terminal, lines elsewhere."""
    if verbosity is Verbosity.QUIET or not sys.stderr.isatty():
        plain = logging.StreamHandler(sys.stderr)
        plain.setFormatter(logging.Formatter("%(message)s"))
        with _logging_to(plain, verbosity):
            yield LineProgress()
        return
    console = Console(file=sys.stderr)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # results go where the user sent stdout, never to the bars' stderr
        redirect_stderr=False,
    )
    rich = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    with _logging_to(rich, verbosity), bars:
        yield BarProgress(bars)


@contextmanager
def _logging_to(handler: logging.Handler, verbosity: Verbosity) -> Iterator[None]:
    """Show our own log lines; frameworks' loggers and Python warnings stay silent."""
    root = logging.getLogger()
    nothing = logging.NullHandler()
    root.addHandler(nothing)  # absl and tf2onnx install their own stderr handler if the root has none
    logging.captureWarnings(capture=True)
    for name in OUR_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(verbosity.value)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for name in OUR_LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        root.removeHandler(nothing)
