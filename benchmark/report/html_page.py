"""A report as one HTML file that needs nothing else and no script."""

from collections.abc import Mapping
from pathlib import Path

from benchmark.measurement import Results
from benchmark.report.parts import Figure
from benchmark.report.plot_distributions import distributions_svg
from benchmark.report.plot_pareto import pareto_svg
from benchmark.report.plot_roofline import roofline_svg
from benchmark.report.plot_throughput import throughput_svg
from benchmark.report.sections import DISTRIBUTIONS, OFFLINE, ROOFLINE, TRADE_OFF, sections, title
from benchmark.report.summary import summary
from benchmark.thumbnails import SIDE
from edgepress.errors import MissingRuntimeError

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_WORDS_OF_STATE = ("UNSTABLE", "INVALID")


def html(results: Results) -> str:
    """The report as HTML.

    Raises:
        MissingRuntimeError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingRuntimeError("jinja2", "report") from error
    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    machine = results.environment.machine
    page: str = pages.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title(results),
        subtitle=f"Measured on {machine['cpu']}, {machine['cores']} cores, "
        f"{results.data.evaluated} pictures of {results.data.source}",
        summary=summary(results),
        sections=sections(results),
        figures=_figures(results),
        states=_WORDS_OF_STATE,
        side=SIDE,
    )
    return page


def _figures(results: Results) -> Mapping[str, Figure]:
    """By section; a plot that has nothing to show is missing."""
    drawn = {
        TRADE_OFF: (
            pareto_svg(results),
            "Area of a mark in proportion to the size on disk; up and left is better. The line is the Pareto "
            "front: what is below and right of it is beaten in both.",
        ),
        DISTRIBUTIONS: (
            distributions_svg(results),
            "Every counted inference; the tick is the median, its value stands on the right. The axis ends "
            "where the slowest 2 % of the slowest version begin; results.json holds all samples.",
        ),
        OFFLINE: (throughput_svg(results), "Pictures a second, from the median batch."),
        ROOFLINE: (
            roofline_svg(results),
            "The slope is what memory can deliver, the level lines are the best rates of a matrix product. A "
            "version above the slope found its bytes in the cache; one above its own line does less than its "
            "layers say (Winograd's convolution), or the line was measured while others used the cores.",
        ),
    }
    return {key: Figure(svg, caption) for key, (svg, caption) in drawn.items() if svg is not None}
