"""Where measuring happens: this machine, or a device that is reached from it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.ceilings import measured_ceilings
from benchmark.interleave import Run, measure
from benchmark.plan import Plan
from benchmark.preflight import Finding, findings
from benchmark.protocol import Evaluate, Evaluated, Infer, Occupied, Open, Opened, Prepare, Profile, Profiled
from benchmark.roofline import Ceilings
from benchmark.worker_process import PATIENCE_S, WorkerProcess, command_for
from edgepress.artifact import Device
from edgepress.dataset import Dataset
from edgepress.doctor.fact import Unknown
from edgepress.environments import ENVIRONMENTS, environment_of, located, versions_in
from edgepress.machine import cuda_device_absence, this_machine
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import RunnerKind, runner_kinds

_MORE_PACKAGES = ("keras", "numpy", "pillow", "scikit-learn")
_PATIENCE_PER_PICTURE_S = 30.0


@dataclass(frozen=True)
class Surroundings:
    """What is there.

    Attributes:
        python: Version.
        packages: Versions of what is installed, by the name of the distribution.
        runners: Names of the runners whose package can be imported.
        machine: `Machine.to_json()`.
        cuda_absence: Why there is no CUDA device; None if there is one.
        cores: That may be used.
    """

    python: str
    packages: Mapping[str, str]
    runners: tuple[str, ...]
    machine: Mapping[str, Any]
    cuda_absence: str | None
    cores: int


@dataclass(frozen=True)
class Pictures:
    """What is evaluated.

    Attributes:
        data: DATA, as given to `open_data`.
        pictures: The chosen ones of its evaluation pool, in order.
    """

    data: str
    pictures: Dataset


class Station(Protocol):
    """Where measuring happens. Paths in its arguments are of this machine.

    Attributes:
        host: As named by --host; None for this machine.
    """

    host: str | None

    def surroundings(self) -> Surroundings:
        """Look at what is there."""

    def preflight(self, device: Device) -> tuple[Finding, ...]:
        """Look whether it is fit to be measured on."""

    def ceilings(self, threads: int, device: Device) -> Ceilings:
        """Measure what it can do at best."""

    def measure(
        self, subjects: Sequence[Open], images: NDArray[np.float32], plan: Plan, seed: int
    ) -> tuple[Run, ...]:
        """See `benchmark.interleave.measure`; `images` is the input of every inference."""

    def profile(self, subject: Open, image: NDArray[np.float32], runs: int) -> Profiled:
        """Time each node in a process of its own."""

    def logits(self, subject: Open, pictures: Pictures, preprocessing: Preprocessing) -> NDArray[np.float32]:
        """(N, classes) logits of N pictures, one at a time, from a process of its own."""

    def infer(self, subject: Open, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, classes) logits of (N, height, width, 3) inputs, one at a time, from a process of its own."""


class LocalStation:
    """This machine.

    Args:
        scratch: An empty folder, for what the processes tell each other in files.
    """

    host: str | None = None

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def surroundings(self) -> Surroundings:
        """See `Station`."""
        kinds = runner_kinds()
        names = sorted({*_MORE_PACKAGES, *(kind.distribution for kind in kinds)})
        elsewhere = _packages_elsewhere()
        packages = {name: found for name in names if (found := _version(name))} | elsewhere
        present = [kind.name for kind in kinds if _is_here(kind) or _labelled(kind) in elsewhere]
        machine = this_machine()
        return Surroundings(
            platform.python_version(),
            packages,
            tuple(dict.fromkeys(present)),
            machine.to_json(),
            cuda_device_absence(),
            machine.cores,
        )

    def preflight(self, device: Device) -> tuple[Finding, ...]:
        """See `Station`."""
        return findings(device)

    def ceilings(self, threads: int, device: Device) -> Ceilings:
        """See `Station`."""
        return measured_ceilings(threads, device)

    def measure(
        self, subjects: Sequence[Open], images: NDArray[np.float32], plan: Plan, seed: int
    ) -> tuple[Run, ...]:
        """See `Station`."""
        return measure(subjects, self._saved(images), plan, seed)

    def profile(self, subject: Open, image: NDArray[np.float32], runs: int) -> Profiled:
        """See `Station`."""
        request = Profile(
            subject.runner,
            subject.device,
            subject.path,
            subject.threads,
            str(self._saved(image)),
            runs,
            str(self._scratch),
        )
        with WorkerProcess(command_for(subject.runner, subject.device)) as process:
            process.ask(Prepare(subject.runner, subject.device), Occupied)
            return process.ask(request, Profiled)

    def logits(self, subject: Open, pictures: Pictures, preprocessing: Preprocessing) -> NDArray[np.float32]:
        """See `Station`."""
        path = self._scratch / "logits.npy"
        names = tuple(picture.name for picture in pictures.pictures.pictures)
        request = Evaluate(pictures.data, names, preprocessing.to_json(), str(path))
        with WorkerProcess(command_for(subject.runner, subject.device)) as process:
            process.ask(Prepare(subject.runner, subject.device), Occupied)
            process.ask(subject, Opened)
            process.ask(request, Evaluated, PATIENCE_S + _PATIENCE_PER_PICTURE_S * len(names))
        logits: NDArray[np.float32] = np.load(path)
        return logits

    def infer(self, subject: Open, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Station`."""
        path = self._scratch / "logits.npy"
        request = Infer(str(self._saved(images)), str(path))
        with WorkerProcess(command_for(subject.runner, subject.device)) as process:
            process.ask(Prepare(subject.runner, subject.device), Occupied)
            process.ask(subject, Opened)
            process.ask(request, Evaluated, PATIENCE_S + _PATIENCE_PER_PICTURE_S * len(images))
        logits: NDArray[np.float32] = np.load(path)
        return logits

    def _saved(self, images: NDArray[np.float32]) -> Path:
        path = self._scratch / "input.npy"
        np.save(path, images)
        return path


def _is_here(kind: RunnerKind) -> bool:
    return find_spec(kind.package.partition(".")[0]) is not None


def _labelled(kind: RunnerKind) -> str:
    """A distribution with the environment that it is in, e.g. "tensorflow [gpu-tf]"."""
    environment = environment_of(kind.name, kind.device)
    return kind.distribution if environment is None else f"{kind.distribution} [{environment.extra}]"


def _packages_elsewhere() -> dict[str, str]:
    """Versions of the runtimes in environments of their own, by `_labelled`."""
    found: dict[str, str] = {}
    for environment in ENVIRONMENTS:
        python = located(environment).python
        versions = versions_in(python, environment.distributions) if python is not None else {}
        if not isinstance(versions, Unknown):
            found |= {f"{name} [{environment.extra}]": version for name, version in versions.items()}
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
