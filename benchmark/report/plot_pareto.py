"""Latency × accuracy × size: the Pareto front, what it beats, and what was rejected."""

from collections.abc import Mapping
from typing import Any

from benchmark.measurement import Result, Results
from benchmark.report.number_text import is_believed, megabytes, milliseconds, percent, state_of
from benchmark.report.pareto import (
    Standing,
    accuracy_share,
    candidates,
    front_in_words,
    has_labels,
    pareto_front,
    standing,
)
from benchmark.report.plot_labels import Point, place_labels
from benchmark.report.plot_style import (
    DIM,
    INK,
    STYLE,
    Look,
    figure_of,
    looks,
    matplotlib,
    number_ticks,
    svg_of,
)
from edgepress.runners.runner import title_of

_LARGEST_POINTS2 = 900.0
_SMALLEST_POINTS2 = 40.0
_CROSS_POINTS2 = 30.0
_PALE = 0.45
_DASHES = (0, (5, 3))


def pareto_svg(results: Results) -> str:
    """One bubble per row with latency and accuracy, its area in proportion to the size on disk.

    Rows on the front are joined by a line; those that another one beats are paler; those whose times are not
    believed are hollow, with a cross.
    """
    mpl = matplotlib()
    rows = sorted(candidates(results), key=lambda row: -row.size_bytes)  # small ones on top
    front = pareto_front(results)
    look = looks(row.runner for row in rows)
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(4.8)
        points = [_point(row, results, rows[0].size_bytes) for row in rows]
        _axes(axes, points, results)
        for row, (x, y, area, _) in zip(rows, points, strict=True):
            _draw(axes, (x, y, area), look[row.runner], standing(row, front))
        _front_line(axes, front, results)
        _legend(axes, rows, front, look)
        figure.canvas.draw()
        place_labels(axes, points)
        return svg_of(figure, "trade-off-plot", "Latency against accuracy", _in_words(rows, results))


def _point(row: Result, results: Results, largest: int) -> Point:
    area = max(_LARGEST_POINTS2 * row.size_bytes / max(largest, 1), _SMALLEST_POINTS2)
    state = "" if is_believed(row) else f", {state_of(row).value}"
    return *_place(row, results), area, f"{row.artifact}  {megabytes(row.size_bytes)} MB{state}"


def _place(row: Result, results: Results) -> tuple[float, float]:
    return (row.latency.median_ns / 1e6 if row.latency else 0.0), accuracy_share(row, results) * 100


def _draw(axes: Any, bubble: tuple[float, float, float], look: Look, where: Standing) -> None:
    x, y, area = bubble
    shape = {"s": area, "marker": look.marker}
    if where is Standing.FRONT:
        axes.scatter(x, y, **shape, color=look.colour, edgecolors=INK, linewidths=0.8)
    elif where is Standing.BEATEN:
        axes.scatter(x, y, **shape, color=look.colour, alpha=_PALE, edgecolors="none")
    else:
        axes.scatter(x, y, **shape, facecolors="none", edgecolors=look.colour, linewidths=1.4)
        axes.scatter(x, y, s=_CROSS_POINTS2, color=look.colour, marker="x", linewidths=1.4)


def _front_line(axes: Any, front: list[Result], results: Results) -> None:
    """Through the front, and on to the right: everything below and right of it is beaten."""
    if not front:
        return
    places = [_place(row, results) for row in front]
    places.append((axes.get_xlim()[1], places[-1][1]))
    xs, ys = zip(*places, strict=True)
    axes.plot(xs, ys, drawstyle="steps-post", color=DIM, linewidth=1.2, linestyle=_DASHES, zorder=0.9)


def _axes(axes: Any, points: list[Point], results: Results) -> None:
    xs, ys = [p[0] for p in points] or [1.0], [p[1] for p in points] or [100.0]
    axes.set_xscale("log")
    axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
    margin = max((max(ys) - min(ys)) * 0.3, 0.5)
    axes.set_ylim(min(ys) - margin, max(ys) + margin)
    number_ticks(axes.xaxis, (1, 2, 5))
    axes.set_xlabel("median latency, ms per image (log scale; left is better)")
    what = "top-1 accuracy" if has_labels(results) else "agreement with FP32"
    axes.set_ylabel(f"{what}, % (up is better)")
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _legend(axes: Any, rows: list[Result], front: list[Result], look: Mapping[str, Look]) -> None:
    for runner in dict.fromkeys(row.runner for row in rows):
        shape = look[runner]
        axes.scatter([], [], s=50, color=shape.colour, marker=shape.marker, label=title_of(runner))
    if front:
        axes.plot([], [], color=DIM, linewidth=1.2, linestyle=_DASHES, label="Pareto front")
    found = {standing(row, front) for row in rows}
    if Standing.BEATEN in found:
        axes.scatter([], [], s=50, color=INK, alpha=_PALE * 0.8, edgecolors="none", label="beaten (paler)")
    if Standing.REJECTED in found:
        axes.plot(
            [], [], color=INK, marker="$\\otimes$", markersize=8, linestyle="none", markeredgewidth=0.3,
            label="rejected (unstable or invalid)",
        )  # fmt: skip
    if rows:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, handletextpad=0.3)


def _in_words(rows: list[Result], results: Results) -> str:
    what = "top-1" if has_labels(results) else "agreement with FP32"
    each = "; ".join(
        f"{row.artifact} on {title_of(row.runner)}: "
        f"{milliseconds(row.latency.median_ns if row.latency else None)} ms, "
        f"{what} {percent(accuracy_share(row, results))} %, {megabytes(row.size_bytes)} MB"
        for row in rows
    )
    return " ".join((*front_in_words(results), f"Each version: {each}."))
