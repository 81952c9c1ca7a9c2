"""What the machine is, read from fake trees of /proc and /sys."""

import platform
from pathlib import Path

import pytest

from edgepress.doctor import hardware
from edgepress.doctor.control_group import Limits, limits_under
from edgepress.doctor.fact import Unknown
from edgepress.doctor.hardware import features_of, this_hardware
from edgepress.doctor.nvidia_libraries import Library, libraries_under, nvcc_version
from edgepress.isa import isa_of

# As /proc/cpuinfo of real machines has them, cut to what matters.
SERVER = frozenset(["fpu", "sse4_2", "avx", "avx2", "f16c", "avx512f", "avx512bw", "avx512_vnni"])
LAPTOP = frozenset(["fpu", "avx2", "f16c", "avx_vnni"])
ORIN = frozenset(["fp", "asimd", "evtstrm", "aes", "asimdhp", "cpuid", "asimdrdm", "lrcpc", "asimddp"])
RASPBERRY_PI_4 = frozenset(["fp", "asimd", "evtstrm", "crc32", "cpuid"])


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("architecture", "flags", "present", "absent", "isa"),
    [
        (
            "x86_64",
            SERVER,
            {"AVX2", "AVX-512", "AVX512-VNNI", "F16C"},
            {"AVX-VNNI", "AMX-INT8"},
            "x86-64-vnni",
        ),
        (
            "x86_64",
            LAPTOP,
            {"AVX2", "AVX-VNNI", "F16C"},
            {"AVX-512", "AVX512-VNNI", "AMX-INT8"},
            "x86-64-vnni",
        ),
        ("aarch64", ORIN, {"NEON", "dot product"}, {"I8MM", "SVE"}, "arm64-dotprod"),
        ("aarch64", RASPBERRY_PI_4, {"NEON"}, {"dot product", "I8MM", "SVE"}, "arm64"),
    ],
)
def test_features_of_known_machines(
    architecture: str, flags: frozenset[str], present: set[str], absent: set[str], isa: str
) -> None:
    found = features_of(architecture, flags)
    assert {name for name, there in found.items() if there} == present
    assert {name for name, there in found.items() if not there} == absent
    assert isa_of(architecture, flags).value == isa


V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, Limits(None, None)),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}, Limits(None, None)),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n", "sys/fs/cgroup/memory.max": "1024"}, Limits(0.5, 1024)),
        (  # the least of a group and those above it binds
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/memory.max": "1000\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
            },
            Limits(3.0, 1000),
        ),
        (V1, Limits(1.5, 2147483648)),
        (
            {
                **V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            },
            Limits(None, None),
        ),
    ],
    ids=["none", "v2 unlimited", "v2 container", "v2 nested", "v1 container", "v1 unlimited"],
)
def test_limits_of_control_groups(tmp_path: Path, files: dict[str, str], limits: Limits) -> None:
    assert limits_under(tree(tmp_path, files)) == limits


@pytest.mark.parametrize("text", ["", "garbage", "1 0", "1 2 3"])
def test_a_limit_that_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    cores = limits_under(tree(tmp_path, {"sys/fs/cgroup/cpu.max": text})).cores
    assert isinstance(cores, Unknown)
    assert "sys/fs/cgroup" in cores.unknown


def test_hardware_of_a_small_container_on_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp i8mm\nCPU part : 0xd42\n",
            "proc/device-tree/model": "NVIDIA Jetson AGX Orin\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
            "sys/devices/system/cpu/cpu7/cpufreq/scaling_governor": "performance\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": "1000000\n",
        },
    )
    found = this_hardware(tmp_path / "not" / "yet", root)
    assert found.isa.value == "arm64-dotprod"
    assert found.features == {"NEON": True, "dot product": True, "I8MM": True, "SVE": False}
    assert (found.board, found.jetson) == ("NVIDIA Jetson AGX Orin", "# R36 (release), REVISION: 3.0")
    assert found.cpu == Unknown("/proc/cpuinfo has no model name")
    assert found.governor == "performance, schedutil"
    assert (found.cores, found.memory_bytes) == (0.5, 1000000)
    assert isinstance(found.machine_memory_bytes, int)
    assert found.machine_memory_bytes > 1000000
    assert found.disks[1].folder == str(tmp_path / "not" / "yet")
    assert isinstance(found.disks[1].free_bytes, int)


def test_hardware_without_proc_is_unknown_and_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(hardware, "memory_bytes", lambda: None)
    found = this_hardware(tmp_path, tmp_path)
    assert found.features == Unknown(f"{tmp_path}/proc/cpuinfo: No such file or directory")
    assert found.cpu == found.features
    assert found.memory_bytes == Unknown("the system does not tell")
    assert found.governor == Unknown("no cpufreq in /sys, as in most virtual machines")


def test_a_working_folder_that_was_removed_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert isinstance(this_hardware(tmp_path, tmp_path).disks[0].free_bytes, Unknown)
    monkeypatch.chdir(tmp_path)


def test_libraries_are_found_once_with_the_version_of_their_file(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root",
        {
            "usr/lib/x86_64-linux-gnu/libnvinfer.so.10.3.0": "",
            "usr/local/cuda-12.6/lib64/libcudart.so.12.6.77": "",
            "usr/lib64/libcudnn.so": "",
        },
    )
    (root / "usr/lib/x86_64-linux-gnu/libnvinfer.so.10").symlink_to("libnvinfer.so.10.3.0")
    (root / "usr/local/cuda").symlink_to("cuda-12.6")
    packages = tree(tmp_path / "site", {"tensorrt_rtx_libs/libtensorrt_rtx.so.1": ""})
    found = libraries_under(root, packages, search=f"{root}/usr/lib64::/nowhere")
    assert {library.name: library.version for library in found} == {
        "CUDA runtime": "12.6.77",
        "cuDNN": Unknown("the name libcudnn.so does not say"),
        "TensorRT": "10.3.0",
        "TensorRT-RTX": "1",
    }
    assert len(found) == 4
    assert found[0] == Library(
        "CUDA runtime", "12.6.77", f"{root}/usr/local/cuda-12.6/lib64/libcudart.so.12.6.77"
    )


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 'Cuda compilation tools, release 12.6, V12.6.77'", "12.6"),
        ("echo nonsense", Unknown("{nvcc} --version does not say")),
        (None, None),
    ],
)
def test_nvcc_version(tmp_path: Path, script: str | None, version: str | Unknown | None) -> None:
    nvcc = tmp_path / "usr/local/cuda/bin/nvcc"
    if script is not None:
        tree(tmp_path, {"usr/local/cuda/bin/nvcc": f"#!/bin/sh\n{script}\n"})
        nvcc.chmod(0o755)
    if isinstance(version, Unknown):
        version = Unknown(version.unknown.format(nvcc=nvcc))
    assert nvcc_version(tmp_path, path="") == version
