"""The doctor, on this machine and on fake packages that fail in every way there is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.cli.commands.doctor import page_of
from edgepress.doctor.diagnosis import Diagnosis
from edgepress.doctor.hardware import features_of, limit_of, quota_of, this_hardware
from edgepress.doctor.packages import Conflict, Package, conflicts_of, packages_of
from edgepress.doctor.trial import Backend, Trial, Verdict, try_backend
from edgepress.machine import isa_of

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

# As /proc/cpuinfo of real machines has them, cut to what matters.
SERVER = frozenset(["fpu", "sse4_2", "avx", "avx2", "f16c", "avx512f", "avx512bw", "avx512_vnni"])
ORIN = frozenset(["fp", "asimd", "evtstrm", "aes", "asimdhp", "cpuid", "asimdrdm", "lrcpc", "asimddp"])
RASPBERRY_PI_4 = frozenset(["fp", "asimd", "evtstrm", "crc32", "cpuid"])


@pytest.mark.parametrize(
    ("architecture", "flags", "present", "absent", "isa"),
    [
        ("x86_64", SERVER, {"AVX2", "AVX-512", "VNNI", "F16C"}, {"AMX-INT8"}, "x86-64-vnni"),
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


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", None), ("150000 100000\n", 1.5), (None, None), ("1 0", None)]
)
def test_quota_of_a_container(text: str | None, cores: float | None) -> None:
    assert quota_of(text) == cores


@pytest.mark.parametrize(("text", "size"), [("max\n", None), ("1048576\n", 1048576), (None, None)])
def test_limit_of_a_container(text: str | None, size: int | None) -> None:
    assert limit_of(text) == size


def test_packages_of_reads_ranges_and_extras() -> None:
    requirements = (
        "numpy<3,>=2.0",
        'onnxruntime<1.33,>=1.30; extra == "onnxruntime"',
        'edgepress[keras]; extra == "cpu"',
        'keras<3.16,>=3.12; extra == "keras"',
    )
    found = packages_of(requirements, {"numpy": "2.4.6", "onnxruntime": "1.19.2"})
    assert found == (
        Package("numpy", "", "<3,>=2.0", "2.4.6", fits=True),
        Package("onnxruntime", "onnxruntime", "<1.33,>=1.30", "1.19.2", fits=False),
        Package("keras", "keras", "<3.16,>=3.12", None, None),
    )


def test_conflicts_of_finds_distributions_installed_over_each_other() -> None:
    owners = {"onnxruntime": ["onnxruntime", "onnxruntime-gpu"], "keras": ["keras"], "numpy": ["numpy"]}
    repair = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"
    assert conflicts_of(owners) == (Conflict("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), repair),)
    assert conflicts_of({"onnxruntime": ["onnxruntime-gpu"]}) == ()


@pytest.mark.parametrize(
    ("content", "verdict", "finding"),
    [
        ("print('noise')\nVERSION = '1.0'", Verdict.WORKS, "1.0"),
        ("raise ImportError('libfake.so.1: cannot open')", Verdict.BROKEN, "ImportError: libfake.so.1"),
        ("import os; os.abort()", Verdict.BROKEN, "its process was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", Verdict.BROKEN, "ended by SIGILL"),
        ("import time; time.sleep(60)", Verdict.BROKEN, "gave no answer within 3 s"),
        ("", Verdict.BROKEN, "AttributeError"),
        (None, Verdict.ABSENT, "fakeruntime is not installed"),
    ],
)
def test_try_backend_on_a_fake_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    verdict: Verdict,
    finding: str,
) -> None:
    if content is not None:
        (tmp_path / "fakeruntime.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    backend = Backend(
        "Fake", "fakeruntime", "import fakeruntime as f\nprint(f.VERSION)", "pip install fakeruntime"
    )
    trial = try_backend(backend, None, patience_s=3)
    assert trial.verdict is verdict
    assert finding in trial.finding
    assert (trial.remedy is None) is (verdict is Verdict.WORKS)


def test_try_backend_does_not_try_what_needs_a_gpu_without_one() -> None:
    backend = Backend("Fake", "fakeruntime", "raise AssertionError", "", needs_gpu=True)
    trial = try_backend(backend, "libcuda.so.1 not found")
    assert trial == Trial("Fake", Verdict.NOT_HERE, "no NVIDIA GPU: libcuda.so.1 not found", None)


@pytest.fixture
def healthy() -> Diagnosis:
    works = Trial("ONNX Runtime on the CPU", Verdict.WORKS, "1.32.0", None)
    numpy = Package("numpy", "", "<3,>=2.0", "2.4.6", fits=True)
    return Diagnosis("0.1.0", "3.11.7", this_hardware(), (numpy,), (), (works,), "signed")


def test_page_says_every_fault_with_its_remedy(healthy: Diagnosis) -> None:
    assert list(page_of(healthy))[-1] == "No fault found."
    broken = Trial("LiteRT on the CPU", Verdict.BROKEN, "its process was ended by SIGILL", "reinstall it")
    old = Package("keras", "keras", ">=3.12", "3.0.0", fits=False)
    both = Conflict("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "pip uninstall …")
    ill = replace(healthy, trials=(broken,), packages=(old,), conflicts=(both,))
    lines = list(page_of(ill))
    assert lines[-3:] == [
        "Fault: LiteRT on the CPU: its process was ended by SIGILL",
        "Fault: onnxruntime and onnxruntime-gpu are installed over each other",
        "Fault: keras 3.0.0 is outside of >=3.12",
    ]
    assert "        reinstall it" in lines
    assert "        pip uninstall …" in lines


def test_doctor_finds_what_these_tests_themselves_use(cli: Cli) -> None:
    done = cli("doctor", "--json")
    value = json.loads(done.stdout)
    assert done.returncode == (1 if value["faults"] else 0)
    verdicts = {trial["name"]: trial["verdict"] for trial in value["trials"]}
    for name in ("Keras on TensorFlow (train, export)", "ONNX Runtime on the CPU", "LiteRT on the CPU"):
        assert verdicts[name] == "works", value["trials"]
    assert verdicts["TensorRT-RTX builder (no GPU needed)"] == "works"
    if value["hardware"]["gpu_absence"] is not None:
        assert verdicts["TensorRT"] == "not here"
    assert value["hardware"]["cores"] >= 1
    names = {package["name"]: package for package in value["packages"]}
    assert names["onnxruntime"]["fits"] is True
    assert os.uname().nodename not in done.stdout or os.uname().nodename in {"", "localhost"}


def test_doctor_is_importable_where_no_framework_is_installed() -> None:
    code = (
        "import sys; import edgepress.cli.commands.doctor\n"
        "assert not {'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
