"""What is looked at before anything is measured: is this machine fit to be measured on."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from benchmark.interference import MOST_OTHERS, CpuTicks, cpu_ticks
from edgepress.artifact import Device
from edgepress.doctor.backends import Backend
from edgepress.doctor.control_group import limits_under
from edgepress.doctor.cpu_state import board_limits_under, boosts_under, clock_under, throttle_count_under
from edgepress.doctor.fact import Unknown, text_of
from edgepress.doctor.gpu_state import Clock, GpuState, gpu_states
from edgepress.doctor.hardware import features_of, governor_of
from edgepress.doctor.memory_state import memory_state_under
from edgepress.doctor.trial import Verdict, try_backends
from edgepress.isa import cpu_flags_of, cpu_model_of, isa_of
from edgepress.machine import usable_cores
from edgepress.runners.runner import RunnerKind, runner_kinds

Told = TypeVar("Told")

_LOOK_S = 0.5
_PROVIDERS_PATIENCE_S = 10.0
_BUSY_GPU = 0.05
_SCARCE = 0.1  # of memory
_MIB = 1 << 20
_BEST_GOVERNOR = "performance"
_WITH_CUDA = "CUDAExecutionProvider"
_PROVIDERS = Backend(
    "ONNX Runtime's providers",
    "onnxruntime",
    ("onnxruntime",),
    ("onnxruntime",),
    "import onnxruntime as r\nfound = ', '.join(r.get_available_providers())",
)


class Fitness(str, Enum):
    """What a finding means for the measurement."""

    FINE = "fine"
    DOUBT = "doubt"  # the times may suffer; the text says what to do
    UNKNOWN = "unknown"  # the system does not tell


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: E.g. "load", "governor", "GPU 0".
        found: In words, with units.
        fitness: What it means.
        remedy: What to do about a doubt; None without one.
    """

    subject: str
    found: str
    fitness: Fitness
    remedy: str | None = None


def findings(device: Device, root: Path = Path("/")) -> tuple[Finding, ...]:
    """Look at the machine, for about a second.

    Args:
        device: Where the versions run; GPUs are looked at only for CUDA.
        root: "/", or a copy of /proc and /sys.
    """
    found = [_cpu(root), _cores(root), _governor(root), _clock(root), *_under_way(root), _memory(root)]
    found += [_runners(), *_providers(device)]
    if device is Device.CUDA:
        found += _gpus(gpu_states())
    return tuple(found)


def _fine(subject: str, found: str) -> Finding:
    return Finding(subject, found, Fitness.FINE)


def _doubt(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject, found, Fitness.DOUBT, remedy)


def _unknown(subject: str, reason: Unknown) -> Finding:
    return Finding(subject, reason.unknown, Fitness.UNKNOWN)


def _cpu(root: Path) -> Finding:
    """Its name, the family that decides the INT8 format, and the features that matter."""
    architecture = platform.machine().lower()
    cpuinfo = text_of(root / "proc/cpuinfo")
    text = cpuinfo if isinstance(cpuinfo, str) else ""
    flags = cpu_flags_of(text)
    name = cpu_model_of(text) or platform.processor() or architecture
    if not flags:
        reason = cpuinfo if isinstance(cpuinfo, Unknown) else Unknown("/proc/cpuinfo lists no flags")
        return _unknown("CPU", Unknown(f"{name}; its features are unknown ({reason.unknown})"))
    features = [feature for feature, there in features_of(architecture, flags).items() if there]
    where = "in a virtual machine, " if "hypervisor" in flags else ""
    return _fine(
        "CPU", f"{name}, {where}{isa_of(architecture, flags).value}: {', '.join(features) or 'no features'}"
    )


def _cores(root: Path) -> Finding:
    cores, quota = usable_cores(root), limits_under(root).cores
    text = f"{cores} of {os.cpu_count() or 'an unknown number'} can be used"
    if isinstance(quota, Unknown):
        return _unknown("cores", Unknown(f"{text}; the container's quota is unknown ({quota.unknown})"))
    if quota is None:
        return _fine("cores", text)
    return _doubt(
        "cores",
        f"{text}; the container has a quota of {quota:g} cores' time",
        "Give the container whole cores (--cpuset-cpus) instead of a quota: one that has used up its quota "
        "is stopped in the middle of an inference.",
    )


def _governor(root: Path) -> Finding:
    governor = governor_of(root)
    if isinstance(governor, Unknown):
        return _unknown("governor", governor)
    if governor == _BEST_GOVERNOR:
        return _fine("governor", governor)
    remedy = f"Fix the frequency: sudo cpupower frequency-set -g {_BEST_GOVERNOR}"
    return _doubt("governor", f"{governor}: the frequency follows the load", remedy)


def _clock(root: Path) -> Finding:
    clock, boosts = clock_under(root), boosts_under(root)
    if isinstance(clock, Unknown):
        return _unknown("clock", clock)
    text = f"{clock.slowest_mhz:.0f} to {clock.fastest_mhz:.0f} MHz now, {clock.most_mhz:.0f} MHz at most"
    if isinstance(boosts, Unknown):
        return _fine("clock", text)
    return _fine("clock", f"{text}, {'with' if boosts else 'without'} boost")


def _under_way(root: Path) -> tuple[Finding, ...]:
    """What changes while it is looked at: other processes' share of our cores, and throttling."""
    proc, pid = root / "proc", os.getpid()
    ticks, throttled = cpu_ticks(pid, proc), throttle_count_under(root)
    time.sleep(_LOOK_S)
    return (
        _load(ticks, cpu_ticks(pid, proc)),
        _throttling(throttled, throttle_count_under(root), board_limits_under(root)),
    )


