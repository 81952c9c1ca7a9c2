"""Labels beside marks that cover no other label and no mark."""

from typing import Any

import numpy as np

from benchmark.report.plot_style import FAINT, PAGE

Point = tuple[float, float, float, str]
"""x, y, area in points², text."""

_STEPS = 14
_LEADER_FROM_POINTS = 14


def place_labels(axes: Any, points: list[Point]) -> list[Any]:
    """Write each label near its mark, where it covers no other label and no mark.

    Args:
        axes: Drawn once, so that its transformation holds.
        points: Marks and their texts.

    Returns:
        The annotations, in order.
    """
    renderer = axes.figure.canvas.get_renderer()
    marks = [_mark_box(axes, *point[:3]) for point in points]
    taken: list[Any] = list(marks)
    labels = []
    for (x, y, area, text), own in zip(points, marks, strict=True):
        label = axes.annotate(
            text,
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=8.5,
            va="center",
            bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 0.6},  # lines pass behind it
            zorder=5,
        )
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
        if abs(dy) > _radius(area) + _LEADER_FROM_POINTS:
            axes.annotate(
                "",
                (x, y),
                (dx, dy),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkB": _radius(area)},
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
    for step in range(1, _STEPS):
        distance = near + 5 + 13 * step
        for dx, side in ((0.0, "center"), (8.0, "left"), (-8.0, "right")):
            found += [(dx, distance, side), (dx, -distance, side)]
    return found


def _mark_box(axes: Any, x: float, y: float, area: float) -> Any:
    from matplotlib.transforms import Bbox

    centre = axes.transData.transform((x, y))
    half = _radius(area) * axes.figure.dpi / 72
    return Bbox([centre - half, centre + half])
