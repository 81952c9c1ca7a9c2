"""`edgepress doctor`."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

from edgepress.cli.command import Command, Outcome
from edgepress.doctor.diagnosis import Diagnosis, diagnose
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_environments import State
from edgepress.doctor.hardware import Disk, Hardware
from edgepress.doctor.trial import Verdict
from edgepress.progress import Progress
from edgepress.record import to_json

_MARKS = {Verdict.WORKS: "ok", Verdict.ABSENT: "--", Verdict.NOT_HERE: "--", Verdict.BROKEN: "!!"}
_STATE_MARKS = {
    State.COMPLETE: "ok",
    State.INCOMPLETE: "--",
    State.MISSING: "--",
    State.BROKEN: "!!",
}
_NAME_COLUMNS = 27
_NARROWEST, _WIDEST = 60, 120
Row = tuple[str, str, str, str | None]  # mark, name, finding, remedy


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from edgepress.api import cache_folder
    from edgepress.target import HOST, target_of
    from optimize.recipe import recipes_for

    recipe = next(recipe for recipe in recipes_for(target_of(HOST)) if recipe.isas is not None)
    found = diagnose(recipe.name, cache_folder(os.environ), progress)
    value = {**to_json(found), "faults": list(found.faults)}
    return Outcome(tuple(page_of(found, _columns())), value, exit_code=1 if found.faults else 0)


def _columns() -> int:
    """Of the terminal behind Python's stdout: the front door points descriptor 1 itself elsewhere."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):  # a pipe or a file
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns
    return min(max(columns, _NARROWEST), _WIDEST)


def page_of(found: Diagnosis, columns: int = _WIDEST) -> Iterator[str]:
    """The diagnosis for people, line by line. Commands are never broken, so that they can be copied."""
    yield f"edgepress {found.edgepress}, Python {found.python}"
    for title, rows in (
        ("Backends (each was tried, in a process of its own)", _backend_rows(found)),
        ("Packages" if found.packages else "Packages: unknown", _package_rows(found)),
        ("Environments of a GPU's runtimes, each of its own", _environment_rows(found)),
        ("Machine", _machine_rows(found)),
    ):
        yield ""
        yield title
        for mark, name, finding, remedy in rows:
            yield from textwrap.wrap(
                f"  {mark:<2}  {name:<{_NAME_COLUMNS}}{finding}",
                columns,
                subsequent_indent=" " * (6 + _NAME_COLUMNS),
                break_long_words=False,
                break_on_hyphens=False,
            )
            if remedy is not None:
                yield f"      {remedy}"
    yield ""
    yield from (f"Warning: {warning}" for warning in found.warnings)
    yield from (f"Fault: {fault}" for fault in found.faults)
    if not found.faults:
        yield "No fault found."


def _backend_rows(found: Diagnosis) -> Iterator[Row]:
    for trial in found.trials:
        yield "!!" if trial.is_fault else _MARKS[trial.verdict], trial.name, trial.finding, trial.remedy
    for conflict in found.conflicts:
        yield "!!", conflict.import_name, str(conflict), conflict.repair


def _package_rows(found: Diagnosis) -> Iterator[Row]:
    for extra in found.extras:
        packages = [package for package in found.packages if package.extra == extra.name]
        words = [
            f"{package.name} {package.version or 'missing'}"
            + ("" if package.fits else f" (wanted {package.wanted})")
            for package in packages
        ]
        outside = any(package.fits is False for package in packages)
        mark = "ok" if extra.complete else "!!" if outside else "--"
        yield mark, extra.name or "base", ", ".join(words), extra.remedy


def _environment_rows(found: Diagnosis) -> Iterator[Row]:
    for each in found.environments:
        yield _STATE_MARKS[each.state], each.name, each.finding, each.remedy


def _machine_rows(found: Diagnosis) -> Iterator[Row]:
    hardware = found.hardware
    yield from (
        ("", name, text, None)
        for name, text in (
            ("CPU", f"{hardware.cpu} ({hardware.system})"),
            ("board", hardware.board),
            ("Jetson", hardware.jetson),
            ("instruction sets", f"{hardware.isa.value}: {_features(hardware)}"),
            ("INT8", f"{found.int8.recipe} for target {found.int8.target}: {found.int8.reason}"),
            ("cores", _part(hardware.cores, hardware.machine_cores, "")),
            ("frequency governor", str(hardware.governor)),
            (
                "memory",
                _part(_gigabytes(hardware.memory_bytes), _gigabytes(hardware.machine_memory_bytes), " GB"),
            ),
            *((f"disk, {disk.use}", _free(disk)) for disk in hardware.disks),
            *_nvidia(hardware),
        )
        if text is not None
    )


def _features(hardware: Hardware) -> str:
    if isinstance(hardware.features, Unknown):
        return str(hardware.features)
    return ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in hardware.features.items())


def _part(here: float | Unknown, whole: float | Unknown, unit: str) -> str:
    """What this process may use, and what the machine has, where that is more."""
    if isinstance(here, Unknown) or isinstance(whole, Unknown) or here == whole:
        return str(here) if isinstance(here, Unknown) else f"{here:.4g}{unit}"
    return f"{here:.4g}{unit} of the machine's {whole:.4g}{unit}"


def _gigabytes(size: int | Unknown) -> float | Unknown:
    return size if isinstance(size, Unknown) else size / 1e9


def _free(disk: Disk) -> str:
    free = _gigabytes(disk.free_bytes)
    return str(free) if isinstance(free, Unknown) else f"{free:.1f} GB free"


def _nvidia(hardware: Hardware) -> Iterator[tuple[str, str]]:
    driver = hardware.driver
    if driver.version is None:
        yield "NVIDIA driver", "none"
    else:
        yield "NVIDIA driver", f"{driver.version}, CUDA up to {driver.cuda}"
    if isinstance(driver.gpus, Unknown):
        yield "GPU", str(driver.gpus)
    else:
        for gpu in driver.gpus:
            size = _part(_gigabytes(gpu.memory_bytes), _gigabytes(gpu.memory_bytes), " GB")
            yield "GPU", f"{gpu.name}, compute capability {gpu.compute_capability}, {size}"
    if driver.gpu_absence is not None:
        yield "GPU", f"none that CUDA can use: {driver.gpu_absence}"
    for library in hardware.libraries:
        yield library.name, f"{library.version} ({library.path})"
    yield "CUDA compiler", "none" if hardware.nvcc is None else f"nvcc {hardware.nvcc}"


COMMAND = Command(
    name="doctor",
    purpose="say what this machine can run, and what is missing for the rest",
    examples=("edgepress doctor", "edgepress doctor --json"),
    add_arguments=_add_arguments,
    run=_run,
)
