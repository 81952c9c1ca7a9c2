"""A picture of a model: what each layer holds, what it computes, and how large its result is."""

from pathlib import Path
from typing import Any

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import atomic_path
from edgepress.inspection.blocks import block_names
from edgepress.inspection.layer import Inspection, Layer

SUFFIXES = (".svg", ".png")
# Okabe and Ito, Color Universal Design (2008): told apart with every kind of colour vision.
_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#999999")
_WITHOUT_UNIT = 10_000
_STYLE: Any = {
    "svg.hashsalt": "edgepress",
    "text.parse_math": False,  # a dollar in a layer's name is one
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#9aa6b5",
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
}


def write_plot(path: Path, name: str, inspection: Inspection) -> None:
    """Draw a model to an SVG or PNG file: a row per layer, coloured by block.

    Raises:
        InputError: Another suffix, a folder of that name, or the file cannot be written.
        MissingRuntimeError: matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"--plot wants a name that ends in {' or '.join(SUFFIXES)}. Received: {path}.")
    if path.is_dir():
        raise InputError(f"--plot wants a file to write, {path} is a folder. Choose another name.")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingRuntimeError("matplotlib", "report") from error
    with mpl.rc_context(_STYLE), atomic_path(path) as temporary:
        figure = Figure(figsize=(11, 1.5 + 0.3 * len(inspection.layers)), layout="constrained")
        _draw(figure, name, inspection)
        metadata: Any = {"Date": None, "Creator": None} if path.suffix == ".svg" else {}
        figure.savefig(temporary, dpi=150, metadata=metadata)


def _draw(figure: Any, name: str, inspection: Inspection) -> None:
    layers = inspection.layers
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.1, 1, 1))
    total, macs = inspection.parameters, inspection.macs
    figure.suptitle(
        f"{name}: {total:,} parameters, {macs / 1e9:.2f} G multiply-accumulates a picture",
        x=0.01, ha="left", fontsize=12.5, fontweight="bold",
    )  # fmt: skip
    colours = _colours(inspection)
    columns = (
        ("Result of the layer (values)", [_elements(layer) for layer in layers], None),
        ("Parameters", [layer.parameters + layer.biases for layer in layers], total),
        ("Multiply-accumulates", [layer.macs for layer in layers], macs),
    )
    for axes, (title, values, whole) in zip(panels, columns, strict=True):
        axes.barh(range(len(layers)), values, color=colours, height=0.78)
        axes.set_title(title)
        axes.margins(x=0.26, y=0.01)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        for row, value in enumerate(values):
            axes.text(value, row, f" {_label(value, whole, layers[row])}", va="center", fontsize=8.5)
    panels[0].set_yticks(range(len(layers)), [layer.name for layer in layers])
    panels[0].invert_yaxis()


def _colours(inspection: Inspection) -> list[str]:
    """A colour per layer, by block."""
    names = block_names(inspection)
    order = list(dict.fromkeys(names))
    return [_COLOURS[order.index(name) % len(_COLOURS)] for name in names]


def _elements(layer: Layer) -> int:
    product = 1
    for size in layer.output_shape:
        product *= size or 1
    return product


def _label(value: int, whole: int | None, layer: Layer) -> str:
    if whole is None:
        return "×".join("–" if size is None else str(size) for size in layer.output_shape)
    share = 100 * value / whole if whole else 0.0
    number = f"{value / 1e6:,.2f} M" if value >= _WITHOUT_UNIT else f"{value:,}"
    return f"{number} ({share:.1f} %)"
