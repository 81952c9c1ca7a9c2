"""`edgepress parity`."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.cli.command import Command, Outcome
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from edgepress.parity.distance import Distance
    from edgepress.parity.layers import LayerFinding
    from edgepress.parity.report import ParityReport, ParityRow

logger = logging.getLogger(__name__)

_HEAD = ("version", "against", "runner", "SNR", "budget", "flat", "from Keras", "max", "cosine", "top-1", "")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json")
    add("--variant", dest="variants", nargs="+", metavar="ID", help="only these artifacts")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgepress.parity.report import PARITY, ParityStatus
    from edgepress.parity.stage import ParityRequest, check_folder

    variants = tuple(arguments.variants) if arguments.variants else None
    report = check_folder(ParityRequest(arguments.folder, variants), progress)
    failed = report.of_status(ParityStatus.FAILED)
    for row in failed:
        logger.error("failed: %s: %s%s", row.artifact, "; ".join(row.findings), _where(row.layer))
    path = str(arguments.folder / PARITY)
    return Outcome(
        (*_lines(report), "", path),
        {"parity": path, **to_json(report)},
        exit_code=1 if failed else 0,
    )


def _lines(report: "ParityReport") -> list[str]:
    """A line per version, why some were not run, the budgets with their reasons, and the count."""
    from edgepress.parity.report import ParityStatus

    absent = report.of_status(ParityStatus.NOT_RUN)
    table = [_HEAD, *(_cells(row) for row in report.rows if row not in absent)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip() for cells in table]
    for reason in dict.fromkeys(row.reason for row in absent):
        names = ", ".join(row.artifact for row in absent if row.reason == reason)
        lines.append(f"not run: {names}: {reason}")
    for budget in report.budgets:
        flat = "not judged" if budget.flat_db is None else f"{budget.flat_db:.0f} dB"
        lines.append(
            f"budget {budget.hop.value}: {budget.structured_db:.0f} dB, flat pictures {flat}: {budget.reason}"
        )
    counts = [f"{len(report.of_status(status))} {status.value}" for status in ParityStatus]
    return [*lines, f"parity on {len(report.kinds)} pictures: {', '.join(counts)}"]


def _cells(row: "ParityRow") -> tuple[str, ...]:
    found = row.structured
    measured = (
        ("", "", "")
        if found is None
        else (f"{found.max_relative:.1e}", f"{found.cosine:.6f}", f"{found.agreement:.0%}")
    )
    return (
        row.artifact,
        row.reference,
        row.runner or "",
        _db(row.structured),
        "" if row.structured_db is None else f"{row.structured_db:.0f} dB",
        _db(row.flat),
        _db(row.from_keras),
        *measured,
        "FAILED" if row.findings else "",
    )


def _db(found: "Distance | None") -> str:
    if found is None:
        return ""
    return "identical" if found.snr_db is None else f"{found.snr_db:.1f} dB"


def _where(layer: "LayerFinding | None") -> str:
    if layer is None:
        return ""
    own = "" if layer.snr_db is None else f" ({layer.snr_db:.1f} dB)"
    if layer.before is None:
        return f"; the first layer that diverges is {layer.name}{own}"
    before = "identical" if layer.before_snr_db is None else f"{layer.before_snr_db:.1f} dB"
    return f"; the first layer that diverges is {layer.name}{own}, behind {layer.before} ({before})"


COMMAND = Command(
    name="parity",
    purpose="prove that every version still computes what Keras does, and name the layer where one does not",
    examples=("edgepress parity out/vgg16-digits", "edgepress parity out/vgg16 --variant onnx-fp32"),
    add_arguments=_add_arguments,
    run=_run,
)
