"""How a report's plots look (matplotlib): inline SVG that follows the page's light or dark theme."""

import colorsys
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

from edgepress.errors import MissingRuntimeError

# Stand-ins, replaced by the page's own CSS variables.
_THEME = {
    "#010203": "var(--ink)",
    "#040506": "var(--faint)",
    "#070809": "var(--page)",
    "#0a0b0c": "var(--dim)",
}
INK, FAINT, PAGE, DIM = _THEME
STYLE = {
    "svg.hashsalt": "edgepress",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
_WIDTH_INCHES = 9.0


@dataclass(frozen=True)
class Look:
    """How a runner is drawn.

    Attributes:
        colour: E.g. "#0072b2".
        marker: Of matplotlib.
    """

    colour: str
    marker: str


# Okabe and Ito, Color Universal Design (2008): told apart with every kind of colour vision.
_CHOSEN = {
    "tensorflow": Look("#e69f00", "s"),
    "onnxruntime": Look("#0072b2", "o"),
    "litert": Look("#009e73", "D"),
    "onnxruntime-cuda": Look("#cc79a7", "^"),
    "onnxruntime-tensorrt": Look("#d55e00", "v"),
}
_MARKERS = ("P", "X", "*", "h", "<", ">", "p", "8")


def looks(runners: Iterable[str]) -> Mapping[str, Look]:
    """A look for each runner: of the well-known ones a chosen one, of any other one by the hash of its name.

    So a runner looks the same in every report; only where two unknown ones share a marker in one report, the
    second of them, by name, gets the next free one.
    """
    found: dict[str, Look] = {}
    for name in sorted(set(runners)):
        found[name] = _CHOSEN.get(name) or _hashed(name, {look.marker for look in found.values()})
    return found


def _hashed(name: str, taken: set[str]) -> Look:
    digest = hashlib.sha256(name.encode()).digest()
    red, green, blue = colorsys.hls_to_rgb(digest[0] / 256, 0.45, 0.6)
    first = digest[1] % len(_MARKERS)
    order = _MARKERS[first:] + _MARKERS[:first]
    marker = next((one for one in order if one not in taken), order[0])
    return Look(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}", marker)


def matplotlib() -> ModuleType:
    """Matplotlib, or what to install.

    Raises:
        MissingRuntimeError: It is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingRuntimeError("matplotlib", "report") from error
    return mpl


def figure_of(height_inches: float, panels: Sequence[int] = (1,)) -> tuple[Any, Any]:
    """A figure and its axes, one above the other, with heights in the proportion of `panels`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # knows how wide a text is
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=panels)
    return figure, axes[:, 0]


def number_ticks(axis: Any, steps: tuple[float, ...]) -> None:
    """Plain numbers at `steps` of each decade."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FormatStrFormatter("%g"))


def svg_of(figure: Any, key: str, title: str, description: str) -> str:
    """The figure as inline SVG: no XML header, width from the page, colours from the theme.

    Args:
        figure: Drawn or not.
        key: Unique on the page: all identifiers begin with it.
        title: What is shown, for those who do not see it.
        description: The same as the drawing tells, in words.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", text)
    label = f'role="img" aria-labelledby="{key}-title {key}-description"'
    text = re.sub(r'(<svg [^>]*?)width="[^"]+" height="[^"]+"', rf"\g<1>{label}", text, count=1)
    told = (
        f'<title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-description">{escape(description)}</desc>'
    )
    text = re.sub(r"(<svg [^>]*>)", lambda found: found[1] + told, text, count=1)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    return text
