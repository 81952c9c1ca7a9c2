"""All findings together, each with the one thing to do about it."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import edgepress
from edgepress.doctor.backends import BACKENDS, NUMPY, Backend
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_environments import GpuEnvironment, State, gpu_environments
from edgepress.doctor.hardware import Hardware, this_hardware
from edgepress.doctor.integrity import Conflict, conflicts_among, damage_of
from edgepress.doctor.packages import (
    Package,
    Pip,
    installed_versions,
    packages_of,
    pip_absence,
    pip_here,
    requirements_of_edgepress,
)
from edgepress.doctor.trial import Cause, Outcome, Verdict, try_backends
from edgepress.environments import ENVIRONMENTS, SET_UP
from edgepress.isa import Isa
from edgepress.progress import Progress, silent
from edgepress.target import HOST, target_of

FULL_JOB_BYTES = (
    10 * 10**9
)  # full VGG16: 4.6 GB in all versions, a bundle, features, and what is being written
_INT8_REASONS = {
    Isa.X86_AVX2: "without VNNI 8-bit products are summed in 16 bits, so weights keep 7",
    Isa.X86_AVX512: "without VNNI 8-bit products are summed in 16 bits, so weights keep 7",
    Isa.X86_VNNI: "VNNI sums 8-bit products in 32 bits",
    Isa.ARM64: "no dot product: right, but slower than with it",
    Isa.ARM64_DOT: "the dot product sums 8-bit products in 32 bits",
    Isa.OTHER: "no instructions for INT8 are known of this CPU",
}


@dataclass(frozen=True)
class Trial:
    """One backend: whether it runs here, and what to do if not.

    Attributes:
        name: In words.
        extra: The extra that brings it; "" for the base.
        verdict: What became of it.
        finding: Versions, or what went wrong.
        remedy: A command; None where there is nothing to do, or nothing that pip could do.
    """

    name: str
    extra: str
    verdict: Verdict
    finding: str
    remedy: str | None

    @property
    def is_fault(self) -> bool:
        """Whether it should run here and does not: nothing of edgepress goes without the base."""
        return self.verdict is Verdict.BROKEN or (self.verdict is Verdict.ABSENT and self.extra == "")


@dataclass(frozen=True)
class Extra:
    """The packages behind one extra.

    Attributes:
        name: "" for the base.
        complete: Whether all are installed in versions that edgepress is tested with.
        remedy: A command; None if it is complete.
    """

    name: str
    complete: bool
    remedy: str | None


@dataclass(frozen=True)
class Int8:
    """What `optimize` makes for ONNX Runtime on this CPU.

    Attributes:
        target: That "host" stands for.
        recipe: Name.
        reason: Why that one.
    """

    target: str
    recipe: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        edgepress: Its version.
        python: Its version.
        trials: One per backend.
        extras: One per extra that asks for packages itself.
        packages: Of all extras.
        conflicts: Distributions installed over each other.
        environments: Those of their own that a GPU's runtimes live in.
        hardware: The machine.
        int8: The INT8 format for ONNX Runtime on this CPU.
        warnings: What does not stop edgepress, but may.
    """

    edgepress: str
    python: str
    trials: tuple[Trial, ...]
    extras: tuple[Extra, ...]
    packages: tuple[Package, ...]
    conflicts: tuple[Conflict, ...]
    environments: tuple[GpuEnvironment, ...]
    hardware: Hardware
    int8: Int8
    warnings: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """What is installed and does not work, or lacks in the base; a missing extra is no fault."""
        return (
            *(f"{trial.name}: {trial.finding}" for trial in self.trials if trial.is_fault),
            *(str(conflict) for conflict in self.conflicts),
            *(
                f"{package.name} {package.version} is outside of {package.wanted}"
                for package in self.packages
                if package.fits is False
            ),
            *(
                f"the environment {each.name}: {each.finding}"
                for each in self.environments
                if each.state is State.BROKEN
            ),
        )


def diagnose(int8_recipe: str, cache: Path, progress: Progress = silent) -> Diagnosis:
    """Look at the machine, and try every backend.

    Args:
        int8_recipe: The recipe that `optimize` chooses for ONNX Runtime on this machine.
        cache: The folder of weights and features; need not exist.
        progress: Told "doctor" per backend.
    """
    hardware = this_hardware(cache)
    distributions = tuple(importlib.metadata.distributions())
    installed = installed_versions(distributions)
    packages = _packages_here(installed)
    pip = pip_here(packages)
    has_gpu = hardware.driver.gpu_absence is None
    conflicts = conflicts_among(distributions, pip, gpu=has_gpu)
    return Diagnosis(
        edgepress=edgepress.__version__,
        python=platform.python_version(),
        trials=_trials(pip, installed, {c.import_name: c.repair for c in conflicts}, progress, gpu=has_gpu),
        extras=extras_of(packages, pip),
        packages=packages,
        conflicts=conflicts,
        environments=gpu_environments(has_gpu=has_gpu),
        hardware=hardware,
        int8=Int8(target_of(HOST).name, int8_recipe, _int8_reason(hardware)),
        warnings=warnings_of(hardware, packages),
    )


