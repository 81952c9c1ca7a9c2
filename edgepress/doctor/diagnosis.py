"""All findings together."""

import platform
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import edgepress
from edgepress.doctor.hardware import Hardware, this_hardware
from edgepress.doctor.packages import Conflict, Package, installed_conflicts, installed_packages
from edgepress.doctor.trial import BACKENDS, Trial, Verdict, try_backend
from edgepress.machine import Isa
from edgepress.progress import Progress, silent

_AT_ONCE = 2
_INT8_FORMATS = {
    Isa.X86_AVX2: "unsigned activations, weights in 7 bits: without VNNI 8×8-bit products saturate",
    Isa.X86_AVX512: "unsigned activations, weights in 7 bits: without VNNI 8×8-bit products saturate",
    Isa.X86_VNNI: "unsigned activations, weights in 8 bits: VNNI sums in 32 bits",
    Isa.ARM64: "signed activations and weights",
    Isa.ARM64_DOT: "signed activations and weights: the dot product sums in 32 bits",
    Isa.OTHER: "signed activations and weights",
}


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        edgepress: Its version.
        python: Its version.
        hardware: The machine.
        packages: Of all extras.
        conflicts: Distributions installed over each other.
        trials: One per backend.
        int8: The INT8 format for ONNX Runtime on this CPU, and why.
    """

    edgepress: str
    python: str
    hardware: Hardware
    packages: tuple[Package, ...]
    conflicts: tuple[Conflict, ...]
    trials: tuple[Trial, ...]
    int8: str

    @property
    def faults(self) -> tuple[str, ...]:
        """What is installed and does not work; a missing extra is no fault."""
        return (
            *(f"{trial.name}: {trial.finding}" for trial in self.trials if trial.verdict is Verdict.BROKEN),
            *(f"{' and '.join(c.distributions)} are installed over each other" for c in self.conflicts),
            *(
                f"{package.name} {package.version} is outside of {package.wanted}"
                for package in self.packages
                if package.fits is False
            ),
        )


def diagnose(progress: Progress = silent) -> Diagnosis:
    """Look at the machine, and try every backend.

    Args:
        progress: Told "doctor" per backend.
    """
    hardware = this_hardware()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = {pool.submit(try_backend, backend, hardware.gpu_absence): backend for backend in BACKENDS}
        progress("doctor", 0, len(running))
        for done, _ in enumerate(as_completed(running), start=1):
            progress("doctor", done, len(running))
        by_backend = {backend: future.result() for future, backend in running.items()}
    return Diagnosis(
        edgepress.__version__,
        platform.python_version(),
        hardware,
        installed_packages(),
        installed_conflicts(),
        tuple(by_backend[backend] for backend in BACKENDS),
        _INT8_FORMATS[hardware.isa],
    )
