"""Fit to be measured on: fake trees of /proc and /sys, and a fake GPU, stand in for machines."""

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import preflight
from benchmark.interference import CpuTicks
from benchmark.preflight import Finding, Fitness, findings
from edgepress.artifact import Device
from edgepress.doctor.backends import Backend
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_state import Clock, GpuState
from edgepress.doctor.trial import Cause, Outcome, Verdict

CPU = "sys/devices/system/cpu"
SERVER = {
    "proc/cpuinfo": "model name\t: A CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni\n",
    "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2100000\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n",
    f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "3400000\n",
    f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "3500000\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
    f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
}
BOARD = "sys/devices/platform/soc/soc:firmware/get_throttled"
IDLE_GPU = GpuState("A GPU", 0.0, Clock(210, 2100), Clock(405, 6001), 2**30, 0, True, False, ())
IDLE_GPU_TEXT = (
    "A GPU, busy: 0%, SM clock: 210 of 2100 MHz, memory clock: 405 of 6001 MHz, memory in use: 1024 MiB, "
    "processes: 0, persistence mode: on, MIG: off, slowed down by: nothing"
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two x86 cores, of which others take 3 %, and a CPU build of ONNX Runtime."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(preflight, "_LOOK_S", 0)
    says(monkeypatch, Outcome(Verdict.WORKS, "CPUExecutionProvider"))
    ticks(monkeypatch, CpuTicks(0, 0, 0), CpuTicks(100, 10, 7))


def says(monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> None:
    def tried(backends: Iterable[Backend], patience_s: float) -> list[tuple[Backend, Outcome]]:
        return [(backend, outcome) for backend in backends]

    monkeypatch.setattr(preflight, "try_backends", tried)


def ticks(monkeypatch: pytest.MonkeyPatch, *read: CpuTicks | None) -> None:
    readings = iter(read)
    monkeypatch.setattr(preflight, "cpu_ticks", lambda pid, proc: next(readings))


def looked_at(root: Path, files: dict[str, str], device: Device = Device.CPU) -> dict[str, Finding]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {finding.subject: finding for finding in findings(device, root)}


def test_a_machine_that_is_fit(tmp_path: Path) -> None:
    found = looked_at(tmp_path, SERVER)
    assert {name: finding.found for name, finding in found.items() if name != "runners"} == {
        "CPU": "A CPU, x86-64-vnni: AVX2, AVX-512, AVX512-VNNI",
        "cores": "2 of 2 can be used",
        "governor": "performance",
        "clock": "2100 to 3400 MHz now, 3500 MHz at most, with boost",
        "load": "other processes take 3% of the cores",
        "throttling": "7 times since the system started",
        "memory": "4096 of 8192 MiB available, 1 MiB swapped out",
        "ONNX Runtime's providers": "CPUExecutionProvider",
    }
    assert {(finding.fitness, finding.remedy) for finding in found.values()} == {(Fitness.FINE, None)}


def test_what_a_system_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that have neither /proc nor /sys."""
    ticks(monkeypatch, None, None)
    found = looked_at(tmp_path, {})
    unknown = {name for name, finding in found.items() if finding.fitness is Fitness.UNKNOWN}
    assert unknown == {"CPU", "governor", "clock", "load", "throttling", "memory"}
    assert found["CPU"].found.startswith("x86_64; its features are unknown (")
    assert found["governor"].found == "no cpufreq in /sys, as in most virtual machines"
    assert found["cores"].fitness is Fitness.FINE


@pytest.mark.parametrize(
    ("files", "subject", "text", "remedy"),
    [
        (
            {f"{CPU}/cpu1/cpufreq/scaling_governor": "schedutil"},
            "governor",
            "performance, schedutil: the frequency follows the load",
            "Fix the frequency: sudo cpupower frequency-set -g performance",
        ),
        (
            {"sys/fs/cgroup/cpu.max": "150000 100000"},
            "cores",
            "2 of 2 can be used; the container has a quota of 1.5 cores' time",
            "--cpuset-cpus",
        ),
        (
            {"proc/meminfo": "MemTotal: 2048000 kB\nMemAvailable: 102400 kB\n"},
            "memory",
            "100 of 2000 MiB available, 0 MiB swapped out",
            "swapped out are read from disk",
        ),
        (
            {BOARD: "50005\n"},
            "throttling",
            "the board is slowed down by too low a voltage, throttling",
            "power supply",
        ),
    ],
)
def test_a_doubt_says_what_to_do(
    tmp_path: Path, files: dict[str, str], subject: str, text: str, remedy: str
) -> None:
    found = looked_at(tmp_path, {**SERVER, **files})
    assert [name for name, finding in found.items() if finding.fitness is Fitness.DOUBT] == [subject]
    assert found[subject].found == text
    assert remedy in (found[subject].remedy or "")


def test_others_that_take_the_cores_are_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks(monkeypatch, CpuTicks(1000, 500, 100), CpuTicks(1100, 560, 107))
    found = looked_at(tmp_path, SERVER)["load"]
    assert (found.found, found.fitness) == ("other processes take 53% of the cores", Fitness.DOUBT)


def test_a_cpu_that_throttles_right_now_is_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / CPU / "cpu1/thermal_throttle/core_throttle_count"
    monkeypatch.setattr(time, "sleep", lambda s: counter.write_text("6"))
    found = looked_at(tmp_path, SERVER)["throttling"]
    assert (found.found, found.fitness) == ("9 times since the system started, also right now", Fitness.DOUBT)


def test_a_board_that_is_not_slowed_down_is_fine(tmp_path: Path) -> None:
    assert looked_at(tmp_path, {BOARD: "50000\n"})["throttling"] == Finding(
        "throttling", "none now", Fitness.FINE
    )


def test_a_runtime_that_cannot_be_imported_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = "ONNX Runtime's providers"
    says(monkeypatch, Outcome(Verdict.BROKEN, "its process was ended by SIGILL", Cause.CPU))
    assert looked_at(tmp_path, SERVER)[subject].fitness is Fitness.DOUBT
    ticks(monkeypatch, None, None)
    says(monkeypatch, Outcome(Verdict.ABSENT, "onnxruntime is not installed"))
    assert subject not in looked_at(tmp_path, SERVER)


@pytest.mark.parametrize(
    ("gpu", "fitness", "text"),
    [
        (IDLE_GPU, Fitness.FINE, IDLE_GPU_TEXT),
        (
            replace(IDLE_GPU, processes=1),
            Fitness.DOUBT,
            IDLE_GPU_TEXT.replace("processes: 0", "processes: 1"),
        ),
        (replace(IDLE_GPU, busy=0.37), Fitness.DOUBT, IDLE_GPU_TEXT.replace("busy: 0%", "busy: 37%")),
        (
            replace(IDLE_GPU, slowdowns=("power brake",)),
            Fitness.DOUBT,
            IDLE_GPU_TEXT.replace("nothing", "power brake"),
        ),
        (
            replace(IDLE_GPU, busy=Unknown("no"), processes=Unknown("no")),
            Fitness.UNKNOWN,
            IDLE_GPU_TEXT.replace("0%", "unknown").replace("processes: 0", "processes: unknown"),
        ),
    ],
)
def test_a_gpu_should_be_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: GpuState, fitness: Fitness, text: str
) -> None:
    monkeypatch.setattr(preflight, "gpu_states", lambda: (gpu,))
    found = looked_at(tmp_path, SERVER, Device.CUDA)
    assert (found["GPU 0"].found, found["GPU 0"].fitness) == (text, fitness)
    assert (found["GPU 0"].remedy is None) is (fitness is not Fitness.DOUBT)
    assert found["ONNX Runtime's providers"].remedy == "Install onnxruntime-gpu."


def test_a_driver_that_cannot_be_asked_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "gpu_states", lambda: Unknown("no driver"))
    found = looked_at(tmp_path, SERVER, Device.CUDA)["GPU"]
    assert found == Finding("GPU", "no driver", Fitness.UNKNOWN)


def test_the_providers_are_those_of_this_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(preflight, "_LOOK_S", 0)
    found = looked_at(tmp_path, {})
    assert "CPUExecutionProvider" in found["ONNX Runtime's providers"].found
    assert "onnxruntime" in found["runners"].found
