"""The roofline: what each version reaches, under what the machine can do at best."""

from typing import Any

from benchmark.measurement import Result, Results
from benchmark.report.number_text import significant, with_prefix
from benchmark.report.plot_labels import place_labels
from benchmark.report.plot_style import DIM, INK, STYLE, figure_of, looks, matplotlib, number_ticks, svg_of
from benchmark.report.roofline import ceilings_in_words, intensity, macs_per_s, placed
from benchmark.roofline import Ceilings, Roofline
from edgepress.runners.runner import title_of

_MARK_POINTS2 = 55.0
_LINES = ("-", (0, (6, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)))


def roofline_svg(results: Results) -> str | None:
    """Arithmetic intensity × multiply-accumulates a second, logarithmic; None without a mark or a roof."""
    rows, ceilings = placed(results), results.environment.ceilings
    if not rows or ceilings is None or not ceilings.gemm:
        return None
    mpl = matplotlib()
    look = looks(row.runner for row, _ in rows)
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(4.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _limits(axes, rows, ceilings)
        _roofs(axes, ceilings)
        points = []
        for row, found in rows:
            x, y, shape = intensity(found), macs_per_s(row, found) / 1e9, look[row.runner]
            axes.scatter(
                x, y, s=_MARK_POINTS2, color=shape.colour, marker=shape.marker, edgecolors=INK,
                linewidths=0.6, zorder=3,
            )  # fmt: skip
            points.append((x, y, _MARK_POINTS2, row.artifact))
        for runner in dict.fromkeys(row.runner for row, _ in rows):
            shape = look[runner]
            axes.scatter([], [], s=50, color=shape.colour, marker=shape.marker, label=title_of(runner))
        number_ticks(axes.xaxis, (1, 2, 5))
        number_ticks(axes.yaxis, (1, 2, 5))
        axes.set_xlabel("arithmetic intensity, MAC per byte (log scale)")
        axes.set_ylabel("GMAC/s (log scale; up is better)")
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, handletextpad=0.3)
        figure.canvas.draw()
        place_labels(axes, points)
        return svg_of(figure, "roofline-plot", "Roofline", _in_words(rows, ceilings))


def _limits(axes: Any, rows: list[tuple[Result, Roofline]], ceilings: Ceilings) -> None:
    xs = [intensity(found) for _, found in rows]
    ys = [macs_per_s(row, found) / 1e9 for row, found in rows]
    tops = [rate.macs_per_s / 1e9 for rate in ceilings.gemm]
    read = ceilings.read_bytes_per_s
    ridges = [rate.macs_per_s / read for rate in ceilings.gemm] if read else []
    axes.set_xlim(min(*xs, *ridges, max(xs)) / 3, max(*xs, *ridges, min(xs)) * 6)
    axes.set_ylim(min(*ys, *tops) / 3, max(*ys, *tops) * 2)


def _roofs(axes: Any, ceilings: Ceilings) -> None:
    """A level line for each precision's best rate, from where the memory's slope meets it."""
    low, high = axes.get_xlim()
    read = ceilings.read_bytes_per_s
    for rate, line in zip(ceilings.gemm, _LINES * len(ceilings.gemm), strict=False):
        top = rate.macs_per_s / 1e9
        ridge = rate.macs_per_s / read if read else low
        axes.plot([max(ridge, low), high], [top, top], color=DIM, linewidth=1.4, linestyle=line)
        axes.annotate(
            f"{rate.precision.value.upper()} {with_prefix(rate.macs_per_s)}MAC/s",
            (1.0, top),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    if read:
        ridge = max(rate.macs_per_s for rate in ceilings.gemm) / read
        axes.plot([low, ridge], [low * read / 1e9, ridge * read / 1e9], color=DIM, linewidth=1.4)
        _slope_label(axes, read, (low, ridge))


def _slope_label(axes: Any, read: float, ends: tuple[float, float]) -> None:
    """Along the slope, on the part of it that is seen."""
    bottom = max(ends[0], axes.get_ylim()[0] * 1e9 / read)
    x = (bottom * ends[1]) ** 0.5
    y = x * read / 1e9
    axes.annotate(
        f"memory {significant(read / 1e9)} GB/s",
        (x, y),
        (-6, 6),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=INK,
    )


def _in_words(rows: list[tuple[Result, Roofline]], ceilings: Ceilings) -> str:
    each = "; ".join(
        f"{row.artifact} on {title_of(row.runner)}: {significant(intensity(found))} MAC per byte, "
        f"{significant(macs_per_s(row, found) / 1e9)} GMAC/s, {found.achieved * 100:.0f} % of the possible"
        for row, found in rows
    )
    return f"{'. '.join(ceilings_in_words(ceilings))}. {each}."
