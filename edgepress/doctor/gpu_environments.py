"""Whether the environments that a GPU's runtimes live in are there, and complete."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepress.doctor.fact import Unknown
from edgepress.environments import ENVIRONMENTS, SET_UP, Environment, Located, Place, located, versions_in
from edgepress.errors import InputError


class State(Enum):
    """What became of an environment."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # its interpreter starts, and a package is not there
    MISSING = "missing"  # not made: no fault
    BROKEN = "broken"  # its interpreter does not start


@dataclass(frozen=True)
class GpuEnvironment:
    """One environment.

    Attributes:
        name: That of its extra, e.g. "gpu-trt".
        runners: Names of those that it serves.
        state: What became of it.
        finding: Versions, or what is wrong, in words.
        remedy: A command; None where there is nothing to do.
    """

    name: str
    runners: tuple[str, ...]
    state: State
    finding: str
    remedy: str | None


def gpu_environments(
    variables: Mapping[str, str] | None = None, prefix: Path | None = None, *, has_gpu: bool
) -> tuple[GpuEnvironment, ...]:
    """Look at all of them.

    Args:
        variables: See `edgepress.environments.located`.
        prefix: See there.
        has_gpu: Without a GPU nothing has to be done about one that is missing.
    """
    return tuple(_seen(environment, variables, prefix, has_gpu=has_gpu) for environment in ENVIRONMENTS)


def _seen(
    environment: Environment, variables: Mapping[str, str] | None, prefix: Path | None, *, has_gpu: bool
) -> GpuEnvironment:
    try:
        found = located(environment, variables, prefix)
    except InputError as error:
        return _told(environment, State.BROKEN, str(error), None)
    if found.python is None:
        why = "not made" if has_gpu else "not made; of use with an NVIDIA GPU only"
        finding = f"{environment.folder} is {why}"
        return _told(environment, State.MISSING, finding, SET_UP if has_gpu else None)
    versions = versions_in(found.python, environment.distributions)
    where = _where(found)
    if isinstance(versions, Unknown):
        remedy = f"rm -r {environment.folder} && {SET_UP}" if found.place is Place.BESIDE else None
        return _told(environment, State.BROKEN, f"{where}: {versions.unknown}", remedy)
    finding = ", ".join(f"{name} {versions.get(name, 'missing')}" for name in environment.distributions)
    lacking = [name for name in environment.distributions if name not in versions]
    if not lacking:
        return _told(environment, State.COMPLETE, f"{where}: {finding}", None)
    near = os.path.relpath(found.python) if found.place is Place.BESIDE else found.python
    remedy = f"{shlex.quote(near)} -m pip install {_wanted(environment, found.place, lacking)}"
    return _told(environment, State.INCOMPLETE, f"{where}: {finding}", remedy)


def _where(found: Located) -> str:
    """Where it is, without the path of a user's own."""
    if found.place is Place.BESIDE:
        return found.environment.folder
    return f"the interpreter that {found.environment.variable} names"


def _wanted(environment: Environment, place: Place, lacking: list[str]) -> str:
    """A folder of edgepress' own takes the whole extra; a foreign interpreter only what it lacks."""
    return f"--editable '.[{environment.extra}]'" if place is Place.BESIDE else " ".join(lacking)


def _told(environment: Environment, state: State, finding: str, remedy: str | None) -> GpuEnvironment:
    return GpuEnvironment(environment.extra, environment.runners, state, finding, remedy)
