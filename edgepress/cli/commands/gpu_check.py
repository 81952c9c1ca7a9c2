"""`edgepress gpu-check`."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.api import cache_folder
from edgepress.artifact import Runtime
from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import choice
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from edgepress.cli.gpu_check.report import Execution, GpuCheck, VariantRow
    from edgepress.parity.distance import Distance

logger = logging.getLogger(__name__)

_OUT = Path("out/gpu-check")
_RUNNERS = (Runtime.TENSORRT, Runtime.TENSORRT_RTX)
_HEAD = ("variant", "", "compute", "end to end", "speed-up", "SNR", "wanted", "plan")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=_OUT, metavar="DIR", help=f"folder of gpu-check.json (default: {_OUT})")
    add(
        "--model",
        type=Path,
        metavar="DIR",
        help="folder that was exported; the ONNX files that it lacks are added (default: vgg16-digits)",
    )
    add(
        "--data",
        metavar="DATA",
        help="calibration pictures where INT8 files are added: an image folder, or an .npz",
    )
    add(
        "--runner",
        type=choice("runner", _RUNNERS),
        metavar="tensorrt|tensorrt-rtx",
        help="which of them (default: tensorrt, where it is there)",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from edgepress.cli.gpu_check.check import Check, checked
    from edgepress.cli.gpu_check.machine import machine_facts
    from edgepress.cli.gpu_check.network import network_of, prepared_folder
    from edgepress.cli.gpu_check.report import REPORT
    from edgepress.files import make_folder
    from edgepress.lock import exclusive
    from edgepress.manifest import Manifest

    out, cache = arguments.out, cache_folder(os.environ)
    if arguments.model is not None:
        Manifest.load(arguments.model)  # before a folder is made for its report
    make_folder(out)
    with exclusive(out):
        folder = prepared_folder(out, arguments.model, arguments.data, cache, progress)
        asked = Check(out, network_of(folder), machine_facts(cache), arguments.runner)
        report = checked(asked, progress=progress)
    return outcome_of(report, out / REPORT)


def outcome_of(report: "GpuCheck", path: Path) -> Outcome:
    """What is said of a report: 1 if anything in it is wrong. That there is no GPU is not."""
    for row in report.variants:
        for finding in row.findings:
            logger.error("%s: %s", row.name, finding)
    is_wrong = any(row.findings for row in report.variants)
    value = {"report": str(path), **to_json(report)}
    return Outcome((*lines_of(report), "", str(path)), value, exit_code=1 if is_wrong else 0)


def lines_of(report: "GpuCheck") -> list[str]:
    """A line for each variant, why some did not run, and the count."""
    from edgepress.cli.gpu_check.report import Status

    table = [_HEAD, *(_cells(row) for row in report.variants)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip() for cells in table]
    reasons = dict.fromkeys(row.reason for row in report.of_status(Status.NOT_RUN))
    lines += [f"not run: {reason}" for reason in reasons]
    if any(row.instead is not None for row in report.variants):
        lines.append(
            "instead: plans built ahead of time by TensorRT-RTX (of the first GPU generation above), and the "
            "SNR of the same ONNX files on the CPU"
        )
    counts = [f"{len(report.of_status(status))} {status.value}" for status in Status]
    where = report.tensorrt or "no TensorRT that runs here"
    return [*lines, f"{report.network.name}, {where}: {', '.join(counts)}"]


def _cells(row: "VariantRow") -> tuple[str, ...]:
    times = ("", "", "") if row.execution is None else _times(row.execution)
    return (row.name, row.status.value, *times, _snr(row), f"{row.least_db:.0f} dB", _plan(row))


def _times(execution: "Execution") -> tuple[str, str, str]:
    speedup = "" if execution.speedup is None else f"{execution.speedup:.2f}×"
    return _ms(execution.compute.median_ns), _ms(execution.end_to_end.median_ns), speedup


def _ms(duration_ns: float) -> str:
    return f"{duration_ns / 1e6:.3f} ms"


def _snr(row: "VariantRow") -> str:
    if row.execution is not None:
        return _db(row.execution.from_fp32)
    emulation = None if row.instead is None else row.instead.emulation
    return "" if emulation is None else _db(emulation.from_fp32)


def _db(found: "Distance | None") -> str:
    if found is None:
        return ""
    return "identical" if found.snr_db is None else f"{found.snr_db:.1f} dB"


def _plan(row: "VariantRow") -> str:
    plans = () if row.instead is None else row.instead.plans
    built = row.engine or next((plan.card for plan in plans if plan.card is not None), None)
    return "" if built is None else f"{built.plan_bytes / 1e6:.1f} MB"


COMMAND = Command(
    name="gpu-check",
    purpose="build, run and judge every variant with the TensorRT that is here, and tell it in one file",
    examples=("edgepress gpu-check", "edgepress gpu-check --model out/vgg16 --out out/gpu-check-vgg16"),
    add_arguments=_add_arguments,
    run=_run,
)
