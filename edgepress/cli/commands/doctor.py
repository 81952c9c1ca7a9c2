"""`edgepress doctor`."""

import argparse
from collections.abc import Iterator

from edgepress.cli.command import Command, Outcome
from edgepress.doctor.diagnosis import Diagnosis, diagnose
from edgepress.doctor.hardware import Hardware
from edgepress.doctor.trial import Verdict
from edgepress.progress import Progress
from edgepress.record import to_json

_MARKS = {Verdict.WORKS: "ok", Verdict.ABSENT: "--", Verdict.NOT_HERE: "--", Verdict.BROKEN: "!!"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    found = diagnose(progress)
    value = {**to_json(found), "faults": list(found.faults)}
    return Outcome(tuple(page_of(found)), value, exit_code=1 if found.faults else 0)


def page_of(found: Diagnosis) -> Iterator[str]:
    """The diagnosis for people, line by line."""
    yield f"edgepress {found.edgepress}, Python {found.python}"
    yield ""
    yield from _machine(found.hardware, found.int8)
    yield ""
    yield "Backends (each was tried)"
    for trial in found.trials:
        yield f"  {_MARKS[trial.verdict]}  {trial.name}: {trial.finding}"
        if trial.remedy is not None:
            yield f"        {trial.remedy}"
    yield ""
    yield "Packages"
    for package in found.packages:
        mark = "--" if package.fits is None else "ok" if package.fits else "!!"
        extra = f" [{package.extra}]" if package.extra else ""
        version = package.version or "not installed"
        yield f"  {mark}  {package.name} {version} (wanted {package.wanted}){extra}"
    for conflict in found.conflicts:
        yield f"  !!  {' and '.join(conflict.distributions)} overwrite each other's {conflict.import_name}"
        yield f"        {conflict.repair}"
    yield ""
    yield from (f"Fault: {fault}" for fault in found.faults)
    if not found.faults:
        yield "No fault found."


def _machine(hardware: Hardware, int8: str) -> Iterator[str]:
    memory = f"{hardware.memory_bytes / 1e9:.1f} GB" if hardware.memory_bytes else "unknown"
    features = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in hardware.features.items())
    yield "Machine"
    yield f"  CPU      {hardware.cpu} ({hardware.system})"
    yield f"  ISA      {hardware.isa.value}: {features}"
    yield f"  INT8     {int8}"
    yield f"  cores    {hardware.cores:g}, memory {memory}, free disk {hardware.disk_free_bytes / 1e9:.1f} GB"
    yield f"  driver   {'CUDA ' + hardware.driver if hardware.driver else 'no NVIDIA driver'}"
    if hardware.jetson is not None:
        yield f"  Jetson   {hardware.jetson}"
    for gpu in hardware.gpus:
        memory = f"{gpu.memory_bytes / 1e9:.1f} GB"
        yield f"  GPU      {gpu.name}, compute capability {gpu.compute_capability}, {memory}"
    if hardware.gpu_absence is not None:
        yield f"  GPU      none: {hardware.gpu_absence}"


COMMAND = Command(
    name="doctor",
    purpose="say what this machine can run, and what is missing for the rest",
    examples=("edgepress doctor", "edgepress doctor --json"),
    add_arguments=_add_arguments,
    run=_run,
)
