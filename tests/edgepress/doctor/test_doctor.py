"""The command: on this machine, and on findings of every kind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepress.cli.commands.doctor import page_of
from edgepress.doctor.diagnosis import (
    FULL_JOB_BYTES,
    Diagnosis,
    Extra,
    Int8,
    Trial,
    extras_of,
    warnings_of,
)
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_environments import GpuEnvironment, State
from edgepress.doctor.hardware import Disk, Hardware
from edgepress.doctor.integrity import Conflict
from edgepress.doctor.nvidia_driver import Driver, Gpu
from edgepress.doctor.nvidia_libraries import Library
from edgepress.doctor.packages import Package, Pip
from edgepress.doctor.trial import Verdict
from edgepress.environments import SET_UP
from edgepress.isa import Isa
from optimize.recipe import recipe_named

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

NUMPY = Package("numpy", "", "<3,>=2.0", "2.4.6", fits=True)
JETSON = Hardware(
    system="Linux aarch64",
    board="NVIDIA Jetson AGX Orin",
    jetson="# R36",
    cpu=Unknown("/proc/cpuinfo has no model name"),
    isa=Isa.ARM64_DOT,
    features={"NEON": True, "dot product": True},
    governor="schedutil",
    cores=1.5,
    machine_cores=8,
    memory_bytes=2 * 10**9,
    machine_memory_bytes=32 * 10**9,
    disks=(Disk("working folder", "/data", 50 * 10**9), Disk("cache", "/cache", 9 * 10**9)),
    driver=Driver(Unknown("no NVML"), "12.6", (Gpu("Orin", "8.7", Unknown("error 999")),), None),
    libraries=(Library("TensorRT", "10.3.0", "/usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0"),),
    nvcc=None,
)


@pytest.fixture
def healthy() -> Diagnosis:
    return Diagnosis(
        edgepress="0.1.0",
        python="3.11.7",
        trials=(Trial("ONNX Runtime on the CPU", "onnxruntime", Verdict.WORKS, "1.32.0", None),),
        extras=(Extra("", complete=True, remedy=None),),
        packages=(NUMPY,),
        conflicts=(),
        environments=(
            GpuEnvironment("gpu-trt", ("tensorrt",), State.MISSING, ".venv-gpu-trt is not made", SET_UP),
        ),
        hardware=JETSON,
        int8=Int8("linux-arm64-dotprod", "onnx_static_wi8_ai8", "the dot product sums in 32 bits"),
        warnings=(),
    )


def test_page_of_a_healthy_machine(healthy: Diagnosis) -> None:
    lines = list(page_of(healthy))
    assert lines[-1] == "No fault found."
    facts = {line[6:33].strip(): line[33:] for line in lines if line.startswith("      ")}
    assert facts["CPU"] == "unknown (/proc/cpuinfo has no model name) (Linux aarch64)"
    assert facts["cores"] == "1.5 of the machine's 8"
    assert facts["memory"] == "2 GB of the machine's 32 GB"
    assert facts["NVIDIA driver"] == "unknown (no NVML), CUDA up to 12.6"
    assert facts["GPU"] == "Orin, compute capability 8.7, unknown (error 999)"
    assert facts["TensorRT"].startswith("10.3.0")
    assert facts["INT8"].startswith("onnx_static_wi8_ai8 for target linux-arm64-dotprod: ")
    assert facts["CUDA compiler"] == "none"
    (place,) = [i for i, line in enumerate(lines) if line.startswith("  --  gpu-trt ")]
    assert lines[place + 1] == f"      {SET_UP}"


def test_page_says_every_fault_with_its_remedy(healthy: Diagnosis) -> None:
    broken = Trial("LiteRT on the CPU", "litert", Verdict.BROKEN, "ended by SIGABRT", "pip install --force …")
    old = Package("keras", "keras", ">=3.12", "3.0.0", fits=False)
    both = Conflict("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), (), "pip uninstall …")
    extra = Extra("keras", complete=False, remedy="pip install 'keras>=3.12'")
    ill = replace(healthy, trials=(broken,), packages=(old,), extras=(extra,), conflicts=(both,))
    lines = list(page_of(ill))
    assert lines[-3:] == [
        "Fault: LiteRT on the CPU: ended by SIGABRT",
        "Fault: onnxruntime and onnxruntime-gpu are installed over each other",
        "Fault: keras 3.0.0 is outside of >=3.12",
    ]
    for remedy in (broken.remedy, both.repair, extra.remedy):
        assert lines.count(f"      {remedy}") == 1
    assert "  !!  keras                      keras 3.0.0 (wanted >=3.12)" in lines


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_page_fits_the_terminal_but_keeps_commands_whole(healthy: Diagnosis, columns: int) -> None:
    finding = "OSError: " + "libcublas.so.12 cannot be opened " * 5
    remedy = "pip install " + " ".join(["'tensorflow<2.22,>=2.20'"] * 6)
    lines = list(
        page_of(replace(healthy, trials=(Trial("Keras", "keras", Verdict.BROKEN, finding, remedy),)), columns)
    )
    backends = lines[2 : lines.index("Packages")]
    assert f"      {remedy}" in backends
    assert all(len(line) <= columns for line in backends if "pip install" not in line)


def test_extras_name_what_is_missing_or_outside_of_its_range() -> None:
    keras = Package("keras", "keras", ">=3.12", "3.15", fits=True)
    tensorflow = Package("tensorflow", "keras", ">=2.20", "2.1", fits=False)
    h5py = Package("h5py", "keras", ">=3.11", None, fits=None)
    pip = Pip("pip", {"tensorflow": ">=2.20", "h5py": ">=3.11"})
    assert extras_of((NUMPY, keras, tensorflow, h5py), pip) == (
        Extra("", complete=True, remedy=None),
        Extra("keras", complete=False, remedy="pip install 'tensorflow>=2.20' 'h5py>=3.11'"),
    )


def test_warnings_of_a_disk_that_is_too_small_for_a_full_job() -> None:
    assert warnings_of(JETSON, (NUMPY,)) == ("cache /cache: 9.0 GB free, a job with full VGG16 needs 10 GB",)
    enough = replace(
        JETSON, disks=(Disk("cache", "/cache", FULL_JOB_BYTES), Disk("x", "/x", Unknown("gone")))
    )
    assert warnings_of(enough, (NUMPY,)) == ()
    assert "edgepress runs without being installed" in warnings_of(enough, ())[0]


@pytest.fixture(scope="module")
def found_here(cli: Cli) -> tuple[int, Mapping[str, Any], str]:
    """One run on this machine: TensorFlow starts slowly."""
    done = cli("doctor", "--json")
    return done.returncode, json.loads(done.stdout), done.stdout


def test_doctor_finds_what_these_tests_themselves_use(
    found_here: tuple[int, Mapping[str, Any], str],
) -> None:
    code, value, text = found_here
    assert code == (1 if value["faults"] else 0)
    verdicts = {trial["name"]: trial["verdict"] for trial in value["trials"]}
    for name in ("NumPy", "Keras on TensorFlow", "ONNX conversion", "ONNX Runtime on the CPU", "Reports"):
        assert verdicts[name] == "works", value["trials"]
    for name in ("LiteRT on the CPU", "TFLite quantization", "TensorRT-RTX builder", "Pictures and digits"):
        assert verdicts[name] == "works", value["trials"]
    if value["hardware"]["driver"]["gpu_absence"] is not None:
        assert verdicts["TensorRT"] == "not here"
    assert value["hardware"]["cores"] > 0
    assert next(p for p in value["packages"] if p["name"] == "onnxruntime")["fits"] is True
    assert value["conflicts"] == []
    assert recipe_named(value["int8"]["recipe"]).isas is not None
    assert os.uname().nodename not in text or os.uname().nodename in {"", "localhost"}


def test_json_has_the_fields_that_programs_rely_on(
    found_here: tuple[int, Mapping[str, Any], str],
) -> None:
    value = found_here[1]
    assert set(value) == {
        *("edgepress", "python", "trials", "extras", "packages", "conflicts", "hardware", "int8"),
        *("environments", "warnings", "faults"),
    }
    assert set(value["trials"][0]) == {"name", "extra", "verdict", "finding", "remedy"}
    assert set(value["hardware"]) == {
        *("system", "board", "jetson", "cpu", "isa", "features", "governor", "cores", "machine_cores"),
        *("memory_bytes", "machine_memory_bytes", "disks", "driver", "libraries", "nvcc"),
    }
    assert set(value["hardware"]["driver"]) == {"version", "cuda", "gpus", "gpu_absence"}


def test_every_extra_is_tried(found_here: tuple[int, Mapping[str, Any], str]) -> None:
    value = found_here[1]
    tried = {trial["extra"] for trial in value["trials"]}
    extras = {extra["name"] for extra in value["extras"]}
    assert extras - {"docs", "dev"} <= tried
    own = {each["name"] for each in value["environments"]}
    assert own == {name for name in tried if name.startswith("gpu-")}
    assert not extras & own, "they are not installed here"


def test_doctor_runs_where_numpy_is_broken_and_the_terminal_knows_only_ascii(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise ImportError('libopenblas.so: cannot open')")
    root = str(Path(__file__).resolve().parents[3])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tmp_path), root)),
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
    }
    command = [sys.executable, "-m", "edgepress.cli", "doctor", "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    (numpy,) = [i for i, line in enumerate(lines) if line.startswith("  !!  NumPy")]
    assert "ImportError: libopenblas.so: cannot open" in lines[numpy]
    assert "install --force-reinstall --no-deps 'numpy<3,>=2.0'" in lines[numpy + 1]
    assert "      mend NumPy first, then run the doctor again" in lines
    assert any(line.startswith("Fault: NumPy: ImportError") for line in lines)
