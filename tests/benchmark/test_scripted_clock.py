"""Known truths on a scripted clock: what the harness's own loop, pairing and interval find of them.

The machine is a script (a named fake): its clock drifts, two processes of the same file differ, single
inferences are late. Plan, order, loop and statistics are the real ones.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import interleave
from benchmark.interleave import measure
from benchmark.latency import repeat
from benchmark.memory import Residence
from benchmark.plan import FULL
from benchmark.protocol import Block, First, Memory, Occupied, Open, Opened, Prepare, Samples, Timed
from benchmark.quantities import Speedup
from benchmark.summary import paired_speedup
from edgepress.artifact import Device

BASELINE_NS = 60e6
REPETITIONS = 120
CONFIDENCE = 0.95 - 2 * math.sqrt(0.95 * 0.05 / REPETITIONS)  # less two standard errors of so many trials
NOTHING = Residence(None, None, None)


class ScriptedMachine:
    """A clock that only inferences move; slower and faster over minutes, with jitter and late inferences."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.now_ns = 0
        self.phase = self.random.uniform(0, 2 * math.pi)

    def infer(self, base_ns: float) -> None:
        drift = 1 + 0.08 * math.sin(self.now_ns / 20e9 + self.phase)
        jitter = 1 + abs(self.random.normal(0, 0.02)) + (self.random.random() < 0.02) * 0.5
        self.now_ns += round(base_ns * drift * jitter)


class ScriptedProcess:
    """In the place of `WorkerProcess`: the path of its artifact is the duration of an inference in ns."""

    machine: ScriptedMachine
    pid = -1

    def __init__(self, command: Sequence[str]) -> None:
        """Nothing is started."""

    def __enter__(self) -> "ScriptedProcess":
        self.base_ns = 0.0
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def pause(self) -> None:
        pass

    def running(self) -> "nullcontext[None]":
        return nullcontext()

    def ask(self, request: Any, reply: Any) -> Any:
        machine = self.machine
        if isinstance(request, Open):
            self.base_ns = float(request.path) * (
                1 + machine.random.normal(0, 0.005)
            )  # memory lies elsewhere
            return Opened(1, "scripted", NOTHING)
        if isinstance(request, Block):
            action, clock = (lambda: machine.infer(self.base_ns)), (lambda: machine.now_ns)
            repeat(action, request.settle, clock)
            return Samples(repeat(action, request.extent, clock))
        answers = {Prepare: Occupied(NOTHING, None), First: Timed(1), Memory: Occupied(NOTHING, None)}
        return answers[type(request)]


def measured(slowdown: float, seed: int, monkeypatch: pytest.MonkeyPatch) -> Speedup:
    """A version that takes (1 + slowdown) times as long as its baseline."""
    ScriptedProcess.machine = ScriptedMachine(seed)
    monkeypatch.setattr(interleave, "WorkerProcess", ScriptedProcess)
    monkeypatch.setattr(interleave, "cpu_ticks", lambda pid: None)
    subjects = [
        Open("scripted", Device.CPU, str(base_ns), 1)
        for base_ns in (BASELINE_NS * (1 + slowdown), BASELINE_NS)
    ]
    variant, baseline = measure(subjects, Path("unused"), FULL, seed)
    return paired_speedup(variant, baseline, "fp32", seed)


@pytest.mark.parametrize("slowdown", [0.05, 0.1, -0.05])
def test_a_planted_change_is_found_with_the_stated_confidence(
    slowdown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = 1 / (1 + slowdown)
    found = [measured(slowdown, seed, monkeypatch) for seed in range(REPETITIONS)]
    covered = sum(low <= truth <= high for low, high in (speedup.ci95 for speedup in found))
    assert covered / REPETITIONS >= CONFIDENCE
    told = sum((speedup.ci95[1] < 1) if slowdown > 0 else (speedup.ci95[0] > 1) for speedup in found)
    assert told == REPETITIONS
    assert np.mean([speedup.median for speedup in found]) == pytest.approx(truth, rel=0.003)


def test_no_change_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [measured(0, seed, monkeypatch) for seed in range(REPETITIONS)]
    alarms = sum(not speedup.ci95[0] <= 1 <= speedup.ci95[1] for speedup in found)
    assert alarms / REPETITIONS <= 1 - CONFIDENCE


def test_without_pairs_the_drift_would_hide_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pairing is for: medians of two runs at different times are off by more than what was planted."""

    def alone(base_ns: float, machine: ScriptedMachine) -> float:
        ScriptedProcess.machine = machine
        monkeypatch.setattr(interleave, "WorkerProcess", ScriptedProcess)
        monkeypatch.setattr(interleave, "cpu_ticks", lambda pid: None)
        (run,) = measure([Open("scripted", Device.CPU, str(base_ns), 1)], Path("unused"), FULL, 0)
        return float(np.median([ns for block in run.blocks_ns for ns in block]))

    ratios = []
    for seed in range(20):
        machine = ScriptedMachine(seed)
        ratios.append(alone(BASELINE_NS, machine) / alone(BASELINE_NS * 1.05, machine))
    assert max(abs(ratio * 1.05 - 1) for ratio in ratios) > 0.05
