"""All latency samples of each version, relative to FP32 on the same runner."""

from typing import Any

import numpy as np

from benchmark.measurement import Result, Results
from benchmark.report.number_text import is_believed, milliseconds, state_of, times
from benchmark.report.plot_style import INK, STYLE, Look, figure_of, looks, matplotlib, number_ticks, svg_of
from edgepress.runners.runner import title_of

_DOTS_BELOW = 64
_BINS = 60


def distributions_svg(results: Results) -> str:
    """A panel per runner, a row per version: the density of its samples, or these where they are few."""
    mpl = matplotlib()
    rows = [row for row in results.results if row.latency is not None and row.speedup is not None]
    panels: dict[str, list[Result]] = {}
    for row in rows:
        panels.setdefault(row.runner, []).append(row)
    counts = [len(found) for found in panels.values()] or [1]
    look = looks(panels)
    with mpl.rc_context(STYLE):
        figure, all_axes = figure_of(0.7 + 0.42 * sum(counts) + 0.35 * len(counts), counts)
        for axes, (runner, members) in zip(all_axes, panels.items(), strict=False):
            _panel(axes, title_of(runner), members, look[runner])
        last = all_axes[-1]
        last.set_xscale("log")
        last.set_xlim(*_limits(rows))
        number_ticks(last.xaxis, (1, 1.5, 2, 3, 5, 7))
        last.set_xlabel(
            "latency relative to FP32's median on the same runner (log scale; 1 = FP32; left is better)"
        )
        return svg_of(figure, "distributions-plot", "Distributions of latency, by runner", _in_words(rows))


def relative_samples(row: Result) -> Any:
    """(N,) latencies over FP32's median.

    That median is the one that stood beside this row, which the row's own median and speed-up give back.
    """
    if row.latency is None or row.speedup is None:
        return np.empty(0)
    return np.asarray(row.latency.samples_ns) / (row.latency.median_ns * row.speedup.median)


def _limits(rows: list[Result]) -> tuple[float, float]:
    """From the fastest sample to the slowest row's 98th percentile."""
    if not rows:
        return 0.5, 2.0
    samples = [relative_samples(row) for row in rows]
    low = min(float(found.min()) for found in samples)
    high = max(float(np.quantile(found, 0.98)) for found in samples)
    return min(low, 0.9) * 0.95, max(high, 1.1) * 1.05


def _panel(axes: Any, title: str, rows: list[Result], look: Look) -> None:
    for place, row in enumerate(rows):
        samples = relative_samples(row)
        if len(samples) < _DOTS_BELOW:
            axes.scatter(
                samples, np.full(len(samples), place), s=14, color=look.colour, alpha=0.6, linewidth=0
            )
        else:
            _violin(axes, samples, place, look.colour)
        median = float(np.median(samples))
        axes.plot([median, median], [place - 0.36, place + 0.36], color=INK, linewidth=1.6)
        axes.annotate(
            f"{milliseconds(row.latency.median_ns if row.latency else None)} ms",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="center",
            fontsize=8.5,
        )
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)


def _label(row: Result) -> str:
    return row.artifact if is_believed(row) else f"{row.artifact}\n({state_of(row).value})"


def _violin(axes: Any, samples: Any, place: int, colour: str) -> None:
    """Density of the samples on the log axis: a histogram smoothed over three bins."""
    edges = np.geomspace(samples.min() * 0.999, np.quantile(samples, 0.995), _BINS + 1)
    counts, _ = np.histogram(samples, edges)
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    height = 0.4 * smooth / smooth.max()
    centres = np.sqrt(edges[:-1] * edges[1:])
    axes.fill_between(centres, place - height, place + height, color=colour, alpha=0.75, linewidth=0)


def _in_words(rows: list[Result]) -> str:
    each = (
        f"{row.artifact} on {title_of(row.runner)}: median {milliseconds(row.latency.median_ns)} ms, "
        f"{len(row.latency.samples_ns)} samples, {times(row.speedup)} against FP32"
        for row in rows
        if row.latency is not None
    )
    return "; ".join(each) or "No version was timed."
