"""Pictures a second against the batch."""

from benchmark.measurement import Result, Results
from benchmark.report.measured import ran
from benchmark.report.number_text import significant
from benchmark.report.plot_style import STYLE, figure_of, looks, matplotlib, number_ticks, svg_of
from edgepress.runners.runner import title_of

_LINES = ("-", (0, (6, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), (0, (1, 1)))


def throughput_svg(results: Results) -> str | None:
    """A line per version over its batches; None where there are fewer than two batches."""
    rows = [row for row in ran(results) if row.offline]
    batches = sorted({found.batch for row in rows for found in row.offline})
    if len(batches) < 2:
        return None
    mpl = matplotlib()
    look = looks(row.runner for row in rows)
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(3.6)
        drawn: dict[str, int] = {}
        for row in rows:
            place = drawn[row.runner] = drawn.get(row.runner, -1) + 1
            axes.plot(
                [found.batch for found in row.offline],
                [found.images_per_s for found in row.offline],
                color=look[row.runner].colour,
                marker=look[row.runner].marker,
                markersize=5,
                linewidth=1.4,
                linestyle=_LINES[place % len(_LINES)],
                label=f"{row.artifact}, {title_of(row.runner)}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set_yscale("log")
        number_ticks(axes.yaxis, (1, 2, 5))
        axes.set_xlabel("pictures in a batch")
        axes.set_ylabel("pictures a second (up is better)")
        axes.grid(visible=True)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, handlelength=3)
        return svg_of(figure, "offline-plot", "Pictures a second against the batch", _in_words(rows))


def _in_words(rows: list[Result]) -> str:
    return "; ".join(
        f"{row.artifact} on {title_of(row.runner)}: "
        + ", ".join(f"{significant(found.images_per_s)} in batches of {found.batch}" for found in row.offline)
        for row in rows
    )
