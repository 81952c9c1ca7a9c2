"""The doctor's facts about the machine, as the report has them: known, or null."""

from pathlib import Path
from typing import TypeVar

from edgepress.cli.gpu_check.report import EnvironmentFacts, GpuFacts, MachineFacts
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_environments import GpuEnvironment, gpu_environments
from edgepress.doctor.hardware import Hardware, this_hardware
from edgepress.doctor.nvidia_driver import Gpu

Fact = TypeVar("Fact")


def machine_facts(cache: Path) -> MachineFacts:
    """Look at this machine.

    Args:
        cache: The folder of weights; need not exist.
    """
    hardware = this_hardware(cache)
    return facts_of(hardware, gpu_environments(has_gpu=hardware.driver.gpu_absence is None))


def facts_of(hardware: Hardware, environments: tuple[GpuEnvironment, ...]) -> MachineFacts:
    """What of the doctor's facts is told."""
    driver = hardware.driver
    gpus = () if isinstance(driver.gpus, Unknown) else driver.gpus
    return MachineFacts(
        hardware.system,
        hardware.board,
        hardware.jetson,
        str(hardware.cpu),
        _known(hardware.cores),
        _known(hardware.memory_bytes),
        _known(driver.version),
        _known(driver.cuda),
        tuple(_gpu(gpu) for gpu in gpus),
        driver.gpu_absence,
        tuple(EnvironmentFacts(each.name, each.state.value, each.finding) for each in environments),
    )


def _gpu(gpu: Gpu) -> GpuFacts:
    return GpuFacts(_known(gpu.name), _known(gpu.compute_capability), _known(gpu.memory_bytes))


def _known(fact: Fact | Unknown | None) -> Fact | None:
    return None if isinstance(fact, Unknown) else fact
