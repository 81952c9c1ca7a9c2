import os
from pathlib import Path

import pytest

from edgepress.errors import InputError
from edgepress.isa import Isa, isa_of
from edgepress.machine import this_machine, usable_cores
from edgepress.target import target_names, target_of


@pytest.mark.parametrize(
    ("architecture", "flags", "isa"),
    [
        ("x86_64", {"avx2"}, Isa.X86_AVX2),
        ("x86_64", {"avx2", "avx512f"}, Isa.X86_AVX512),
        ("x86_64", {"avx2", "avx512f", "avx512_vnni"}, Isa.X86_VNNI),
        ("amd64", {"avx2", "avx_vnni"}, Isa.X86_VNNI),
        ("aarch64", {"asimd"}, Isa.ARM64),
        ("arm64", {"asimd", "asimddp"}, Isa.ARM64_DOT),
        ("riscv64", set(), Isa.OTHER),
    ],
)
def test_isa_of_follows_the_flags(architecture: str, flags: set[str], isa: Isa) -> None:
    assert isa_of(architecture, frozenset(flags)) is isa


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        (None, 4),
        ("max 100000", 4),
        ("800000 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),  # two threads can use a core and a half, one cannot
        ("10000 100000", 1),
        ("nonsense", 4),
    ],
)
def test_usable_cores_keeps_to_the_quota_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 4, 6}, raising=False)
    if quota is not None:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == cores


def test_this_machine_describes_itself() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.to_json()["isa"] == machine.isa.value


def test_target_of_host_has_the_isa_of_this_machine() -> None:
    assert target_of("host").isa is this_machine().isa


def test_target_of_every_listed_name_exists() -> None:
    assert all(target_of(name) for name in target_names())


def test_target_of_a_misspelt_name_suggests_one() -> None:
    with pytest.raises(InputError, match="Unknown target 'linux-x64-vni'. Did you mean 'linux-x64-vnni'"):
        target_of("linux-x64-vni")
