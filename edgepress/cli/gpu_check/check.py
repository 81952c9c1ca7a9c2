"""The check: a row for each variant, and the report written after each, so that what is finished is kept."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import edgepress
from benchmark.worker_process import WorkerError, WorkerProcess
from edgepress.artifact import Device, Runtime
from edgepress.cli.gpu_check.network import Network
from edgepress.cli.gpu_check.privacy import anonymous
from edgepress.cli.gpu_check.questions import Around, LookAround
from edgepress.cli.gpu_check.report import REPORT, SCHEMA_VERSION, GpuCheck, MachineFacts, VariantRow
from edgepress.cli.gpu_check.row import Absence, Bench, Gpu, Start, blank_row, row_of
from edgepress.cli.gpu_check.variants import FP32, VARIANTS
from edgepress.environments import SET_UP, interpreter_of
from edgepress.files import scratch_folder, write_json
from edgepress.progress import Progress, silent
from edgepress.record import to_json

_NOT_REACHED = "not reached: the check was interrupted"


@dataclass(frozen=True)
class Check:
    """What is asked for.

    Attributes:
        out: Folder of the report.
        network: That is checked.
        machine: Where.
        runner: "tensorrt" or "tensorrt-rtx"; None for the first of them that is there.
    """

    out: Path
    network: Network
    machine: MachineFacts
    runner: Runtime | None = None


def started(python: str) -> WorkerProcess:
    """A working process of an interpreter, not running yet."""
    return WorkerProcess((python, "-m", "edgepress.cli.gpu_check.worker"))


def checked(asked: Check, start: Start = started, progress: Progress = silent) -> GpuCheck:
    """Check every variant, and write the report.

    Args:
        asked: What.
        start: Starts a working process.
        progress: Told about variants.

    Returns:
        What the report says.

    Raises:
        InputError: The report cannot be written, or a variable names an interpreter that is not there.
    """
    tensorrt, gpu = _gpu_of(asked, start)
    rows = {variant.name: blank_row(asked.network, variant, _NOT_REACHED) for variant in VARIANTS}
    report = _report(asked, tensorrt, rows)
    with scratch_folder(asked.out) as scratch:
        bench = Bench(asked.network, start, scratch, gpu)
        for done, variant in enumerate(VARIANTS):
            progress("gpu-check", done, len(VARIANTS))
            _save(asked, report)
            rows[variant.name] = row_of(bench, variant, _compute_ns(rows[FP32.name]))
            report = _report(asked, tensorrt, rows)
    _save(asked, report)
    progress("gpu-check", len(VARIANTS), len(VARIANTS))
    return report


def _gpu_of(asked: Check, start: Start) -> tuple[str | None, Gpu | Absence]:
    """Which TensorRT runs engines here, and with which interpreter; or why none does."""
    if asked.machine.gpu_absence is not None:
        return None, Absence(f"no CUDA device ({asked.machine.gpu_absence})", is_fault=False)
    wanted = (asked.runner,) if asked.runner is not None else (Runtime.TENSORRT, Runtime.TENSORRT_RTX)
    python = interpreter_of(wanted[0].value, Device.CUDA)
    try:
        with start(python) as process:
            around = process.ask(LookAround(), Around)
    except WorkerError as error:
        return None, Absence(f"the Python of TensorRT's environment does not work: {error}", is_fault=True)
    versions = {Runtime.TENSORRT: around.tensorrt, Runtime.TENSORRT_RTX: around.tensorrt_rtx}
    runtime = next((runtime for runtime in wanted if versions[runtime] is not None), None)
    if runtime is None or around.cuda_python is None:
        lacking = "cuda-python" if runtime is not None else " or ".join(each.value for each in wanted)
        where = "this environment" if python == sys.executable else "the environment of TensorRT"
        return None, Absence(f"{lacking} is not in {where}: {SET_UP}", is_fault=True)
    return f"{runtime.value} {versions[runtime]}", Gpu(runtime.value, python)


def _compute_ns(row: VariantRow) -> float | None:
    return None if row.execution is None else row.execution.compute.median_ns


def _report(asked: Check, tensorrt: str | None, rows: Mapping[str, VariantRow]) -> GpuCheck:
    return GpuCheck(
        SCHEMA_VERSION,
        edgepress.__version__,
        platform.python_version(),
        tensorrt,
        asked.machine,
        asked.network.facts,
        tuple(rows.values()),
    )


def _save(asked: Check, report: GpuCheck) -> None:
    folders = (str(asked.out.absolute()), str(asked.network.manifest.folder.absolute()), str(Path.home()))
    own = (*folders, str(Path(sys.prefix)), str(Path.cwd()))
    write_json(asked.out / REPORT, anonymous(to_json(report), own))
