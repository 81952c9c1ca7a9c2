"""Which versions no other beats in both latency and accuracy."""

from collections.abc import Sequence
from enum import Enum

from benchmark.measurement import Result, Results
from benchmark.report.number_text import is_believed
from edgepress.runners.runner import title_of


class Standing(Enum):
    """Where a row stands among the others."""

    FRONT = "front"  # no other believed row beats it
    BEATEN = "beaten"
    REJECTED = "rejected"  # its times are not believed


def standing(row: Result, front: Sequence[Result]) -> Standing:
    """Where a row stands, given `pareto_front`."""
    if not is_believed(row):
        return Standing.REJECTED
    return Standing.FRONT if row in front else Standing.BEATEN


def candidates(results: Results) -> list[Result]:
    """Rows with latency and accuracy, also those that are not believed."""
    return [row for row in results.results if row.latency is not None and row.accuracy is not None]


def accuracy_share(row: Result, results: Results) -> float:
    """Top-1 in [0, 1]; without labels, agreement with FP32."""
    if row.accuracy is None:
        return 0.0
    by_label = has_labels(results) and row.accuracy.top1 is not None
    return row.accuracy.top1 if by_label and row.accuracy.top1 is not None else row.accuracy.agreement


def has_labels(results: Results) -> bool:
    """Whether accuracy is top-1."""
    return results.baseline.top1 is not None


def pareto_front(results: Results) -> list[Result]:
    """Believed rows that no other believed one beats in both: quicker first.

    One row beats another if it is at least as quick and as accurate, and better in one of the two.
    """
    believed = [row for row in candidates(results) if is_believed(row)]
    front = [row for row in believed if not any(_beats(other, row, results) for other in believed)]
    return sorted(front, key=_latency_ns)


def _beats(other: Result, row: Result, results: Results) -> bool:
    quicker = _latency_ns(other) - _latency_ns(row)
    better = accuracy_share(other, results) - accuracy_share(row, results)
    return quicker <= 0 and better >= 0 and (quicker < 0 or better > 0)


def _latency_ns(row: Result) -> float:
    return row.latency.median_ns if row.latency else 0.0


def front_in_words(results: Results) -> tuple[str, ...]:
    """Who is on the front, and whose times were not believed."""
    rows = candidates(results)
    if not rows:
        return ()
    what = "top-1 accuracy" if has_labels(results) else "agreement with FP32"
    front = pareto_front(results)
    rejected = [row for row in rows if not is_believed(row)]
    sentences = []
    if front:
        sentences.append(f"No other version beats these in both latency and {what}: {_names(front)}.")
    if rejected:
        sentences.append(f"Rejected, because their times are not believed: {_names(rejected)}.")
    return tuple(sentences)


def _names(rows: Sequence[Result]) -> str:
    return "; ".join(f"{row.artifact} on {title_of(row.runner)}" for row in rows)
