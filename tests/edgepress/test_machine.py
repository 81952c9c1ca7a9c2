import pytest

from edgepress.errors import InputError
from edgepress.machine import Isa, isa_of, this_machine
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
