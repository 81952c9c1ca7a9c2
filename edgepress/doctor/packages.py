"""What is installed, whether edgepress can use that version, and who overwrote whom."""

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_SEPARATE = {  # import name → distributions that each bring it, of which only one can be there
    "onnxruntime": (
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
        *("onnxruntime-qnn", "onnxruntime-training", "ort-nightly"),
    ),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly"),
}


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
class Conflict:
    """Distributions installed over each other.

    Attributes:
        import_name: The package folder that they share.
        distributions: Who claims it.
        repair: Commands that put it right.
    """

    import_name: str
    distributions: tuple[str, ...]
    repair: str


def packages_of(requirements: Iterable[str], installed: Mapping[str, str]) -> tuple[Package, ...]:
    """What the requirements ask for, beside what is installed.

    Args:
        requirements: Lines as in a distribution's metadata, with `extra == "…"` markers.
        installed: Canonical name → version.
    """
    found: dict[str, Package] = {}
    for line in requirements:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name == "edgepress" or name in found:
            continue
        version = installed.get(name)
        fits = None if version is None else requirement.specifier.contains(version, prereleases=True)
        found[name] = Package(name, _extra_of(requirement), str(requirement.specifier), version, fits)
    return tuple(found.values())


def _extra_of(requirement: Requirement) -> str:
    text = str(requirement.marker or "")
    _, mark, rest = text.partition('extra == "')
    return rest.split('"')[0] if mark else ""


def conflicts_of(owners: Mapping[str, Iterable[str]]) -> tuple[Conflict, ...]:
    """Import names that several distributions claim, of those that cannot share one.

    Args:
        owners: Import name → distributions, as `importlib.metadata.packages_distributions` gives it.
    """
    found = []
    for import_name, rivals in _SEPARATE.items():
        there = sorted({canonicalize_name(name) for name in owners.get(import_name, ())} & set(rivals))
        if len(there) > 1:
            repair = f"pip uninstall -y {' '.join(there)} && pip install {there[0]}"
            found.append(Conflict(import_name, tuple(there), repair))
    return tuple(found)


def installed_packages() -> tuple[Package, ...]:
    """The packages of all extras, as they are here."""
    installed: dict[str, str] = {
        canonicalize_name(distribution.metadata["Name"] or ""): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    try:
        requirements = importlib.metadata.requires("edgepress") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    return packages_of(requirements, installed)


def installed_conflicts() -> tuple[Conflict, ...]:
    """The distributions that are installed over each other here."""
    return conflicts_of(importlib.metadata.packages_distributions())
