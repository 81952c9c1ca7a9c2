"""What is seen of a running TensorRT build, and how it is ended: its progress, and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

from edgepress.progress import Progress

_PERCENT = 100


class Interruption:
    """Whether the user wants the build to end.

    Attributes:
        is_wanted: Set by a signal, and read between the builder's steps.
    """

    def __init__(self) -> None:
        self.is_wanted = False


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn Ctrl-C (and what else raises KeyboardInterrupt) into a wish that the builder is told of.

    TensorRT swallows an exception that is raised in a callback, and a KeyboardInterrupt is raised in whatever
    Python runs at that moment. So it is raised when the block ends. Outside the main thread signals do not
    arrive, and nothing is done.

    Raises:
        KeyboardInterrupt: It was wanted inside the block.
    """
    wish, former = Interruption(), {}

    def note(_number: int, _frame: FrameType | None) -> None:
        wish.is_wanted = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                former[number] = signal.signal(number, note)
    try:
        yield wish
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if wish.is_wanted:
            raise KeyboardInterrupt


def monitor(trt: ModuleType, wish: Interruption, task: str, progress: Progress) -> Any:
    """A TensorRT progress monitor, which the caller must keep alive as long as the builder uses it.

    Args:
        trt: The module.
        wish: Ends the build.
        task: What the progress is called.
        progress: Told how much of the build is done, in percent.
    """
    done = Fraction(lambda percent: progress(task, percent, _PERCENT))

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            done.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            done.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            done.step(phase_name, step)
            return not wish.is_wanted

    return Monitor()


class Fraction:
    """How much of nested phases is done: each step of a phase is an equal part of it.

    Phases that TensorRT runs at the same time, and such that outlive their parent, count with their parent's
    steps alone. What is told never falls.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._told = tell, -1
        self._spans: dict[str, tuple[float, float, int]] = {}  # where it begins, its length, its steps
        self._steps: dict[str, int] = {}
        self._lock = threading.Lock()  # the builder may call from several threads

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside the step of its parent that is next."""
        with self._lock:
            begin, length = 0.0, 1.0
            if parent in self._spans:
                outer_begin, outer_length, outer_steps = self._spans[parent]
                length = outer_length / max(1, outer_steps)
                begin = outer_begin + length * self._steps[parent]
            self._spans[phase], self._steps[phase] = (begin, length, steps), 0

    def step(self, phase: str, step: int) -> None:
        """A step of a phase, counted from 0, is done."""
        with self._lock:
            if phase not in self._spans:
                return
            begin, length, steps = self._spans[phase]
            self._steps[phase] = step + 1
            percent = int(_PERCENT * min(1.0, begin + length * (step + 1) / max(1, steps)) + 1e-9)
            if percent <= self._told:
                return
            self._told = percent
        self._tell(percent)

    def finish(self, phase: str) -> None:
        """A phase is over."""
        with self._lock:
            self._spans.pop(phase, None)
            self._steps.pop(phase, None)
