"""`edgepress sensitivity`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import count, seed
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from optimize.accuracy.sensitivity_report import SensitivityReport


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder that was optimized: it has a calibration.json")
    add("--data", metavar="DATA", help="pictures: digits, an image folder, or an .npz")
    add("--images", type=count, default=64, metavar="N", help="at most so many pictures (default: 64)")
    add("--seed", type=seed, default=0, metavar="N", help="of the drawing (default: 0)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from optimize.accuracy.sensitivity_report import SENSITIVITY, SENSITIVITY_PAGE, SENSITIVITY_PLOT
    from optimize.accuracy.sensitivity_stage import SensitivityRequest, measure_sensitivity

    request = SensitivityRequest(arguments.folder, arguments.data, arguments.images, arguments.seed)
    report = measure_sensitivity(request, progress)
    written = [str(arguments.folder / name) for name in (SENSITIVITY, SENSITIVITY_PAGE, SENSITIVITY_PLOT)]
    return Outcome((*_lines(report), "", *written), {"sensitivity": written[0], **to_json(report)})


def _lines(report: "SensitivityReport") -> list[str]:
    from optimize.accuracy.sensitivity_report import sensitivity_rows

    rows = sensitivity_rows(report)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", f"{report.images} pictures of {report.data}; {report.scheme}"]


COMMAND = Command(
    name="sensitivity",
    purpose="rank the layers by what the logits lose if one alone is quantized",
    examples=(
        "edgepress sensitivity out/vgg16-digits",
        "edgepress sensitivity out/vgg16 --data photos --images 32",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
