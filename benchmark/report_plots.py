"""The two plots of a report (matplotlib), as SVG that follows the page's light or dark theme."""

import io
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from benchmark.measurement import Result, Results
from benchmark.report_text import megabytes, milliseconds
from edgepress.artifact import Runtime
from edgepress.errors import MissingRuntimeError

# Okabe and Ito, Color Universal Design (2008): told apart with every kind of colour vision.
_COLOURS = {
    Runtime.TENSORFLOW: "#e69f00",
    Runtime.ONNXRUNTIME: "#0072b2",
    Runtime.LITERT: "#009e73",
    Runtime.ONNXRUNTIME_CUDA: "#cc79a7",
    Runtime.ONNXRUNTIME_TENSORRT: "#d55e00",
}
_MARKERS = {
    Runtime.TENSORFLOW: "s",
    Runtime.ONNXRUNTIME: "o",
    Runtime.LITERT: "D",
    Runtime.ONNXRUNTIME_CUDA: "^",
    Runtime.ONNXRUNTIME_TENSORRT: "v",
}
# Stand-ins, replaced by the page's own CSS variables.
_THEME = {"#010203": "var(--ink)", "#040506": "var(--faint)", "#070809": "var(--page)"}
_INK, _FAINT, _PAGE = _THEME
_WIDTH_INCHES = 9.0
_LARGEST_BUBBLE_POINTS2 = 900.0
_SMALLEST_BUBBLE_POINTS2 = 40.0
_STYLE = {
    "svg.hashsalt": "edgepress",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_DOTS_BELOW = 64
_BINS = 60


def _matplotlib() -> ModuleType:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingRuntimeError("matplotlib", "report") from error
    return mpl


def _figure(height_inches: float, panels: Sequence[int]) -> tuple[Any, Any]:
    """A figure and its axes, one above the other, with heights in the proportion of `panels`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # knows how wide a text is
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=panels)
    return figure, axes[:, 0]


def _number_ticks(axis: Any, steps: tuple[float, ...]) -> None:
    """Plain numbers at `steps` of each decade."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FormatStrFormatter("%g"))


def _svg(figure: Any) -> str:
    """The figure as inline SVG: no XML header, width from the page, colours from the theme."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(?<=<svg )width="[^"]+" height="[^"]+"', 'role="img"', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    return text


def trade_off_svg(results: Results) -> str:
    """Latency × accuracy × size: one bubble per measured row, its area in proportion to the size on disk."""
    mpl = _matplotlib()
    rows = [row for row in results.results if row.latency is not None and row.accuracy is not None]
    rows.sort(key=lambda row: -row.size_bytes)  # small ones on top
    with mpl.rc_context(_STYLE):
        figure, (axes,) = _figure(4.6, [1])
        largest = max((row.size_bytes for row in rows), default=1)
        points = []
        for row in rows:
            area = max(_LARGEST_BUBBLE_POINTS2 * row.size_bytes / largest, _SMALLEST_BUBBLE_POINTS2)
            x, y = _milliseconds(row), _accuracy_percent(row, results)
            axes.scatter(
                x,
                y,
                s=area,
                color=_COLOURS[row.runner],
                marker=_MARKERS[row.runner],
                alpha=0.8,
                edgecolors=_PAGE,
            )
            points.append((x, y, area, f"{row.artifact}  {megabytes(row.size_bytes)} MB"))
        _trade_off_axes(axes, points, results)
        _legend(axes, rows)
        figure.canvas.draw()
        place_labels(axes, points)
        return _svg(figure)


def _milliseconds(row: Result) -> float:
    return row.latency.median_ns / 1e6 if row.latency else 0.0


def _accuracy_percent(row: Result, results: Results) -> float:
    if row.accuracy is None:
        return 0.0
    by_label = results.baseline.top1 is not None and row.accuracy.top1 is not None
    share = row.accuracy.top1 if by_label and row.accuracy.top1 is not None else row.accuracy.agreement
    return share * 100


def _trade_off_axes(axes: Any, points: list[tuple[float, float, float, str]], results: Results) -> None:
    xs, ys = [p[0] for p in points] or [1.0], [p[1] for p in points] or [100.0]
    axes.set_xscale("log")
    axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
    margin = max((max(ys) - min(ys)) * 0.3, 0.5)
    axes.set_ylim(min(ys) - margin, max(ys) + margin)
    _number_ticks(axes.xaxis, (1, 2, 5))
    axes.set_xlabel("median latency, ms per image (log scale; left is better)")
    what = "top-1 accuracy" if results.baseline.top1 is not None else "agreement with FP32"
    axes.set_ylabel(f"{what}, % (up is better)")
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _legend(axes: Any, rows: list[Result]) -> None:
    for runner in dict.fromkeys(row.runner for row in rows):
        axes.scatter([], [], s=50, color=_COLOURS[runner], marker=_MARKERS[runner], label=runner.value)
    if rows:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, handletextpad=0.2)


def place_labels(axes: Any, points: list[tuple[float, float, float, str]]) -> list[Any]:
    """Write each label near its bubble, where it covers no other label and no bubble.

    Args:
        axes: Drawn once, so that its transformation holds.
        points: x, y, area in points², text.

    Returns:
        The annotations, in order.
    """
    renderer = axes.figure.canvas.get_renderer()
    bubbles = [_bubble_box(axes, *point[:3]) for point in points]
    taken: list[Any] = list(bubbles)
    labels = []
    for (x, y, area, text), own in zip(points, bubbles, strict=True):
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=8.5, va="center")
        for dx, dy, side in _offsets(area):
            label.set_position((dx, dy))
            label.set_horizontalalignment(side)
            box = label.get_window_extent(renderer).padded(1.5)
            free = not any(box.overlaps(other) for other in taken if other is not own)
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if free and inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1:
                break
        taken.append(box)
        labels.append(label)
        if abs(dy) > _radius(area) + 14:
            axes.annotate(
                "",
                (x, y),
                (dx, dy),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": _FAINT, "linewidth": 0.8, "shrinkB": _radius(area)},
            )
    return labels


def _radius(area: float) -> float:
    return float(np.sqrt(area / np.pi))


def _offsets(area: float) -> list[tuple[float, float, str]]:
    """Where a label may stand, in points from the centre, the nearest first."""
    near = _radius(area) + 4
    found = [
        (near, 0.0, "left"),
        (-near, 0.0, "right"),
        (0.0, near + 5, "center"),
        (0.0, -near - 5, "center"),
    ]
    for step in range(1, 14):
        distance = near + 5 + 13 * step
        for dx, side in ((0.0, "center"), (8.0, "left"), (-8.0, "right")):
            found += [(dx, distance, side), (dx, -distance, side)]
    return found


def _bubble_box(axes: Any, x: float, y: float, area: float) -> Any:
    from matplotlib.transforms import Bbox

    centre = axes.transData.transform((x, y))
    half = _radius(area) * axes.figure.dpi / 72
    return Bbox([centre - half, centre + half])


def distributions_svg(results: Results) -> str:
    """All latency samples of each row, relative to FP32 on the same runner, a panel per runner."""
    mpl = _matplotlib()
    rows = [row for row in results.results if row.latency is not None and row.speedup is not None]
    panels: dict[Runtime, list[Result]] = {}
    for row in rows:
        panels.setdefault(row.runner, []).append(row)
    counts = [len(found) for found in panels.values()] or [1]
    with mpl.rc_context(_STYLE):
        figure, all_axes = _figure(0.7 + 0.42 * sum(counts) + 0.35 * len(counts), counts)
        for axes, (runner, members) in zip(all_axes, panels.items(), strict=False):
            _panel(axes, runner, members)
        last = all_axes[-1]
        last.set_xscale("log")
        low, high = _limits(rows)
        last.set_xlim(low, high)
        _number_ticks(last.xaxis, (1, 1.5, 2, 3, 5, 7))
        last.set_xlabel(
            "latency relative to FP32's median on the same runner (log scale; 1 = FP32; left is better)"
        )
        return _svg(figure)


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


def _panel(axes: Any, runner: Runtime, rows: list[Result]) -> None:
    colour = _COLOURS[runner]
    for place, row in enumerate(rows):
        samples = relative_samples(row)
        if len(samples) < _DOTS_BELOW:
            axes.scatter(samples, np.full(len(samples), place), s=14, color=colour, alpha=0.6, linewidth=0)
        else:
            _violin(axes, samples, place, colour)
        median = float(np.median(samples))
        axes.plot([median, median], [place - 0.36, place + 0.36], color=_INK, linewidth=1.6)
        axes.annotate(
            f"{milliseconds(row.latency.median_ns if row.latency else None)} ms",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="center",
            fontsize=8.5,
        )
    axes.axvline(1, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [row.artifact for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.set_title(runner.value, loc="left", fontsize=9.5, fontweight="bold")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)


def _violin(axes: Any, samples: Any, place: int, colour: str) -> None:
    """Density of the samples on the log axis: a histogram smoothed over three bins."""
    edges = np.geomspace(samples.min() * 0.999, np.quantile(samples, 0.995), _BINS + 1)
    counts, _ = np.histogram(samples, edges)
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    height = 0.4 * smooth / smooth.max()
    centres = np.sqrt(edges[:-1] * edges[1:])
    axes.fill_between(centres, place - height, place + height, color=colour, alpha=0.75, linewidth=0)
