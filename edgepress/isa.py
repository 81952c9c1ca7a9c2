"""Instruction-set families of CPUs. Imports nothing of edgepress: a bundle carries this file as it is."""

from __future__ import annotations

import platform
from enum import Enum
from functools import lru_cache
from pathlib import Path


class Isa(str, Enum):
    """Instruction-set families that decide which INT8 format is accurate and fast."""

    X86_AVX2 = "x86-64-avx2"  # no VNNI: 8×8-bit products are summed in 16 bits and can saturate
    X86_AVX512 = "x86-64-avx512"  # likewise
    X86_VNNI = "x86-64-vnni"  # 8×8-bit products are summed in 32 bits
    ARM64 = "arm64"
    ARM64_DOT = "arm64-dotprod"
    OTHER = "other"


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Feature flags of /proc/cpuinfo; empty where the system does not tell."""
    return cpu_flags_of(read_cpuinfo())


def cpu_flags_of(cpuinfo: str) -> frozenset[str]:
    """The feature flags in a text as of /proc/cpuinfo ("flags" on x86, "Features" on ARM)."""
    return frozenset(_field_of(cpuinfo, "flags", "Features").split())


def cpu_model_of(cpuinfo: str) -> str | None:
    """The marketing name of the CPU in a text as of /proc/cpuinfo; None on most ARM systems."""
    return _field_of(cpuinfo, "model name") or None


def _field_of(cpuinfo: str, *names: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def read_cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty where the system has none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def host_isa() -> Isa:
    """The instruction-set family of this machine."""
    return isa_of(platform.machine().lower(), cpu_flags())


def isa_of(architecture: str, flags: frozenset[str]) -> Isa:
    """The family for an architecture name (as `uname -m`) and its feature flags."""
    if architecture in {"x86_64", "amd64"}:
        if "avx512_vnni" in flags or "avx_vnni" in flags:
            return Isa.X86_VNNI
        if "avx512f" in flags:
            return Isa.X86_AVX512
        return Isa.X86_AVX2
    if architecture in {"aarch64", "arm64"}:
        return Isa.ARM64_DOT if "asimddp" in flags else Isa.ARM64
    return Isa.OTHER


def takes(host: Isa, made_for: Isa) -> bool:
    """Whether what is right and fast on one family is so on a host, too: it has all that the family has."""
    return host is made_for or made_for in _ALSO.get(host, ())


_ALSO = {
    Isa.X86_AVX512: (Isa.X86_AVX2,),
    Isa.X86_VNNI: (Isa.X86_AVX512, Isa.X86_AVX2),
    Isa.ARM64_DOT: (Isa.ARM64,),
}
