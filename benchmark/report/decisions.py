"""Which pictures each version decides otherwise than FP32, and in which classes."""

from collections.abc import Mapping

from benchmark.decisions import Decisions, Flip, shown_flips
from benchmark.measurement import RESULTS, Result, Results
from benchmark.report.number_text import ABSENT
from benchmark.report.parts import Fold, Section, Table
from edgepress.runners.runner import title_of

_FLIP_HEADERS = ("Picture", "Label", "FP32", "This version", "FP32's margin")
_CLASS_HEADERS = ("Class", "Pictures", "Right with FP32", "Right with this version")


def decisions(results: Results) -> Section:
    """A fold for each row with flips, the most first; a row whose decisions are all the same has none."""
    found = [(row, row.decisions) for row in results.results if row.decisions and row.decisions.flips]
    found.sort(key=lambda pair: -len(pair[1].flips))
    folds = tuple(_fold(row, changed, results.data.thumbnails) for row, changed in found)
    return Section("decisions", "Which pictures changed", folds=folds)


def _fold(row: Result, found: Decisions, thumbnails: Mapping[str, str]) -> Fold:
    images = row.accuracy.images if row.accuracy else 0
    count = len(found.flips)
    have = "has" if count == 1 else "have"
    return Fold(
        f"{row.artifact} on {title_of(row.runner)}: {count} of {images} pictures {have} another top class",
        (_flips(found, thumbnails), _classes(found)),
    )


def _flips(found: Decisions, thumbnails: Mapping[str, str]) -> Table:
    shown = shown_flips(found)
    more = len(found.flips) - len(shown)
    pictures = tuple(thumbnails.get(flip.picture, "") for flip in shown)
    return Table(
        "The clearest cases first. A small margin (in logits) was a close call for FP32, too.",
        _FLIP_HEADERS,
        tuple(_flip_cells(flip) for flip in shown),
        frozenset({_FLIP_HEADERS[-1]}),
        (f"and {more} more in {RESULTS}",) if more else (),
        pictures if any(pictures) else (),
    )


def _flip_cells(flip: Flip) -> tuple[str, ...]:
    margin = ABSENT if flip.margin is None else f"{flip.margin:.2f}"
    return flip.picture, flip.label or ABSENT, flip.reference, flip.found, margin


def _classes(found: Decisions) -> Table:
    changed = [c for c in found.classes if c.right != c.reference_right]
    changed.sort(key=lambda c: c.right - c.reference_right)
    return Table(
        "Classes of which this version gets another number right.",
        _CLASS_HEADERS,
        tuple((c.name, str(c.images), str(c.reference_right), str(c.right)) for c in changed),
        frozenset(_CLASS_HEADERS[1:]),
    )
