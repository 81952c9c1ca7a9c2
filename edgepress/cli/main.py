"""The command `edgepress`: reads the command line, runs one stage, and turns its outcome into an exit code.

0 done · 1 a gate or a row failed · 2 wrong use or bad input · 3 not comparable · 130 interrupted.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgepress.artifact import Artifact
from edgepress.cli.arguments import cache_folder, out_folder, parse
from edgepress.cli.console import native_noise_hidden, progress_on_stderr
from edgepress.errors import EdgepressError, InputError
from edgepress.progress import Progress

logger = logging.getLogger(__name__)

_FRAMEWORK_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",  # a user's keras.json may name another one
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_CPP_MAX_VLOG_LEVEL": "-1",
    "GLOG_minloglevel": "3",
    "ABSL_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Outcome:
    """What a command leaves to say when its progress has been cleared away.

    Attributes:
        lines: For stdout.
        exit_code: Of the process.
    """

    lines: tuple[str, ...]
    exit_code: int = 0


def _export(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from export.stage import ExportRequest, export_model

    request = ExportRequest(
        model=arguments.model,
        out=out_folder(arguments),
        weights=arguments.weights,
        style=arguments.style,
        formats=tuple(dict.fromkeys(arguments.formats)),
        preprocess=arguments.preprocess,
        labels=arguments.labels,
        data=arguments.data,
        seed=arguments.seed,
        cache=cache_folder(os.environ),
    )
    return Outcome(_table(export_model(request, progress).artifacts))


def _optimize(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from optimize.stage import OptimizeRequest, optimize_folder

    request = OptimizeRequest(
        folder=arguments.folder,
        target=arguments.target,
        recipes=tuple(arguments.recipes) if arguments.recipes else None,
        data=arguments.data,
        samples=arguments.samples,
        seed=arguments.seed,
    )
    return Outcome(_table(optimize_folder(request, progress).artifacts))


def _benchmark(arguments: argparse.Namespace, progress: Progress) -> Outcome:
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
    )
    failed = benchmark_folder(request, progress).failed()
    for row in failed:
        logger.error("failed: %s on %s: %s", row.artifact, row.runner.value, row.reason)
    return Outcome(_report(arguments, progress).lines, exit_code=1 if failed else 0)


def _report(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from benchmark.report import write_report

    return Outcome(tuple(str(path) for path in write_report(arguments.folder)))


_COMMANDS: dict[str, Callable[[argparse.Namespace, Progress], Outcome]] = {
    "export": _export,
    "optimize": _optimize,
    "benchmark": _benchmark,
    "report": _report,
}


def _table(artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """A line per artifact: id, precision, size."""
    width = max(len(artifact.id) for artifact in artifacts)
    return tuple(f"{a.id:<{width}}  {a.precision.value:<5}  {a.size_bytes / 1e6:9.1f} MB" for a in artifacts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. The only place where an error becomes text."""
    for name, value in _FRAMEWORK_ENVIRONMENT.items():
        os.environ[name] = value
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too removes what is half-written
    outcome = Outcome(())
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        with native_noise_hidden(), progress_on_stderr(arguments.verbosity) as progress:
            outcome = _COMMANDS[arguments.command](arguments, progress)
        for line in outcome.lines:
            print(line)
    except EdgepressError as error:
        print(f"edgepress: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgepress: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has left
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # keeps the interpreter's last flush silent
    except OSError as error:
        print(f"edgepress: {error}. Check the path, its rights and the disk.", file=sys.stderr)
        return InputError.exit_code
    return outcome.exit_code
