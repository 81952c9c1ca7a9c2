"""Learning curves as a picture."""

import io
from importlib.util import find_spec
from typing import Any

from edgepress.errors import MissingRuntimeError
from train.history import History, Phase

_TRAINING, _VALIDATION, _BEST = "#0072b2", "#d55e00", "#5a6675"
_STYLE: Any = {
    "svg.hashsalt": "edgepress",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "axes.edgecolor": "#9aa6b5",
    "legend.frameon": False,
}


def require_matplotlib() -> None:
    """Find out before a training whether its curves can be drawn.

    Raises:
        MissingRuntimeError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingRuntimeError("matplotlib", "report")


def curves_svg(history: History, title: str) -> str:
    """Loss and accuracy over the epochs, of training and validation: SVG text.

    The best epoch is marked, and where fine-tuning begins.

    Raises:
        MissingRuntimeError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingRuntimeError("matplotlib", "report") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        rows = history.epochs
        _panel(loss, "Cross-entropy (nats)", [e.loss for e in rows], [e.validation_loss for e in rows])
        _panel(
            accuracy,
            "Accuracy (%)",
            [100 * e.accuracy for e in rows],
            [100 * e.validation_accuracy for e in rows],
        )
        if history.count(Phase.FINE_TUNING):
            for axes in (loss, accuracy):
                _mark_fine_tuning(axes, history.count(Phase.HEAD))
        best, late = rows[history.best - 1], 2 * history.best > len(rows)
        marks = ((loss, best.validation_loss, 8), (accuracy, 100 * best.validation_accuracy, -18))
        for axes, value, above in marks:  # each on the side where the training's line is not
            axes.axvline(history.best, color=_BEST, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            axes.plot([history.best], [value], "o", color=_VALIDATION, markersize=8, zorder=4)
            axes.annotate(
                f"epoch {history.best}: {value:.3g}",
                (history.best, value),
                xytext=(-8 if late else 8, above),
                ha="right" if late else "left",  # so that it stays within the panel
                textcoords="offset points",
                color=_VALIDATION,
                fontweight="bold",
            )
        loss.legend(loc="upper right")
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _mark_fine_tuning(axes: Any, head_epochs: int) -> None:
    """A line between the last epoch of the head alone and the first one with convolutions."""
    place = head_epochs + 0.5
    axes.axvline(place, color=_BEST, linewidth=0.9, linestyle=":", zorder=1)
    axes.annotate(
        "fine-tuning",
        (place, 0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 4),
        textcoords="offset points",
        color=_BEST,
        fontsize=8,
    )


def _panel(axes: Any, title: str, training: list[float], validation: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, len(training) + 1)
    marker = "o" if len(training) <= 30 else None
    axes.plot(epochs, training, color=_TRAINING, marker=marker, markersize=4, label="training")
    axes.plot(epochs, validation, color=_VALIDATION, marker=marker, markersize=4, label="validation")
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.08, y=0.15)
