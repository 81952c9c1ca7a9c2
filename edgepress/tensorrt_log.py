"""What TensorRT says while it builds or runs. A call that fails gives nothing; the reason is here."""

import logging
from collections.abc import Sequence
from typing import Any

_LOGGER = logging.getLogger(__name__)
_TAIL = 3
_FULL = ("out of memory", "outofmemory", "insufficient memory", "cudaerrormemoryallocation", "cudamalloc")


class TensorRtLog:
    """Errors that TensorRT logged.

    Attributes:
        messages: In order, each on one line.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Keep a message, as one line."""
        self.messages.append(on_one_line(message))

    def tail(self) -> str:
        """The last few messages, on one line."""
        return tail(self.messages)

    def tells_full(self) -> bool:
        """Whether one of them says that memory of the GPU is out."""
        said = " ".join(self.messages).lower()
        return any(words in said for words in _FULL)


def tail(messages: Sequence[str]) -> str:
    """The last few of some messages, on one line."""
    return "; ".join(map(on_one_line, messages[-_TAIL:])) or "it gives no reason"


def on_one_line(message: str) -> str:
    """A message without its line breaks."""
    return " ".join(message.split())


def logger_of(trt: Any, log: TensorRtLog) -> Any:
    """A logger for TensorRT that keeps errors in `log` instead of printing them. TensorRT does not keep it.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        log: Takes the errors.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            _LOGGER.debug("%s: %s", severity, message)
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                log.add(message)

    return Logger()
