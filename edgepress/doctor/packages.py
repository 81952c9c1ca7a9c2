"""What is installed, whether edgepress can use that version, and what pip has to do where it cannot."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

_RANGE_OF = {"onnxruntime-gpu": "onnxruntime"}  # the same code and version numbers, built with CUDA


@dataclass(frozen=True)
class Package:
    """One package that edgepress can use.

    Attributes:
        name: Of the distribution.
        extra: The extra that asks for it; "" for the base.
        wanted: The range that edgepress is tested with.
        version: What is installed, or None.
        fits: Whether that lies in the range; None if nothing is installed.
    """

    name: str
    extra: str
    wanted: str
    version: str | None
    fits: bool | None


@dataclass(frozen=True)
class Pip:
    """Writes pip's command lines, with edgepress' own version ranges.

    Attributes:
        command: That reaches the pip of this environment.
        ranges: Canonical name → range.
    """

    command: str
    ranges: Mapping[str, str]

    def install(self, names: Iterable[str]) -> str:
        """For what is not there, or outside of its range."""
        return f"{self.command} install {self._requirements(names)}"

    def reinstall(self, names: Iterable[str]) -> str:
        """For what is there and broken: pip leaves a requirement alone that it thinks is met."""
        return f"{self.command} install --force-reinstall --no-deps {self._requirements(names)}"

    def replace(self, names: Iterable[str], kept: str) -> str:
        """For distributions over each other: removing one takes files of the other along."""
        return f"{self.command} uninstall -y {' '.join(names)} && {self.reinstall([kept])}"

    def _requirements(self, names: Iterable[str]) -> str:
        return " ".join(shlex.quote(name + self._range(name)) for name in names)

    def _range(self, name: str) -> str:
        base = canonicalize_name(name.partition("[")[0])
        return self.ranges.get(_RANGE_OF.get(base, base), "")


def pip_here(packages: Iterable[Package]) -> Pip:
    """The pip of this interpreter, which need not be the one that a shell calls `pip`."""
    return Pip(_pip_command(), {package.name: package.wanted for package in packages})


def _pip_command() -> str:
    python = Path(sys.executable)
    shells = shutil.which("pip")
    if shells is not None and Path(shells).parent == python.parent:
        return "pip"
    if importlib.util.find_spec("pip") is None and shutil.which("uv") is not None:
        return f"UV_PYTHON={shlex.quote(str(python))} uv pip"
    near = os.path.relpath(python)
    return f"{shlex.quote(str(python) if near.startswith(os.pardir) else near)} -m pip"


def pip_absence() -> str | None:
    """What to do where neither pip nor uv is there; None where one is."""
    if importlib.util.find_spec("pip") is not None or shutil.which("uv") is not None:
        return None
    return f"pip is not installed: {shlex.quote(sys.executable)} -m ensurepip"


def packages_of(
    requirements: Iterable[str], installed: Mapping[str, str], elsewhere: frozenset[str] = frozenset()
) -> tuple[Package, ...]:
    """What the requirements ask for, beside what is installed.

    Args:
        requirements: Lines as in a distribution's metadata, with `extra == "…"` markers.
        installed: Canonical name → version.
        elsewhere: Extras that do not belong into this environment.
    """
    found: dict[str, Package] = {}
    for line in requirements:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name == "edgepress" or name in found or _extra_of(requirement) in elsewhere:
            continue
        version = installed.get(name)
        found[name] = Package(
            name,
            _extra_of(requirement),
            str(requirement.specifier),
            version,
            None if version is None else _lies_in(requirement, version),
        )
    return tuple(found.values())


def _lies_in(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _extra_of(requirement: Requirement) -> str:
    text = str(requirement.marker or "")
    _, mark, rest = text.partition('extra == "')
    return rest.split('"')[0] if mark else ""


def installed_versions(distributions: Iterable[importlib.metadata.Distribution]) -> dict[str, str]:
    """Canonical name → version; of two of one name the first, which is the one that is imported."""
    found: dict[str, str] = {}
    for distribution in distributions:
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        if name and version:  # an installation that was interrupted has neither
            found.setdefault(canonicalize_name(name), version)
    return found


def requirements_of_edgepress() -> list[str]:
    """As its own metadata has them; empty where edgepress runs without being installed."""
    try:
        return importlib.metadata.requires("edgepress") or []
    except importlib.metadata.PackageNotFoundError:
        return []
