"""`edgepress benchmark`."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.artifact import Device
from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import choice, count, seed
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from benchmark.gate import Check, Requirement

logger = logging.getLogger(__name__)


def _requirement(text: str) -> "Requirement":
    from benchmark.gate import requirement_of

    return requirement_of(text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json")
    add(
        "--device",
        type=choice("device", Device),
        default=Device.CPU,
        metavar="cpu|cuda",
        help="where to measure (default: cpu)",
    )
    add("--variant", dest="variants", nargs="+", metavar="ID", help="only these artifacts")
    add("--data", metavar="DATA", help="evaluation pictures: digits, an image folder, or an .npz")
    add("--quick", action="store_true", help="fewer samples: for a look, not for a decision")
    add("--threads", type=count, metavar="N", help="threads of every runtime (default: all cores)")
    add("--limit", type=count, metavar="N", help="evaluate at most N pictures, drawn with --seed")
    add("--again", action="store_true", help="measure also what is up to date, e.g. unstable rows")
    add("--seed", type=seed, default=0, metavar="N", help="of order and drawing (default: 0)")
    add(
        "--require",
        type=_requirement,
        nargs="+",
        default=(),
        metavar="GATE",
        help="exit with 1 unless it holds: 'precision=int8 runner=litert: speedup>=1.5, top1_drop<=0.5'",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from benchmark.gate import checks_of
    from benchmark.measurement import RESULTS
    from benchmark.report import refresh_report
    from benchmark.stage import BenchmarkRequest, benchmark_folder

    request = BenchmarkRequest(
        folder=arguments.folder,
        device=arguments.device,
        variants=tuple(arguments.variants) if arguments.variants else None,
        data=arguments.data,
        quick=arguments.quick,
        threads=arguments.threads,
        limit=arguments.limit,
        seed=arguments.seed,
        again=arguments.again,
    )
    results = benchmark_folder(request, progress)
    failed = results.failed()
    for row in failed:
        logger.error("failed: %s on %s: %s", row.artifact, row.runner.value, row.reason)
    invalid = results.invalid()
    for row in invalid:
        reasons = "; ".join(row.verdict.reasons) if row.verdict else ""
        logger.error("invalid: %s on %s: %s", row.artifact, row.runner.value, reasons)
    checks = checks_of(results, tuple(arguments.require))
    pages = [str(path) for path in refresh_report(request.folder)]
    return Outcome(
        (*pages, *map(_line, checks)),
        {
            "results": str(request.folder / RESULTS),
            "reports": pages,
            "failed": [row.artifact for row in failed],
            "invalid": [row.artifact for row in invalid],
            "gate": to_json(checks),
        },
        exit_code=1 if failed or invalid or not all(check.passed for check in checks) else 0,
    )


def _line(check: "Check") -> str:
    row = (
        ""
        if check.artifact is None or check.runner is None
        else f"{check.artifact} on {check.runner.value}: "
    )
    return f"gate {'holds' if check.passed else 'FAILS'}: {row}{check.finding}"


COMMAND = Command(
    name="benchmark",
    purpose="measure latency, memory and accuracy of each version against FP32, and write the report",
    examples=(
        "edgepress benchmark out/vgg16-digits --quick",
        "edgepress benchmark out/vgg16 --data photos",
        "edgepress benchmark out/vgg16 --data photos --require 'runner=onnxruntime: top1_drop<=0.5'",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