def _packages_here(installed: Mapping[str, str]) -> tuple[Package, ...]:
    """Those of all extras but the ones that fill environments of their own."""
    elsewhere = frozenset(environment.extra for environment in ENVIRONMENTS)
    return packages_of(requirements_of_edgepress(), installed, elsewhere)


def _trials(
    pip: Pip, installed: Mapping[str, str], repairs: Mapping[str, str], progress: Progress, *, gpu: bool
) -> tuple[Trial, ...]:
    tried = [backend for backend in BACKENDS if gpu or not backend.needs_gpu]
    outcomes: dict[Backend, Outcome] = {}
    progress("doctor", 0, len(tried))
    for backend, outcome in try_backends(tried):
        outcomes[backend] = outcome
        progress("doctor", len(outcomes), len(tried))
    numpy_works = outcomes[NUMPY].verdict is Verdict.WORKS
    return tuple(
        trial_of(backend, outcomes[backend], pip, installed, repairs, numpy_works=numpy_works)
        if backend in outcomes
        else untried(backend, installed)
        for backend in BACKENDS
    )


def untried(backend: Backend, installed: Mapping[str, str]) -> Trial:
    """For a backend that needs a GPU, where there is none: what is installed of it."""
    there = [f"{name} {installed[name]}" for name in backend.distributions if name in installed]
    finding = "no NVIDIA GPU that CUDA can use" + (f" ({', '.join(there)} is installed)" if there else "")
    return Trial(backend.name, backend.extra, Verdict.NOT_HERE, finding, None)


def trial_of(
    backend: Backend,
    outcome: Outcome,
    pip: Pip,
    installed: Mapping[str, str],
    repairs: Mapping[str, str],
    *,
    numpy_works: bool,
) -> Trial:
    """What was seen, with what to do about it.

    Args:
        backend: Which.
        outcome: What was seen.
        pip: Writes the command.
        installed: Canonical name → version.
        repairs: Import name → commands, of what is installed over each other.
        numpy_works: Whether the package works that almost all others need.
    """
    finding, remedy = outcome.finding, None
    if outcome.verdict is Verdict.ABSENT:
        remedy = _remedy_of_absent(backend, pip, installed)
    elif outcome.verdict is Verdict.BROKEN:
        repair = next((repairs[name] for name in backend.imports if name in repairs), None)
        if backend is not NUMPY and not numpy_works:
            remedy = "mend NumPy first, then run the doctor again"
        elif repair is not None:
            remedy = repair
        elif outcome.cause is Cause.DEPENDENCY:
            remedy = pip.install(backend.distributions)
        elif outcome.cause is Cause.ITSELF:
            damages = _damages(backend)
            finding = "; ".join((finding, *damages.values()))
            there = [name for name in backend.distributions if name in installed]
            remedy = pip.reinstall(damages or there or backend.distributions)
    return Trial(backend.name, backend.extra, outcome.verdict, finding, remedy)


def _remedy_of_absent(backend: Backend, pip: Pip, installed: Mapping[str, str]) -> str:
    if backend.environment is not None:
        return SET_UP
    lacking = [name for name in backend.distributions if name not in installed]
    # Without its files and with its metadata, pip holds it for installed.
    return pip.install(lacking) if lacking else pip.reinstall(backend.distributions)


def _damages(backend: Backend) -> dict[str, str]:
    """Distribution → what is wrong with its files. Imports and distributions stand in the same order."""
    found = {}
    for name, import_name in zip(backend.distributions, backend.imports, strict=False):
        try:
            damage = damage_of(importlib.metadata.distribution(name), import_name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if damage is not None:
            found[name] = str(damage)
    return found


def extras_of(packages: Sequence[Package], pip: Pip) -> tuple[Extra, ...]:
    """Each extra, and how to complete it."""
    found = []
    for name in dict.fromkeys(package.extra for package in packages):
        lacking = [package.name for package in packages if package.extra == name and not package.fits]
        found.append(Extra(name, not lacking, pip.install(lacking) if lacking else None))
    return tuple(found)


def _int8_reason(hardware: Hardware) -> str:
    reason = _INT8_REASONS[hardware.isa]
    if isinstance(hardware.features, Unknown):
        return f"the safe choice, since the CPU's features are unknown ({hardware.features.unknown})"
    return reason


def warnings_of(hardware: Hardware, packages: Sequence[Package]) -> tuple[str, ...]:
    """What does not stop edgepress, but may."""
    found = [
        f"{disk.use} {disk.folder}: {disk.free_bytes / 1e9:.1f} GB free, "
        f"a job with full VGG16 needs {FULL_JOB_BYTES / 1e9:.0f} GB"
        for disk in hardware.disks
        if not isinstance(disk.free_bytes, Unknown) and disk.free_bytes < FULL_JOB_BYTES
    ]
    if not packages:
        found.append(
            "edgepress runs without being installed, so version ranges are unknown: pip install -e ."
        )
    absence = pip_absence()
    return (*found, absence) if absence is not None else tuple(found)
