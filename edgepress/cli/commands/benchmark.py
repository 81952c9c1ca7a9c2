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

_BATCHES = (1, 2, 4, 8, 16)

logger = logging.getLogger(__name__)


def _batches(given: list[int] | None) -> tuple[int, ...]:
    """None without --offline; a number of batches by default with it."""
    return () if given is None else tuple(sorted(set(given))) or _BATCHES


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
    add(
        "--runner",
        dest="runners",
        nargs="+",
        metavar="NAME",
        help="only these runners, and every version that they can load (default: those that it was made for)",
    )
    add(
        "--offline",
        nargs="*",
        type=count,
        metavar="BATCH",
        help="also pictures a second in batches of this many (none given: 1 2 4 8 16)",
    )
    add("--host", metavar="USER@DEVICE", help="measure on this device over SSH (a key, no password)")
    add(
        "--host-python",
        default="python3",
        metavar="PATH",
        help="Python there, 3.10 or later, with numpy and a runtime (default: python3)",
    )
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
    from benchmark.preparation import BenchmarkRequest
    from benchmark.report.terminal import terminal_lines
    from benchmark.report.writing import refresh_report
    from benchmark.stage import benchmark_folder

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
        runners=tuple(arguments.runners) if arguments.runners else None,
        offline=_batches(arguments.offline),
        host=arguments.host,
        host_python=arguments.host_python,
    )
    results = benchmark_folder(request, progress)
    failed = results.failed()
    for row in failed:
        logger.error("failed: %s on %s: %s", row.artifact, row.runner, row.reason)
    invalid = results.invalid()
    for row in invalid:
        reasons = "; ".join(row.verdict.reasons) if row.verdict else ""
        logger.error("invalid: %s on %s: %s", row.artifact, row.runner, reasons)
    checks = checks_of(results, tuple(arguments.require))
    pages = [str(path) for path in refresh_report(request.folder)]
    return Outcome(
        (*terminal_lines(results), "", *pages, *map(_line, checks)),
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
    row = "" if check.artifact is None or check.runner is None else f"{check.artifact} on {check.runner}: "
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
