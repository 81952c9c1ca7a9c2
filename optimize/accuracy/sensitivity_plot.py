"""sensitivity.svg: the logit SNR of each layer quantized alone, beside what the layer holds and computes."""

from pathlib import Path
from typing import Any

from edgepress.errors import MissingRuntimeError
from edgepress.files import atomic_path
from optimize.accuracy.sensitivity_report import LayerSensitivity, SensitivityReport

_SNR, _SHARE = "#0072b2", "#999999"  # Okabe and Ito, Color Universal Design (2008)
_STYLE: Any = {
    "svg.hashsalt": "edgepress",
    "text.parse_math": False,  # a dollar in a layer's name is one
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa6b5",
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
}


def write_sensitivity_plot(path: Path, report: SensitivityReport) -> None:
    """Draw the layers in their ranking to an SVG or PNG file.

    Raises:
        MissingRuntimeError: matplotlib is not installed.
        InputError: The file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingRuntimeError("matplotlib", "report") from error
    with mpl.rc_context(_STYLE), atomic_path(path) as temporary:
        figure = Figure(figsize=(11, 1.6 + 0.3 * len(report.layers)), layout="constrained")
        _draw(figure, report)
        figure.savefig(temporary, dpi=150, metadata={"Date": None, "Creator": None})


def _draw(figure: Any, report: SensitivityReport) -> None:
    layers = report.layers
    figure.suptitle(
        f"{report.model}: each layer quantized alone, {report.images} pictures",
        x=0.01, ha="left", fontsize=12.5, fontweight="bold",
    )  # fmt: skip
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.8, 1, 1))
    top = max((layer.logit_snr_db or 0 for layer in layers), default=0)
    panels[0].set_title("Logit SNR in dB (short: sensitive); top classes that stay")
    panels[0].barh(range(len(layers)), [_length(layer, top) for layer in layers], color=_SNR, height=0.78)
    for row, layer in enumerate(layers):
        told = "identical" if layer.logit_snr_db is None else f"{layer.logit_snr_db:.1f}"
        panels[0].text(
            max(0, _length(layer, top)), row, f" {told}, {layer.agreement:.1%}", va="center", fontsize=8.5
        )
    for axes, title, amounts in (
        (panels[1], "Share of the parameters", [layer.parameters for layer in layers]),
        (panels[2], "Share of the multiply-accumulates", [layer.macs for layer in layers]),
    ):
        whole = sum(amounts) or 1
        axes.set_title(title)
        axes.barh(range(len(layers)), [100 * amount / whole for amount in amounts], color=_SHARE, height=0.78)
        for row, amount in enumerate(amounts):
            axes.text(100 * amount / whole, row, f" {amount / whole:.1%}", va="center", fontsize=8.5)
    for axes in panels:
        axes.margins(x=0.22, y=0.01)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(layers)), [layer.name for layer in layers])
    panels[0].invert_yaxis()


def _length(layer: LayerSensitivity, top: float) -> float:
    return top if layer.logit_snr_db is None else layer.logit_snr_db