def _load(before: CpuTicks | None, after: CpuTicks | None) -> Finding:
    if before is None or after is None or after.all <= before.all:
        return _unknown("load", Unknown("/proc does not tell what other processes take of the cores"))
    others = max(0, (after.busy - before.busy) - (after.own - before.own))
    share = others / (after.all - before.all)
    text = f"other processes take {share:.0%} of the cores"
    if share <= MOST_OTHERS:
        return _fine("load", text)
    return _doubt("load", text, "End what else runs here (see top), or measure when it is done.")


def _throttling(before: int | Unknown, after: int | Unknown, board: tuple[str, ...] | Unknown) -> Finding:
    if isinstance(board, tuple) and board:
        remedy = "Cool the board, and use a power supply that is strong enough."
        return _doubt("throttling", f"the board is slowed down by {', '.join(board)}", remedy)
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return (
            _fine("throttling", "none now")
            if isinstance(board, tuple)
            else _unknown("throttling", Unknown("the system does not tell"))
        )
    text = f"{after} times since the system started"
    if after == before:
        return _fine("throttling", text)
    return _doubt("throttling", f"{text}, also right now", "Let the CPU cool down, or cool it better.")


def _memory(root: Path) -> Finding:
    memory = memory_state_under(root)
    if isinstance(memory, Unknown):
        return _unknown("memory", memory)
    text = (
        f"{memory.available_bytes / _MIB:.0f} of {memory.total_bytes / _MIB:.0f} MiB available, "
        f"{memory.swapped_bytes / _MIB:.0f} MiB swapped out"
    )
    if memory.available_bytes >= _SCARCE * memory.total_bytes:
        return _fine("memory", text)
    return _doubt("memory", text, "End what else runs here: weights that are swapped out are read from disk.")


def _runners() -> Finding:
    """Packages that are there, by their metadata: nothing is imported."""
    versions: dict[str, str] = {}  # by package: several distributions bring the same one
    for kind in runner_kinds():
        package = kind.package.partition(".")[0]
        if package not in versions and find_spec(package) is not None and (found := _version(kind)):
            versions[package] = found
    if not versions:
        return _doubt("runners", "none: no runtime is installed", "Install one (make setup).")
    return _fine("runners", ", ".join(versions.values()))


def _version(kind: RunnerKind) -> str | None:
    try:
        return f"{kind.distribution} {metadata.version(kind.distribution)}"
    except metadata.PackageNotFoundError:
        return None


def _providers(device: Device) -> Iterator[Finding]:
    """What this build of ONNX Runtime has; asked in a process of its own, for importing it can fail."""
    subject = _PROVIDERS.name
    for _, outcome in try_backends((_PROVIDERS,), _PROVIDERS_PATIENCE_S):
        if outcome.verdict is Verdict.BROKEN:
            yield _doubt(subject, outcome.finding, "Run edgepress doctor: it says what is wrong.")
        elif outcome.verdict is Verdict.WORKS:
            if device is Device.CUDA and _WITH_CUDA not in outcome.finding:
                yield _doubt(subject, f"{outcome.finding}: none for CUDA", "Install onnxruntime-gpu.")
            else:
                yield _fine(subject, outcome.finding)


def _gpus(states: tuple[GpuState, ...] | Unknown) -> list[Finding]:
    if isinstance(states, Unknown):
        return [_unknown("GPU", states)]
    return [_gpu(f"GPU {number}", state) for number, state in enumerate(states)]


def _gpu(subject: str, gpu: GpuState) -> Finding:
    """In doubt if somebody else uses it, or if it is slowed down."""
    text = ", ".join(
        (
            str(gpu.name),
            f"busy: {_told(gpu.busy, '{:.0%}'.format)}",
            f"SM clock: {_told(gpu.sm_clock, _mhz)}",
            f"memory clock: {_told(gpu.memory_clock, _mhz)}",
            f"memory in use: {_told(gpu.used_bytes, lambda size: f'{size / _MIB:.0f} MiB')}",
            f"processes: {_told(gpu.processes, str)}",
            f"persistence mode: {_told(gpu.is_persistent, _on)}",
            f"MIG: {_told(gpu.is_split, _on)}",
            f"slowed down by: {_told(gpu.slowdowns, lambda found: ' and '.join(found) or 'nothing')}",
        )
    )
    if isinstance(gpu.slowdowns, tuple) and gpu.slowdowns:
        return _doubt(subject, text, "Let the GPU cool down, and look at its power supply (nvidia-smi -q).")
    is_busy = not isinstance(gpu.busy, Unknown) and gpu.busy > _BUSY_GPU
    if is_busy or (not isinstance(gpu.processes, Unknown) and gpu.processes > 0):
        return _doubt(
            subject, text, "End what else uses the GPU (see nvidia-smi), or measure when it is done."
        )
    if isinstance(gpu.busy, Unknown) and isinstance(gpu.processes, Unknown):
        return _unknown(subject, Unknown(text))
    return _fine(subject, text)


def _told(value: Told | Unknown, words: Callable[[Told], str]) -> str:
    return "unknown" if isinstance(value, Unknown) else words(value)


def _mhz(clock: Clock) -> str:
    return f"{clock.now_mhz} of {clock.most_mhz} MHz"


def _on(value: bool) -> str:  # noqa: FBT001  # a fact that the driver tells
    return "on" if value else "off"
