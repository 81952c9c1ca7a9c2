"""Targets: device profiles as data. The target's instruction set decides the INT8 format."""

from dataclasses import dataclass
from enum import Enum

from edgepress.errors import unknown_choice
from edgepress.isa import Isa, host_isa

HOST = "host"


class ComputeCapability(str, Enum):
    """NVIDIA GPU generations that an engine can be built for here, without a GPU; `ALL`: one for many."""

    SM75 = "sm75"
    SM80 = "sm80"
    SM86 = "sm86"
    SM89 = "sm89"
    SM120 = "sm120"
    ALL = "all"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """In NVIDIA's spelling, e.g. ("8.6",). Turing (7.5) is not in a plan for all."""
        if self is ComputeCapability.ALL:
            return tuple(c.capabilities[0] for c in ComputeCapability if c not in _NOT_IN_ALL)
        digits = self.value.removeprefix("sm")
        return (f"{digits[:-1]}.{digits[-1]}",)


_NOT_IN_ALL = (ComputeCapability.SM75, ComputeCapability.ALL)


@dataclass(frozen=True)
class Target:
    """A device that artifacts are made for.

    Attributes:
        name: As given to --target.
        isa: Instruction-set family of its CPU.
        capabilities: Compute capabilities of the GPUs that engines are built for.
    """

    name: str
    isa: Isa
    capabilities: tuple[ComputeCapability, ...]


_DESKTOP = (ComputeCapability.SM86, ComputeCapability.SM89)

_PROFILES = (
    Target("linux-x64-avx2", Isa.X86_AVX2, _DESKTOP),
    Target("linux-x64-avx512", Isa.X86_AVX512, _DESKTOP),
    Target("linux-x64-vnni", Isa.X86_VNNI, _DESKTOP),
    Target("linux-x64-rtx", Isa.X86_AVX2, (ComputeCapability.ALL,)),
    Target("linux-arm64", Isa.ARM64, ()),
    Target("linux-arm64-dotprod", Isa.ARM64_DOT, ()),
)


def target_names() -> tuple[str, ...]:
    """All names that --target takes."""
    return (HOST, *(profile.name for profile in _PROFILES))


def target_of(name: str) -> Target:
    """The profile of that name; "host" gives the profile of this machine.

    Raises:
        InputError: There is no such target.
    """
    if name == HOST:
        isa = host_isa()
        known = next((profile for profile in _PROFILES if profile.isa is isa), None)
        return known or Target("host-other", isa, _DESKTOP)
    found = next((profile for profile in _PROFILES if profile.name == name), None)
    if found is None:
        raise unknown_choice("target", name, target_names())
    return found
