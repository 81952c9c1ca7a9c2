"""A report for the terminal: the summary, and a line per measured row, at most 100 columns wide."""

import re
import textwrap
from collections.abc import Sequence

from benchmark.measurement import Result, Results
from benchmark.report.measured import ran
from benchmark.report.number_text import ABSENT, megabytes, milliseconds, percent, state_of, times
from benchmark.report.pareto import accuracy_share, has_labels
from benchmark.report.summary import summary
from edgepress.runners.runner import title_of

WIDTH = 100
_GAP = "  "
_NAMES = 2  # columns that may be cut
_ELLIPSIS = "…"
_LEAST = 8
_NO_BREAK = "\N{NO-BREAK SPACE}"


def terminal_lines(results: Results) -> tuple[str, ...]:
    """The summary, an empty line, and a table of what was measured."""
    sentences = [line for sentence in summary(results) for line in _wrapped(sentence)]
    accuracy = "top-1 %" if has_labels(results) else "agree %"
    headers = ("variant", "runner", "ms", "speed-up", accuracy, "MB", "verdict")
    rows = [_cells(row, results) for row in ran(results)]
    return (*sentences, *(("", *_aligned([headers, *rows])) if rows else ()))


def _wrapped(sentence: str) -> list[str]:
    """Lines that do not part a number from its unit or an interval from what it is of."""
    kept = re.sub(r"(?<=\w) ([=<%]) (?=\d)|(?<=\d) (?=(?:%|ms|points)\b)", _unbroken, sentence)
    return [line.replace(_NO_BREAK, " ") for line in textwrap.wrap(kept, WIDTH)]


def _unbroken(found: re.Match[str]) -> str:
    return found[0].replace(" ", _NO_BREAK)


def _cells(row: Result, results: Results) -> tuple[str, ...]:
    return (
        row.artifact,
        title_of(row.runner),
        milliseconds(row.latency.median_ns if row.latency else None),
        times(row.speedup),
        percent(accuracy_share(row, results) if row.accuracy else None),
        megabytes(row.size_bytes),
        ABSENT if row.verdict is None else state_of(row).value,
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Names to the left, figures to the right; names are cut where the line would be too long."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > WIDTH:
        longest = max(range(_NAMES), key=lambda i: widths[i])
        if widths[longest] <= _LEAST:
            break
        widths[longest] -= 1
    return [_line(row, widths) for row in rows]


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    last = len(row) - 1
    cells = (
        f"{_cut(cell, width):<{width}}" if i < _NAMES or i == last else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return _GAP.join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + _ELLIPSIS
